"""Random copies, one on the other: workers that stay make what workers of their own make."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.files.apply import apply
from pybuild.executor.files.encode import encode_action
from pybuild.executor.files.values import ClientDirectory, DeltaStack, TreeInput
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import PybuildError
from pybuild.model.ops import Copy, Owner
from tests.executor.filetrees import Entry, Link, Spec, build, describe

pytestmark = pytest.mark.root

COPIES = 8
NAMES = ("a", "b", "c", "ab", ".d", "e", "f", "g")
TARGETS = ("a", "b", "/a/b", "../c", "/", "..", "a/../b", "/nowhere", ".", "c")


@pytest.fixture(autouse=True)
def _as_root() -> None:  # pyright: ignore[reportUnusedFunction]
    if os.geteuid() != 0:
        pytest.skip("needs root")


class Copies:
    """A base, sources and copies of one seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._sources: dict[int, list[str]] = {1: [], 2: []}
        self.base = [str(build(root / f"base{n}", self._tree())) for n in range(2)]
        self.inputs: dict[int, TreeInput] = {
            1: DeltaStack([self._source(root / f"from{n}", 1) for n in range(2)]),
            2: ClientDirectory(self._source(root / "context", 2), ["**/ab"]),
        }
        self.actions = [encode_action(self._copy(), is_scratch=False) for _ in range(COPIES)]

    def _path(self, depth: int = 3) -> str:
        return "/".join(self._chance.choice(NAMES) for _ in range(self._chance.randint(1, depth)))

    def _tree(self) -> Spec:
        made: dict[str, Entry] = {}
        for _ in range(10):
            path = self._path()
            above = [path[:at] for at, char in enumerate(path) if char == "/"]
            taken = any(made.get(one, Entry(None)).content is not None for one in above)
            if taken or path in made or any(one.startswith(path + "/") for one in made):
                continue
            mode, mtime = self._chance.choice((0o600, 0o644, 0o755, 0o4755)), 1_000_000
            uid, gid = self._chance.choice((0, 7)), self._chance.choice((0, 9))
            content = self._chance.choice((Link(self._chance.choice(TARGETS)), "x", "yy", "z"))
            link = isinstance(content, Link)
            made[path] = Entry(content, None if link else mode, uid, gid, mtime)
            made |= {one + "/": Entry(None, 0o755, uid, gid, mtime) for one in above}
        return dict(sorted(made.items()))

    def _source(self, path: Path, index: int) -> str:
        tree = self._tree()
        self._sources[index] += tree
        return str(build(path, tree))

    def _copy(self) -> Copy:
        chance = self._chance
        wild = chance.random() < 0.3
        index = chance.randint(1, 2)
        source = "/" + (chance.choice(("*", "a*", "?", "a/*") if wild else self._sources[index]))
        return Copy(
            input=index,
            source=source if chance.random() < 0.9 else "/",
            dest="/" + chance.choice(("", self._path(), self._path() + "/", self._path() + "/")),
            wildcard=wild,
            allow_empty=chance.random() < 0.5,
            contents_only=chance.random() < 0.7,
            follow_source_links=chance.random() < 0.7,
            parents_pivot=0 if not wild and chance.random() < 0.2 else None,
            exclude=("**/.d",) if chance.random() < 0.2 else (),
            mode=chance.choice((None, None, 0o750, "u=rwX,go=")),
            owner=chance.choice((None, Owner(user="3", group="4"))),
            mtime=chance.choice((None, 2_000_000)),
        )


async def make(copies: Copies, place: Path, workers: Workers, *, stay: bool) -> list[Any]:
    """Return what each copy comes to: what its delta holds, or why it cannot be made."""
    lowers = list(copies.base)
    outcomes: list[Any] = []
    for number, action in enumerate(copies.actions):
        here = place / str(number)
        for name in ("upper", "work", "mounts"):
            (here / name).mkdir(parents=True)
        work = job(
            apply,
            str(here / "mounts"),
            str(here / "upper"),
            work=str(here / "work"),
            base=lowers,
            inputs=copies.inputs,
            actions=[action],
            judge=True,
        )
        try:
            done = await workers.call(work, stay=stay)
        except PybuildError as error:
            outcomes.append(str(error))
            continue
        finally:
            os.rmdir(here / "mounts")  # nothing is mounted there any more
        outcomes.append((done, _facts(str(here / "upper"))))
        lowers.append(str(here / "upper"))
    return outcomes


def _facts(upper: str) -> dict[str, Any]:
    """Describe a delta but for inodes, and the times of directories that something came into."""
    found = describe(upper)
    return {
        path: (kind, mode, uid, gid, mtime if kind != "d" else 0, content, xattrs)
        for path, (kind, mode, uid, gid, mtime, content, _, xattrs) in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 16))]
)
def test_workers_that_stay_make_the_same(tmp_path: Path, seed: int) -> None:
    copies = Copies(tmp_path, seed)

    async def both() -> tuple[list[Any], list[Any]]:
        workers = Workers()
        try:
            alone = await make(copies, tmp_path / "alone", workers, stay=False)
            return alone, await make(copies, tmp_path / "kept", workers, stay=True)
        finally:
            await workers.close()

    alone, kept = asyncio.run(both())
    assert kept == alone
    assert any(not isinstance(one, str) and one[1] for one in alone), "nothing was copied"
