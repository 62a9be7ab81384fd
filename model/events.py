"""The one typed stream that everything a person or a client sees is made from.

Times are seconds since the epoch, from the engine's clock. A vertex is named by its digest; its
name, stage and inputs come once, with `BuildStarted` or `VertexAdded`.
"""

from __future__ import annotations

from _contextvars import ContextVar  # the C part, as in all that commands load
from collections.abc import Callable
from dataclasses import field
from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexAdded:
    """A vertex is part of the build; said once, before anything else about it."""

    vertex: Digest
    name: str
    inputs: tuple[Digest, ...] = ()
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexStarted:
    vertex: Digest
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexCached:
    """A stored result was found; nothing ran."""

    vertex: Digest
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexCompleted:
    vertex: Digest
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexFailed:
    """*error* is the message; ``cancelled`` marks victims of another vertex's failure or Ctrl-C.

    Attributes:
        peer: BuildKit's wording of the message (`errors.PybuildError`).
    """

    vertex: Digest
    time: float
    error: str
    cancelled: bool = False
    peer: str = ""


class LogStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexLog:
    """A piece of what a step wrote, verbatim; pieces end anywhere, also inside a character."""

    vertex: Digest
    time: float
    stream: LogStream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexProgress:
    """The progress of one transfer or export inside a vertex; *total* is 0 when not known.

    Without a *unit* nothing is counted: the vertex waits for something.
    """

    vertex: Digest
    id: str
    current: int
    total: int = 0
    done: bool = False
    unit: str = "bytes"
    time: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexUsage:
    """The processor time and memory that the processes of a step took, once they have ended.

    Attributes:
        cpu_seconds: of all processors, in programs and in the kernel, as far as the step's first process waited for its children.
        peak_memory_bytes: the most that they had together; of the largest one where no cgroup counts it.
    """

    vertex: Digest
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexMount:
    """A cache mount of a step, by its id, and the place that its first content is from, for people."""

    vertex: Digest
    id: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWarning:
    """Something worth mending that does not stop the build.

    Attributes:
        rule: the build check or the advice that it is, if one.
        at_once: worth knowing while the build goes on.
    """

    message: str
    rule: str = ""
    url: str = ""
    spans: tuple[Span, ...] = ()
    detail: tuple[str, ...] = field(default=())
    at_once: bool = False


Event = (
    VertexAdded
    | VertexStarted
    | VertexCached
    | VertexCompleted
    | VertexFailed
    | VertexLog
    | VertexProgress
    | VertexUsage
    | VertexMount
    | BuildWarning
)

Emit = Callable[[Event], None]

PULLING = "pulling its inputs"
"""The id of the progress of a step (without a unit) that waits for trees from elsewhere."""


class RunTimes:
    """The seconds of one run that are not its own work. A context: trees come that it waits for.

    Args:
        now: a clock.
        tell: is called with True when trees begin to come, with False when they are here.

    Attributes:
        pulled_s: for trees that were elsewhere.
        ran_s: for its own work, where whoever did it has said so.
    """

    def __init__(
        self,
        now: Callable[[], float] = lambda: 0.0,
        tell: Callable[[bool], None] = lambda is_pulling: None,
    ) -> None:
        self.pulled_s = 0.0
        self.ran_s: float | None = None
        self._now = now
        self._tell = tell
        self._pulls = 0
        self._since = 0.0

    def __enter__(self) -> None:
        if not self._pulls:
            self._since = self._now()
            self._tell(True)
        self._pulls += 1

    def __exit__(self, *error: object) -> None:
        self._pulls -= 1
        if not self._pulls:  # those at the same time count once
            self.pulled_s += self._now() - self._since
            self._tell(False)

    def own_s(self, seconds: float) -> float:
        """Return those of a run's *seconds* that were its own work's."""
        return max(0.0, seconds - self.pulled_s) if self.ran_s is None else self.ran_s


RUN_TIMES: ContextVar[RunTimes | None] = ContextVar("RUN_TIMES", default=None)
"""The times of the run that a task does, or helps to do."""


def pulling() -> RunTimes:
    """Return a context in which trees come that the task's run waits for."""
    return RUN_TIMES.get() or RunTimes()
