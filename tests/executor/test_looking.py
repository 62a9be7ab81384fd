"""Worker functions that look into the tree of some deltas, called as builds call them [6]."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import UserError
from tests.executor.sandbox_helpers import skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

if TYPE_CHECKING:
    from pybuild.executor.files import gathering, looking
else:
    gathering = WorkerModule("pybuild.executor.files.gathering")
    looking = WorkerModule("pybuild.executor.files.looking")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two deltas, ``a`` and ``b``."""
    skip_unless_possible()
    for name in ("a/d", "b/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/d/file").write_text("of a")
    (tmp_path / "a/d/other").write_text("other")
    (tmp_path / "b/d/file").write_text("of b, longer")
    (tmp_path / "b/link").symlink_to("d/file")
    (tmp_path / "b/folder").symlink_to("d")
    os.mknod(tmp_path / "b/node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(tmp_path / "b/d/file", 5, 6)
    os.utime(tmp_path / "b/d/file", ns=(1, 2))
    return tmp_path


Ask = Callable[..., Any]


def asking(place: Path, work: Callable[[Ask], Awaitable[None]]) -> None:
    """Do *work* with a function that calls one of the worker's on the tree of both deltas."""
    both = [str(place / "a"), str(place / "b")]

    async def do() -> None:
        workers = Workers()
        calls = iter(range(99))

        async def ask(function: Any, *words: Any, deltas: Any = both) -> Any:
            mount_dir = place / f"mount{next(calls)}"
            mount_dir.mkdir()
            return await workers.call(job(function, str(mount_dir), deltas, *words))

        try:
            await work(ask)
        finally:
            await workers.close()

    asyncio.run(do())


def test_entries_are_told_and_listed(place: Path) -> None:
    async def work(ask: Ask) -> None:
        one = await ask(looking.entry, "d/file")
        assert one[:6] == ("file", stat.S_IFREG | 0o644, 5, 6, 12, 2)
        link = await ask(looking.entry, "/folder/")
        assert (link[0], link[6], link[4]) == ("folder", "d", 0)
        # A link above its end is followed.
        assert (await ask(looking.entry, "folder/file"))[2] == 5
        assert (await ask(looking.entry, "node"))[7:] == (1, 3)
        assert (await ask(looking.entry, "/"))[0] == "."
        assert await ask(looking.entry, "none") is None
        assert await ask(looking.entry, "d", deltas=[]) is None
        names = [one[0] for one in await ask(looking.entries, "/")]
        assert names == ["d", "folder", "link", "node"]
        assert [one[0] for one in await ask(looking.entries, "folder")] == ["file", "other"]
        assert await ask(looking.entries, "none") is None
        with pytest.raises(UserError, match="link: not a directory"):
            await ask(looking.entries, "link")

    asking(place, work)


def test_bytes_and_digests_are_read(place: Path) -> None:
    async def work(ask: Ask) -> None:
        assert await ask(looking.data, "link", 0, 100) == b"of b, longer"
        assert await ask(looking.data, "d/file", 3, 4) == b"b, l"
        assert await ask(looking.data, "none", 0, 1) is None
        with pytest.raises(UserError, match="read d: is a directory"):
            await ask(looking.data, "d", 0, 1)
        with pytest.raises(UserError, match="node: not a regular file"):
            await ask(looking.data, "node", 0, 1)
        files = [("file", b"of b, longer"), ("other", b"other")]
        assert await ask(gathering.gather, "folder/", 12) == files
        refused = {
            ("none", 99): "none: no such directory",
            ("link", 99): "link: not a directory",
            ("/", 99): "/d: not a regular file",
            ("d", 11): "d/file: larger than 0 MiB",
        }
        for words, message in refused.items():
            with pytest.raises(UserError, match=message):
                await ask(gathering.gather, *words)
        assert await ask(gathering.gather, "d", 1, deltas=[]) == []
        told = [(f"d/{name}", sha256(data).hexdigest()) for name, data in files]
        assert await ask(gathering.digests) == told
        assert await ask(gathering.digests, deltas=[]) == []

    asking(place, work)
