"""The one typed stream that everything a person or a client sees is made from.

Times are seconds since the epoch, from the engine's clock. A vertex is named by its digest; its
name, stage and inputs come once, with `BuildStarted` or `VertexAdded`.
"""

from __future__ import annotations

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
