"""Collects what the checks find."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pybuild.frontend.lint.options import CheckOptions, Rule
from pybuild.frontend.syntax import ast
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span
from pybuild.model.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.model.advice import Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that fired.

    Attributes:
        spans: the lines to show.
        at: the instruction, and the values that the message was made of, for those who mend it.
    """

    rule: Rule
    message: str
    spans: tuple[Span, ...]
    at: ast.Instruction
    values: tuple[str, ...]

    def warning(self) -> BuildWarning:
        return BuildWarning(
            message=self.message,
            rule=self.rule.name,
            url=self.rule.url,
            spans=self.spans,
            detail=(self.rule.description,),
        )


# How many names are compared with a misspelt one in all; a file that needs more has no typing errors.
_MAX_GUESSES = 50_000


class Report:
    """The findings of one lowering, in the order they were made; the same is said once only."""

    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self._findings: dict[tuple[str, str, tuple[Span, ...]], Finding] = {}
        self._notes: list[str] = []
        self._advice: list[BuildWarning] = []
        self._guesses = _MAX_GUESSES

    def add(
        self,
        rule: Rule,
        *values: str,
        at: ast.Instruction,
        spans: Sequence[Span] = (),
        skippable: bool = True,
    ) -> None:
        """Note that *rule* fires, unless it is skipped.

        Args:
            values: for the rule's message.
            at: the instruction that it is about.
            spans: the lines to show, where they are not those of *at*.
            skippable: whether comments above *at* count [DIR-8]; for rules that compare
                instructions with each other they do not.
        """
        options = self._options
        if skippable and at.comments:
            local = CheckOptions.of_comments(at.comments)
            options = options.merged(local) if local else options
        if options.allows(rule):
            lines = tuple(spans) or (at.span,)
            message = rule.message(*values)
            finding = Finding(rule=rule, message=message, spans=lines, at=at, values=values)
            self._findings.setdefault((rule.name, message, lines), finding)

    def advise(self, advice: Advice, *values: str, at: ast.Instruction) -> None:
        """Note a piece of advice about *at*, unless its name is skipped."""
        local = CheckOptions.of_comments(at.comments)
        if all(one.allows_name(advice.name) for one in (self._options, local) if one):
            warning = advice.warning(*values, spans=(at.span,))
            if warning not in self._advice:
                self._advice.append(warning)

    def guess(self, name: str, known: Collection[str]) -> str | None:
        """Return the name of *known* that *name* is perhaps a misspelling of."""
        self._guesses -= len(known)
        return nearest(name, known) if self._guesses >= 0 else None

    def note(self, message: str) -> None:
        """Add a warning that is no build check."""
        if message not in self._notes:
            self._notes.append(message)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """By line; on one line in the order they were made."""
        return tuple(sorted(self._findings.values(), key=lambda item: item.spans[0].first_line))

    @property
    def warnings(self) -> tuple[BuildWarning, ...]:
        """The findings, then the other warnings."""
        warnings = [finding.warning() for finding in self.findings]
        return (*warnings, *(BuildWarning(message=note) for note in self._notes))

    @property
    def advice(self) -> tuple[BuildWarning, ...]:
        """The pieces of advice, in the order of their lines."""
        return tuple(sorted(self._advice, key=lambda one: one.spans[0].first_line))

    def finish(self) -> None:
        """Fail where the file asks for it.

        Raises:
            UserError: ``error=true`` and something was found.
        """
        if self._options.error and self._findings:
            names = sorted({finding.rule.name for finding in self.findings})
            raise UserError(
                "lint violation found for rules: " + ", ".join(names),
                spans=tuple(
                    dict.fromkeys(span for finding in self.findings for span in finding.spans)
                ),
            )
