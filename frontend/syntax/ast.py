"""The parsed Dockerfile: instructions with spans; nothing expanded, nothing resolved.

Every instruction of the language has its class here. Texts are raw: quotes, escapes and variables
stand as written, because expansion needs the environment at that line [EXP-18].
"""

from __future__ import annotations

from dataclasses import field

from pybuild.frontend.syntax.physical import Excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """One here-document [HD].

    Attributes:
        name: the delimiter without quotes; the file name in COPY and ADD.
        expand: false when the delimiter was quoted.
        chomp: ``<<-``: leading tabs go.
        content: the raw body, line ends included, delimiter line not.
        fd: the file descriptor text in front of ``<<``, mostly empty.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    fd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """``--name=value``; a bare flag has value None; quotes and escapes are already gone [FLG-2]."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """The attributes that all instructions have.

    Attributes:
        keyword: as written, for casing checks.
        original: the whole logical line as written, for history, progress and messages.
        comments: the comment block directly above, without ``#``, oldest line first [LEX-8].
        flags: in order, already checked for name, form and repetition [FLG].
    """

    span: Span
    keyword: str
    original: str
    comments: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()

    def flag(self, name: str) -> str | None:
        """The value of a string flag, or None when it is not given."""
        for flag in self.flags:
            if flag.name == name:
                return flag.value
        return None

    def flag_list(self, name: str) -> tuple[str, ...]:
        """All values of a repeatable flag."""
        return tuple(flag.value or "" for flag in self.flags if flag.name == name)

    def flag_bool(self, name: str) -> bool | None:
        """A boolean flag: bare is true; None when it is not given."""
        for flag in self.flags:
            if flag.name == name:
                return flag.value is None or flag.value.lower() == "true"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command in shell form (``args`` has the one text) or exec form [FRM]."""

    args: tuple[str, ...]
    is_shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """``platform`` and ``base`` are unexpanded; ``name`` is lower-cased [FROM-2] or empty."""

    base: str
    platform: str = ""
    name: str = ""
    name_as_written: str = ""
    as_keyword: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgItem:
    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    items: tuple[ArgItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: tuple[KeyValue, ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    pairs: tuple[KeyValue, ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """The attributes that COPY and ADD share. A heredoc source is written as a `Heredoc` among *sources*."""

    sources: tuple[str | Heredoc, ...]
    dest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """``test`` is None for ``HEALTHCHECK NONE``; durations in ns, 0 when not given [HC-1]."""

    test: Command | None
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """*text* is the raw rest with heredoc bodies, as config stores it; *trigger* its parse [OB-1]."""

    text: str
    trigger: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A FROM and what follows it."""

    start: From
    body: tuple[Instruction, ...]
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """Parser directives [DIR]; *check* is the raw value."""

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseWarning:
    """A build check that fires while parsing, such as NoEmptyContinuation.

    Attributes:
        span: the lines it is about.
        first_line: where the instruction starts.
    """

    rule: str
    message: str
    span: Span
    first_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """The whole file.

    Attributes:
        global_args: the ARGs before the first FROM.
        lines: the physical lines without line ends, for error excerpts.
    """

    filename: str
    directives: Directives
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    lines: Excerpts = field(repr=False)
    warnings: tuple[ParseWarning, ...] = ()
