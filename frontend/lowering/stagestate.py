"""A stage at one of its lines: its tree, config, variables and names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.steps import undefined_variable
from pybuild.frontend.lowering.imageconfig import ImageConfig
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.lowering.names import StepNames, upper_keyword
from pybuild.frontend.lowering.paths import from_windows
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import NOT_EXPORTED, Environment
from pybuild.frontend.words.expand import expand, expand_heredoc, expand_words
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.ops import LocalSource, ScratchSource, Vertex, VertexMeta
from pybuild.model.platform import Platform
from pybuild.model.secrets import is_secret_name, redacted, secret_values
from pybuild.model.volumes import is_volume

if TYPE_CHECKING:
    from pybuild.frontend.lowering.notes import StepNotes

_TABS = re.compile(r"^\t+", re.MULTILINE)

SCRATCH = Vertex(ScratchSource())

# Characters of history and variables that one definition may hold in all. Real files stay below a
# hundredth of that; with fewer, a short one that doubles variables or lists ports could fill memory.
MAX_TEXT = 32 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class BuildScope:
    """The values that all stages of one lowering share.

    Attributes:
        globals: the variables of FROM lines [EV-1].
        escape: of the directive.
        notes: the comments about steps, where there are any, and the ages of an option.
        has_titles: whether steps get names for progress; without them lowering takes a quarter less.
        spent: the count towards `MAX_TEXT`.
    """

    options: LowerOptions
    globals: Environment
    escape: str
    epoch: int | None
    proxy_env: tuple[str, ...]
    report: Report
    notes: StepNotes | None = None
    has_titles: bool = True
    spent: int = 0
    _locals: dict[str, Vertex] = field(default_factory=dict[str, Vertex])

    def spend(self, amount: int) -> None:
        """Count characters, or anything else that takes memory and time, towards the limit.

        Raises:
            UserError: it is reached.
        """
        self.spent += amount
        if self.spent > MAX_TEXT:
            raise UserError(
                f"variables and history of this build are longer than {MAX_TEXT} characters"
            )

    def local(self, name: str) -> Vertex:
        """Return the one vertex of a local source, or of the context that is none."""
        if name == "context" and self.options.context is not None:
            return self.options.context
        if name not in self._locals:
            if (
                name == "context" and self.options.policies
            ):  # others are judged where they are named
                from pybuild.frontend.lowering.policies import ruled_local

                ruled_local(self.options.policies, name)
            title = "[internal] load build context"
            if is_volume(name):
                title = f"[{name.replace('=', ' ')}] read"
            elif name != "context":
                title = f"[context {name}] load from client"
            op = LocalSource(name=name, exclude=tuple(self.options.local_excludes.get(name, ())))
            self._locals[name] = Vertex(op, meta=VertexMeta(name=title))
        return self._locals[name]


@dataclass(slots=True, kw_only=True)
class StageState:
    """A stage while its instructions are applied.

    Attributes:
        vertex: the tree so far.
        env: the variables of steps and expansion: config ENV and ARGs [EXP-18].
        max_age_s: for so long stored results of its steps may be used.
        args: declared ARGs and their values, in order, repeats included; for RUN's history.
        declared: their names.
        has_cmd, has_entrypoint, has_healthcheck: where this stage set them, if it did; not
            inherited [EP-1].
        has_workdir: a WORKDIR of this file is in force.
        base_known: the base image's variables are in *env*; false only in checks.
    """

    scope: BuildScope
    vertex: Vertex
    image: ImageConfig
    platform: Platform
    names: StepNames
    label: str
    ignore_cache: bool = False
    max_age_s: float | None = None
    env: Environment = field(default_factory=Environment)
    args: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    declared: set[str] = field(default_factory=set[str])
    cmd_at: ast.Instruction | None = None
    entrypoint_at: ast.Instruction | None = None
    healthcheck_at: ast.Instruction | None = None
    has_workdir: bool = False
    base_known: bool = True

    @property
    def cwd(self) -> str:
        return self.path(self.image.workdir or "/")

    @property
    def is_windows(self) -> bool:
        return self.platform.os == "windows"

    def path(self, text: str) -> str:
        """Return a path of the stage's tree, as its platform writes it, with slashes [WD-1].

        Raises:
            UserError: it is on a drive that images do not have.
        """
        return from_windows(text) if self.is_windows else text

    def expander(self, at: ast.Instruction) -> Callable[[str], str]:
        """Return a function that expands a word as it stands at this line."""
        return lambda word: expand(
            word, self.env, escape=self.scope.escape, on_unset=self._undefined(at)
        )

    def split_expand(self, word: str) -> list[str]:
        """Expand *word*; unquoted values split at white space [EXP-17].

        What is not defined is not reported here, as by the peer.
        """
        return expand_words(word, self.env, escape=self.scope.escape)

    def document(self, heredoc: ast.Heredoc, at: ast.Instruction) -> bytes:
        """Return the bytes of a COPY or ADD here-document [HD-3, HD-6]."""
        text = chomped(heredoc)
        if heredoc.expand:
            text = expand_heredoc(text, self.env, on_unset=self._undefined(at))
        return text.encode("utf-8", "surrogateescape")

    def meta(self, name: str, at: ast.Instruction, *, ignorable: bool = True) -> VertexMeta:
        self.scope.spend(len(name))
        return VertexMeta(
            name=name,
            spans=(at.span,),
            ignore_cache=ignorable and self.ignore_cache,
            max_age_s=self._max_age_s(at) if ignorable else None,
            stage=self.label,
            secrets=secret_values(self.env) if self.scope.has_titles else (),
        )

    def _max_age_s(self, at: ast.Instruction) -> float | None:
        notes = self.scope.notes
        above = None if notes is None else notes.age_above(at)
        return self.max_age_s if above is None else above

    def commit(self, created_by: str, vertex: Vertex | None = None) -> None:
        """Add a history entry; *vertex* makes its layer."""
        self.scope.spend(len(created_by))
        self.image.commit(created_by, vertex)

    def title(
        self, text: str, *, keep: bool = False, masks: Mapping[str, str] | None = None
    ) -> str:
        """Return an instruction's text as progress shows it, variables filled in [UI-1].

        Titles are logged, kept and carried with caches: values that look secret stay out of them.

        Args:
            keep: quotes stay, and so do variables without a value, as in a shell's command.
            masks: texts to show in the place of secret values.
        """
        if not self.scope.has_titles:
            return text
        secret = {
            name: "****" for name, value in self.env.items() if value and is_secret_name(name)
        }
        env: Mapping[str, str] = {**self.env, **secret, **(masks or {})}
        try:
            if keep:
                text = expand(
                    text, env, escape=self.scope.escape, keep_quotes=True, keep_unset=True
                )
            else:
                text = expand(text, env, escape=self.scope.escape)
        except UserError:
            pass  # a name is not worth failing for
        for value in secret_values(self.env):  # by way of another variable, or as it is
            text = text.replace(value, "****")
        return upper_keyword(redacted(text))

    def _undefined(self, at: ast.Instruction) -> Callable[[str], None]:
        def report(name: str) -> None:
            if not self.base_known or name in NOT_EXPORTED:
                return
            if name in self.declared:
                return
            undefined_variable(at, name, self.env, self.scope.report)

        return report


def chomped(heredoc: ast.Heredoc) -> str:
    """Return the body without leading tabs where ``<<-`` asks for that."""
    return _TABS.sub("", heredoc.content) if heredoc.chomp else heredoc.content
