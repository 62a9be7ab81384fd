"""Small definitions to solve, and a desk that carries out instructions at once, in any order."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.model.digest import Digest
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    ImageSource,
    LocalSource,
    MergeOp,
    Mount,
    Op,
    ScratchSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Snapshot
from pybuild.solver.messages import (
    Began,
    Cancel,
    DigestContent,
    Digested,
    Event,
    Failed,
    Identified,
    Identify,
    InputGone,
    Instruction,
    JobAdded,
    JobCancelled,
    JobDone,
    JobFailed,
    Phase,
    Probe,
    Probed,
    Ran,
    Run,
    Save,
    SaveAlias,
    SaveSeconds,
    Tell,
)
from pybuild.solver.runner import Record
from pybuild.solver.solution import Solution
from pybuild.solver.state import State
from tests.solver.fakes import FakeRunner, MemoryRecords
from tests.solver.invariants import validate

AMD64 = Platform.parse("linux/amd64")


def vertex(name: str, op: Op, *inputs: Vertex, no_cache: bool = False) -> Vertex:
    return Vertex(op, inputs, VertexMeta(name=name, ignore_cache=no_cache))


def image(name: str = "base") -> Vertex:
    op = ImageSource(
        digest=Digest.of(name.encode()), reference=Reference.parse("base"), platform=AMD64
    )
    return vertex(name, op)


def local(name: str = "context", label: str = "local") -> Vertex:
    return vertex(label, LocalSource(name=name))


def scratch() -> Vertex:
    return vertex("scratch", ScratchSource())


def run(name: str, base: Vertex, *binds: Vertex, no_cache: bool = False) -> Vertex:
    """A step called *name* on *base*, with whole inputs mounted read-only."""
    mounts = [Mount(target="/", input=0, output=True)]
    for number, _ in enumerate(binds, 1):
        mounts.append(Mount(target=f"/mnt{number}", input=number, readonly=True))
    op = ExecOp(args=(name,), env=(), cwd="/", mounts=tuple(mounts), platform=AMD64)
    return vertex(name, op, base, *binds, no_cache=no_cache)


def copy(
    name: str, base: Vertex, source: Vertex, path: str = "/out", *, no_cache: bool = False
) -> Vertex:
    op = FileOp(actions=(Copy(input=1, source=path, dest=f"/{name}"),))
    return vertex(name, op, base, source, no_cache=no_cache)


def merge(name: str, *inputs: Vertex) -> Vertex:
    return vertex(name, MergeOp(), *inputs)


def first(count: int) -> int:
    return 0


Ticketed = Identify | Probe | DigestContent | Run


class Desk:
    """Carries out a state's instructions, one at a time, in the order *choose* likes.

    Attributes:
        ran: names of the vertices run, in the order they began.
        told: ``(job, vertex name, phase)`` as told.
    """

    def __init__(
        self,
        records: MemoryRecords | None = None,
        runner: FakeRunner | None = None,
        choose: Callable[[int], int] = first,
        *,
        validate: bool = True,
    ) -> None:
        self.state = State()
        self.records = records or MemoryRecords()
        self.runner = runner or FakeRunner()
        self.choose = choose
        self.checks = validate
        self.open: dict[int, Ticketed] = {}
        self.begun: set[int] = set()
        self.ran: list[str] = []
        self.run_keys: list[Digest] = []
        self.ran_vertices: list[tuple[str, Digest]] = []
        self.told: list[tuple[str, str, Phase]] = []
        self.told_vertices: list[tuple[str, Digest, Phase]] = []
        self.victims: list[tuple[str, str]] = []
        self.solutions: dict[str, Solution] = {}
        self.failures: dict[str, tuple[str, BaseException]] = {}
        self.targets: dict[str, tuple[Vertex, ...]] = {}
        self.log: list[Instruction] = []

    def add(self, *targets: Vertex, job: str = "job") -> None:
        self.targets[job] = targets
        self.send(JobAdded(job, targets))

    def cancel(self, job: str = "job") -> None:
        self.send(JobCancelled(job))

    def solve(self, *targets: Vertex, job: str = "job") -> Solution:
        self.add(*targets, job=job)
        self.work()
        return self.solutions[job]

    def work(self) -> None:
        while self.open:
            self.step()

    def step(self, ticket: int | None = None) -> None:
        """Answer one of the open instructions: this one, or one that *choose* likes."""
        if ticket is None:
            tickets = sorted(self.open)
            ticket = tickets[self.choose(len(tickets))]
        what = self.open[ticket]
        if isinstance(what, Run) and ticket not in self.begun:
            self.begun.add(ticket)
            self.ran.append(what.vertex.meta.name)
            self.ran_vertices.append((what.job, what.vertex.digest))
            self.send(Began(ticket))
            return
        del self.open[ticket]
        self.send(self.answer(what))

    def answer(self, what: Ticketed) -> Event:
        name = what.vertex.meta.name
        match what:
            case Identify(ticket=ticket):
                return Identified(ticket, self.runner.identities.get(name, what.vertex.digest))
            case Probe(ticket=ticket, key=key, alias=alias):
                target = self.records.alias(key) if alias else key
                return Probed(ticket, None if target is None else self.records.load(target))
            case DigestContent(ticket=ticket, result=Snapshot(deltas=deltas)) if gone := [
                delta for delta in deltas if delta in self.records.lost
            ]:
                return InputGone(ticket, gone[0], RuntimeError(f"{gone[0]} is gone"))
            case DigestContent(ticket=ticket, result=result, selection=selection):
                return Digested(ticket, self.runner.digest(result, selection))
            case Run(ticket=ticket, inputs=inputs):
                for snapshot in (one for one in inputs if isinstance(one, Snapshot)):
                    for delta in snapshot.deltas:
                        if delta in self.records.lost:
                            return InputGone(ticket, delta, RuntimeError(f"{delta} is gone"))
                if name in self.runner.fail:
                    return Failed(ticket, RuntimeError(f"{name} failed"))
                made = self.runner.make(what.vertex, inputs)
                read = self.runner.reread(what.vertex)
                return Ran(ticket=ticket, result=made, contents=read)

    def send(self, event: Event) -> list[Instruction]:
        out = self.state.handle(event)
        self.log += out
        for what in out:
            self.perform(what)
        if self.checks:
            validate(self.state)
        return out

    def perform(self, what: Instruction) -> None:
        match what:
            case Identify() | Probe() | DigestContent() | Run():
                self.open[what.ticket] = what
            case Cancel(ticket=ticket):
                self.open.pop(ticket, None)
            case Save(key=key, snapshot=snapshot, named_inputs=named_inputs):
                self.run_keys.append(key)
                self.records.save(Record(key=key, snapshot=snapshot), named_inputs)
            case SaveAlias(key=key, target=target):
                self.records.save_alias(key, target)
            case SaveSeconds(vertex=digest, seconds=seconds):
                self.records.save_seconds(digest, seconds)
            case Tell(job=job, vertex=of, phase=phase, cancelled=cancelled):
                self.told.append((job, of.meta.name, phase))
                self.told_vertices.append((job, of.digest, phase))
                if cancelled:
                    self.victims.append((job, of.meta.name))
            case JobDone(job=job, solved=solved):
                self.solutions[job] = Solution(self.targets[job], solved)
            case JobFailed(job=job, vertex=of, error=error):
                self.failures[job] = (of.meta.name, error)

    def phases(self, name: str, job: str = "job") -> list[str]:
        return [str(phase) for j, n, phase in self.told if (j, n) == (job, name)]
