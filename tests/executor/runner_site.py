"""A place where `BuildRunner` runs vertices: a real store, real workers, and layers on a shelf."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.cache.store import Store
from pybuild.executor.fetch import LayerGone
from pybuild.executor.runner import BuildRunner
from pybuild.executor.workers.workers import Workers
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.events import Emit, Event, VertexLog
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    LocalSource,
    MergeOp,
    Mount,
    NetworkMode,
    Op,
    ScratchSource,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from pybuild.model.span import Span
from tests.clocks import FakeClock
from tests.executor.filetrees import Spec, build
from tests.executor.sandbox_helpers import make_base, skip_unless_possible

if TYPE_CHECKING:
    from pybuild.cache.content.blobwriter import Follower
    from pybuild.model.layerfacts import LayerFacts


SCRATCH = Vertex(ScratchSource())
EMPTY = Snapshot()
ROOT = Mount(target="/", input=0, output=True)


class Shelf:
    """A fetcher that has some blobs, and counts."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.store: Store | None = None

    async def fetch(
        self,
        delta: str,
        emit: Emit,
        *,
        follower: Follower | None = None,
        is_compared: bool = False,
    ) -> None:
        assert self.store is not None
        self.fetched.append(delta)
        facts = self.store.records.get("layer", delta)
        assert facts is not None
        data = self.blobs.get(facts["descriptor"]["digest"])
        if data is None:
            raise EnvironmentFault(f"nobody has {delta}")
        await asyncio.sleep(0)
        blobs = self.store.blobs
        if follower is not None:
            blobs = blobs.followed_by(follower)
        with blobs.writer(Digest(facts["descriptor"]["digest"]), len(data)) as writer:
            writer.write(data[: len(data) // 2])
            await asyncio.sleep(0)
            writer.write(data[len(data) // 2 :])
            writer.commit()

    async def described(self, delta: str) -> LayerFacts:
        raise LayerGone(delta, f"nobody has {delta}")


class Site:
    """Everything a build stands on, and short ways to run vertices."""

    def __init__(self, root: Path, store: Store, workers: Workers, shelf: Shelf) -> None:
        self.root = root
        self.store = store
        self.workers = workers
        self.shelf = shelf
        self.trees: dict[str, LocalTree] = {}
        self.secrets: dict[str, Callable[[], bytes]] = {}
        self.events: list[Event] = []
        self.others: list[BuildRunner] = []
        self.runner = BuildRunner(
            store, workers, fetcher=shelf, locals=self.trees, secrets=self.secrets
        )

    def again(self, allow: frozenset[str] = frozenset()) -> BuildRunner:
        """Another build on the same store, which ends with the test."""
        runner = BuildRunner(
            self.store,
            self.workers,
            fetcher=self.shelf,
            locals=self.trees,
            secrets=self.secrets,
            allow=allow,
        )
        self.others.append(runner)
        return runner

    def local(self, spec: Spec, exclude: Sequence[str] = (), name: str = "context") -> LocalTree:
        tree = LocalTree(str(build(self.root / name, spec)), tuple(exclude))
        self.trees[name] = tree
        return tree

    async def run(
        self,
        op: Op,
        *inputs: Result,
        runner: BuildRunner | None = None,
        ignore_cache: bool = False,
    ) -> Result:
        vertices = tuple(source_of(result) for result in inputs)
        spans = (Span("Dockerfile", 3, 3),)
        vertex = Vertex(op, vertices, VertexMeta(name="it", spans=spans, ignore_cache=ignore_cache))
        return await (runner or self.runner).run(vertex, inputs, self.events.append)

    async def files(
        self, *actions: Any, base: Result = EMPTY, more: Sequence[Result] = ()
    ) -> Snapshot:
        result = await self.run(FileOp(actions=actions), base, *more)
        assert isinstance(result, Snapshot)
        return result

    async def base(self) -> Snapshot:
        """A root file system with a shell."""
        self.trees["busybox"] = LocalTree(str(make_base(self.root / "busybox")))
        copy = Copy(input=1, source="/", dest="/")
        return await self.files(copy, more=[self.trees["busybox"]])

    async def shell(
        self, script: str, base: Result, *mounts: Mount, more: Sequence[Result] = (), **options: Any
    ) -> Snapshot:
        runner = options.pop("runner", None)
        ignore = bool(options.pop("ignore_cache", False))
        op = step(script, *mounts, **options)
        result = await self.run(op, base, *more, runner=runner, ignore_cache=ignore)
        assert isinstance(result, Snapshot)
        return result

    def output(self) -> str:
        return b"".join(e.data for e in self.events if isinstance(e, VertexLog)).decode()

    def leftovers(self) -> list[str]:
        tmp = Path(self.store.tmp.path)
        return [p.name for p in tmp.iterdir() if not p.name.startswith("trash.")
                and not p.name.endswith(".lock")]  # fmt: skip

    def top(self, snapshot: Snapshot) -> Path:
        return Path(self.store.deltas.path(snapshot.deltas[-1]))


def step(script: str, *mounts: Mount, **options: Any) -> ExecOp:
    values: dict[str, Any] = {
        "args": ("/bin/sh", "-c", script),
        "env": ("PATH=/bin",),
        "cwd": "/",
        "mounts": (ROOT, *mounts),
        "platform": LINUX_AMD64,
        "settings": StepSettings(network=NetworkMode.NONE),
        **options,
    }
    return ExecOp(**values)


def source_of(result: Result) -> Vertex:
    """A vertex that could have made *result*; an empty snapshot is scratch's."""
    if isinstance(result, LocalTree):
        return Vertex(LocalSource(name="context"))
    return SCRATCH if not result.deltas else Vertex(MergeOp(), (SCRATCH,))


Body = Callable[[Site], Awaitable[None]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[Body], Site]]:
    """Run a coroutine function on a fresh site; afterwards nothing may be left in tmp/."""
    skip_unless_possible()

    def run(body: Body) -> Site:
        async def main() -> Site:
            shelf = Shelf()
            with Store.open(tmp_path / "store", FakeClock()) as store:
                shelf.store = store
                workers = Workers()
                try:
                    here = Site(tmp_path, store, workers, shelf)
                    async with here.runner:
                        await body(here)
                    for runner in here.others:
                        await runner.__aexit__(None, None, None)
                    assert here.leftovers() == []
                    return here
                finally:
                    await workers.close()

        return asyncio.run(main())

    yield run


Run = Callable[[Body], Site]
