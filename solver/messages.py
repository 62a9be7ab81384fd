"""Events and instructions: the input and the output of the state machine.

An instruction that wants an answer carries a ticket; the answering event gives it back. Answers to
tickets that were cancelled meanwhile are ignored, so the driver needs no care about races.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.named import NamedInputs
from pybuild.model.ops import Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Result, Snapshot
from pybuild.solver.runner import Record
from pybuild.solver.solution import Solved

# --- events: what happened ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobAdded:
    """A build asks for these vertices; *job* is a name never used before."""

    job: str
    targets: tuple[Vertex, ...]


@dataclass(frozen=True, slots=True)
class JobCancelled:
    job: str


@dataclass(frozen=True, slots=True)
class Identified:
    """Answers `Identify`; None: the source has no identity."""

    ticket: int
    identity: Digest | None


@dataclass(frozen=True, slots=True)
class Probed:
    """Answers `Probe`; None: nothing is stored, or it is gone or broken."""

    ticket: int
    record: Record | None


@dataclass(frozen=True, slots=True)
class Digested:
    """Answers `DigestContent`."""

    ticket: int
    content: ContentDigest


@dataclass(frozen=True, slots=True)
class Began:
    """A `Run` was given its share of the machine; until then it was waiting in line."""

    ticket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Answers `Run`. *contents* is what was read of inputs, if that may not be what was digested."""

    ticket: int
    result: Result
    seconds: float = 0.0
    created: float = 0.0
    contents: Contents = field(
        hash=False, default_factory=dict[int, Mapping[Selection, ContentDigest]]
    )


@dataclass(frozen=True, slots=True)
class MadeByAnother:
    """Answers `Run`: nothing ran, as another process on the store made *record* meanwhile."""

    ticket: int
    record: Record


@dataclass(frozen=True, slots=True)
class Failed:
    """Answers `Identify`, `DigestContent` or `Run`. (A probe that fails is a miss.)"""

    ticket: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class InputGone:
    """Answers `DigestContent` or `Run`: a delta of the inputs can be had no more.

    The store offers no result with it any more. *error* is what fails the job if nothing can make
    it again.
    """

    ticket: int
    delta: str
    error: BaseException


Event = (
    JobAdded
    | JobCancelled
    | Identified
    | Probed
    | Digested
    | Began
    | Ran
    | MadeByAnother
    | Failed
    | InputGone
)


# --- instructions: what to do ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identify:
    """Ask the runner of *job* what this source stands for."""

    ticket: int
    vertex: Vertex
    job: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Look up a record; where *alias*, first what the definition key *key* is an alias of."""

    ticket: int
    vertex: Vertex
    key: Digest
    alias: bool = False


@dataclass(frozen=True, slots=True)
class DigestContent:
    """Digest what *vertex* reads of its input number *index*."""

    ticket: int
    vertex: Vertex
    index: int
    result: Result
    selection: Selection
    job: str


@dataclass(frozen=True, slots=True)
class Run:
    """Do the vertex's op; say `Began` once it has its share of the machine.

    *key* is what no result was found under, *named_inputs* what it was made of. *fresh*: none was
    looked for.
    """

    ticket: int
    vertex: Vertex
    inputs: tuple[Result, ...]
    job: str
    key: Digest | None = None
    named_inputs: NamedInputs = field(default_factory=NamedInputs, compare=False)
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Store a result under its key. To be done before later probes of this key."""

    key: Digest
    snapshot: Snapshot
    named_inputs: NamedInputs = field(compare=False)
    seconds: float
    created: float
    name: str


@dataclass(frozen=True, slots=True)
class SaveAlias:
    """Remember that the definition key *key* now means the content key *target*."""

    key: Digest
    target: Digest


@dataclass(frozen=True, slots=True)
class SaveSeconds:
    vertex: Digest
    seconds: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """The answer to this ticket is needed no more."""

    ticket: int


class Phase(StrEnum):
    ADDED = "added"
    STARTED = "started"
    CACHED = "cached"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Tell:
    """Emit a progress event to one job.

    *error* and *peer* go with FAILED (`model.events`); ``cancelled`` marks victims.
    """

    job: str
    vertex: Vertex
    phase: Phase
    error: str = ""
    cancelled: bool = False
    peer: str = ""


@dataclass(frozen=True, slots=True)
class JobDone:
    """All targets have results; *solved* has every vertex that a result is known of.

    *keys* has what every vertex is stored under, also those that were not looked up.
    """

    job: str
    solved: Mapping[Digest, Solved] = field(hash=False)
    keys: Mapping[Digest, Digest] = field(hash=False, default_factory=dict[Digest, Digest])


@dataclass(frozen=True, slots=True)
class JobFailed:
    """*error* is the first failure, of *vertex*; what else the job had going is cancelled.

    *solved* and *keys* are as in `JobDone`: what had been made by then.
    """

    job: str
    vertex: Vertex
    error: BaseException
    solved: Mapping[Digest, Solved] = field(hash=False, default_factory=dict[Digest, Solved])
    keys: Mapping[Digest, Digest] = field(hash=False, default_factory=dict[Digest, Digest])


Instruction = (
    Identify
    | Probe
    | DigestContent
    | Run
    | Save
    | SaveAlias
    | SaveSeconds
    | Cancel
    | Tell
    | JobDone
    | JobFailed
)
