"""Tickets and outcomes: what a worker is told of a step, and what it says of it.

A ticket holds no secret: ids of secrets are in its op, and the worker asks for their values when the step
wants them. Nor does it hold bytes of files: inputs are stacks of deltas by their names, with the stores
that have them.
"""

from __future__ import annotations

from enum import StrEnum

from pybuild.executor.fetch import LayerGone
from pybuild.model.contents import MissingSource
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import (
    EnvironmentFault,
    InternalError,
    PybuildError,
    StepError,
    UserError,
)
from pybuild.model.events import (
    BuildWarning,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexMount,
    VertexProgress,
    VertexStarted,
    VertexUsage,
)
from pybuild.model.ops import ExecOp, FileOp, ScratchSource, Vertex, VertexMeta
from pybuild.model.ops import PassOp as _Stand

FORMAT = 6
"""The format of tickets, and of all else between coordinator and worker; both sides need the same."""
_MOST_TEXT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaPlaces:
    """A delta that a step needs, and the addresses of workers that have it; the coordinator can get it."""

    name: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One step for a worker.

    Attributes:
        run: the run's key: equal steps have equal ones, whoever's they are.
        claimed: the step begins when a claim for it comes, rather than at once.
        inputs: for each input of the op its deltas, base first.
        scratch: the numbers of inputs that are the empty tree by definition.
        deltas: all that *inputs* name.
        name, stage, ignore_cache: as `model.ops.VertexMeta` has them.
    """

    run: str
    op: ExecOp | FileOp
    inputs: tuple[tuple[str, ...], ...]
    scratch: tuple[int, ...] = ()
    deltas: tuple[DeltaPlaces, ...] = ()
    name: str = ""
    stage: str = ""
    ignore_cache: bool = False
    claimed: bool = False
    format: int = FORMAT

    def vertex(self) -> Vertex:
        """Return the step as a vertex; what stands for its inputs says only which are empty."""
        inputs = tuple(
            Vertex(ScratchSource() if number in self.scratch else _Stand(id=str(number)))
            for number in range(len(self.inputs))
        )
        meta = VertexMeta(name=self.name, stage=self.stage, ignore_cache=self.ignore_cache)
        return Vertex(self.op, inputs, meta)


class StepFaultKind(StrEnum):
    """The kinds of errors that a worker tells apart."""

    STEP = "step"
    USER = "user"
    MISSING = "missing"
    ENVIRONMENT = "environment"
    GONE = "gone"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFault:
    """An error as data (`model.errors`).

    Attributes:
        status, log_tail: of a step that failed.
        delta: whose layer is gone.
        path, in_context: of a source that is missing.
    """

    kind: StepFaultKind
    message: str
    hints: tuple[str, ...] = ()
    peer: str = ""
    status: int = 0
    log_tail: tuple[str, ...] = ()
    delta: str = ""
    path: str = ""

    @classmethod
    def of(cls, error: BaseException) -> StepFault:
        """Return *error* as data; what is none of ours is our bug."""
        if not isinstance(error, PybuildError):
            return cls(kind=StepFaultKind.INTERNAL, message=f"{type(error).__name__}: {error}")
        message, hints, peer = error.message[:_MOST_TEXT], error.hints, error.peer
        match error:
            case StepError():
                return cls(
                    kind=StepFaultKind.STEP,
                    message=message,
                    hints=hints,
                    peer=peer,
                    status=error.status,
                    log_tail=error.log_tail,
                )
            case MissingSource():
                return cls(
                    kind=StepFaultKind.MISSING,
                    message=message,
                    hints=hints,
                    peer=peer,
                    path=error.path,
                )
            case LayerGone():
                return cls(kind=StepFaultKind.GONE, message=message, delta=error.delta)
            case UserError():
                kind = StepFaultKind.USER
            case EnvironmentFault():
                kind = StepFaultKind.ENVIRONMENT
            case _:
                kind = StepFaultKind.INTERNAL
        return cls(kind=kind, message=message, hints=hints, peer=peer)

    @property
    def is_of_machine(self) -> bool:
        """Return whether another machine may do better."""
        return self.kind in (StepFaultKind.ENVIRONMENT, StepFaultKind.INTERNAL)

    def error(self, step: str) -> PybuildError:
        """Return the error of *step*, to be raised here."""
        match self.kind:
            case StepFaultKind.STEP:
                return StepError(
                    self.message,
                    status=self.status,
                    log_tail=self.log_tail,
                    step=step,
                    hints=self.hints,
                    peer=self.peer,
                )
            case StepFaultKind.MISSING:
                missing = MissingSource("", self.path, self.hints)
                return missing.copy_with(message=self.message, peer=self.peer)
            case StepFaultKind.GONE:
                return LayerGone(self.delta, self.message)
            case StepFaultKind.USER:
                return UserError(self.message, hints=self.hints, peer=self.peer)
            case StepFaultKind.ENVIRONMENT:
                return EnvironmentFault(self.message, hints=self.hints, peer=self.peer)
            case StepFaultKind.INTERNAL:
                return InternalError(self.message, hints=self.hints)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """The end of a step: the tree that it left, or a fault.

    Attributes:
        deltas: base first; those of the input that the step changed, and new ones.
        created: when the new ones were made, in seconds since the epoch.
        size: bytes of the topmost.
        memory_bytes: the most that the step's processes used.
        seconds: its own work: no wait for a slot, and no tree that had to come; 0: unknown.
    """

    deltas: tuple[str, ...] = ()
    created: float = 0.0
    size: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    fault: StepFault | None = None


Happening = (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message of a worker about a run: one event, the end, or how far it is.

    Attributes:
        own: the event is about the step itself, whose digest there is another one.
        epoch: the highest that a claim of the run had, or that it was begun with.
    """

    event: Happening | None = None
    own: bool = False
    epoch: int | None = None
    begun: bool = False
    outcome: StepOutcome | None = None
