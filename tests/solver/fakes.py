"""Fakes of what the solver needs, for tests in any room.

They pass the same contract tests as the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.events import Emit
from pybuild.model.named import NamedInputs
from pybuild.model.ops import LocalSource, ScratchSource, Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from pybuild.solver.runner import Record

# Deltas of two runners are never the same.
_numbers = itertools.count(1)


class MemoryRecords:
    """A `RecordStore` in memory.

    Attributes:
        lost: deltas that are gone; records that name one are not found.
        claimed: what one of those who use it makes.
    """

    def __init__(self) -> None:
        self.records: dict[Digest, Record] = {}
        self.named_inputs: dict[Digest, NamedInputs] = {}
        self.aliases: dict[Digest, Digest] = {}
        self.durations: dict[Digest, float] = {}
        self.lost: set[str] = set()
        self.claimed: set[Digest] = set()

    def load(self, key: Digest) -> Record | None:
        record = self.records.get(key)
        if record is None or not self.lost.isdisjoint(record.snapshot.deltas):
            return None
        return record

    def made(self, key: Digest) -> Record | None:
        return self.load(key)

    def claim(self, key: Digest) -> bool:
        if key in self.claimed:
            return False
        self.claimed.add(key)
        return True

    def release(self, key: Digest) -> None:
        self.claimed.discard(key)

    def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
        self.records[record.key] = record
        self.named_inputs[record.key] = named_inputs or NamedInputs()

    def forget(self, delta: str, *, everywhere: bool) -> None:
        self.lost.add(delta)

    def alias(self, key: Digest) -> Digest | None:
        return self.aliases.get(key)

    def save_alias(self, key: Digest, target: Digest) -> None:
        self.aliases[key] = target

    def seconds(self, vertex: Digest) -> float | None:
        return self.durations.get(vertex)

    def prepare(self) -> None:
        pass

    def save_seconds(self, vertex: Digest, seconds: float) -> None:
        self.durations[vertex] = seconds


class FakeRunner:
    """A `Runner` that makes up results: a new delta on the first input's, like a step would.

    Args:
        files: the files of local trees: content by path; a test changes it between builds.
        content: overrides what a selection's content is, by the name of the vertex that made the
            tree.
        pause: awaited in every run, after it has begun.
        fail: names of vertices that fail.

    Attributes:
        ran: names of the vertices that ran, in the order they began.
        ended: those that ended by themselves; cancelled: those that were stopped.
        reads: what runs read that was not what had been digested, by the vertex's name.
    """

    def __init__(
        self,
        *,
        files: dict[str, str] | None = None,
        content: dict[str, str] | None = None,
        identities: dict[str, Digest | None] | None = None,
        pause: Callable[[Vertex], Awaitable[object]] | None = None,
        fail: Iterable[str] = (),
    ) -> None:
        self.files = files if files is not None else {}
        self.content = content if content is not None else {}
        self.identities = identities if identities is not None else {}
        self.pause = pause
        self.fail = set(fail)
        self.ran: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.digested: list[tuple[Result, Selection]] = []
        self.reads: dict[str, Contents] = {}
        self._made: dict[Result, str] = {}
        self._number = next(_numbers)
        self._count = 0

    async def identify(self, vertex: Vertex) -> Digest | None:
        await asyncio.sleep(0)
        name = vertex.meta.name
        return self.identities.get(name, vertex.digest)

    async def content_digest(self, result: Result, selection: Selection) -> ContentDigest:
        await asyncio.sleep(0)
        self.digested.append((result, selection))
        return self.digest(result, selection)

    def digest(self, result: Result, selection: Selection) -> ContentDigest:
        """Digest at once: what `content_digest` gives."""
        if isinstance(result, LocalTree):
            inside = {
                path: text
                for path, text in self.files.items()
                if (path + "/").startswith(selection.path.rstrip("/") + "/")
            }
            entries = tuple((path, _look(text)) for path, text in inside.items())
            return ContentDigest(Digest.of_json(inside), tuple(sorted(entries)))
        name = self._made.get(result)
        known = self.content.get(name) if name is not None else None
        what = known if known is not None else list(result.deltas)
        return ContentDigest(Digest.of_json([what, selection.path]))

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        name = vertex.meta.name
        self.ran.append(name)
        try:
            await asyncio.sleep(0)
            if self.pause is not None:
                await self.pause(vertex)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        if name in self.fail:
            raise RuntimeError(f"{name} failed")
        self.ended.append(name)
        return self.make(vertex, inputs)

    def reread(self, vertex: Vertex) -> Contents:
        return self.reads.get(vertex.meta.name, {})

    def make(self, vertex: Vertex, inputs: Sequence[Result]) -> Result:
        """Make the result at once: what `run` gives."""
        match vertex.op:
            case LocalSource(name=local):
                return LocalTree("/" + local)
            case ScratchSource():
                return Snapshot()
            case _:
                pass
        self._count += 1
        below = inputs[0].deltas if inputs and isinstance(inputs[0], Snapshot) else ()
        result = Snapshot((*below, f"delta-{self._number}-{self._count}"))
        self._made[result] = vertex.meta.name
        return result


def _look(text: str) -> str:
    return f"100644 0:0 {len(text)} {Digest.of(text.encode()).hex[:16]}"
