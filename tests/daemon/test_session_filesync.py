"""Directories of clients: fetched, kept, fetched again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import packet
from pybuild.buildkit.fsutil.metadata import NAME
from pybuild.cache.space.prune import prune
from pybuild.cache.space.usage import usage
from pybuild.cache.store import Store
from pybuild.client.filesync import file_sync
from pybuild.daemon.session.filesync import LocalRequest, LocalSync, Received
from pybuild.executor.trees.local import LocalDigester, index_file
from pybuild.executor.trees.statindex import StatIndex
from pybuild.model.errors import UserError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree
from tests.daemon.filesyncrig import CONTEXT, make_source, rig
from tests.daemon.peers import connected, open_store
from tests.daemon.trees import describe


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


def test_a_directory_arrives_and_the_next_time_only_what_changed(
    store: Store, source: Path
) -> None:
    async def run() -> None:
        seen: list[int] = []
        async with rig(store, file_sync({"context": str(source)})) as made:
            async with made.sync.fetch(made.session, CONTEXT, seen.append) as first:
                assert describe(first.path) == describe(source)
                assert (first.files, first.entries) == (32, 34)
            assert seen[-1] == first.moved > first.transferred > 2 << 20
            (source / "src" / "f7").write_bytes(b"changed")
            async with made.sync.fetch(made.session, CONTEXT) as second:
                assert (second.path, second.files, second.transferred) == (first.path, 1, 7)
                assert 7 < second.moved < first.moved
                assert describe(second.path) == describe(source)

    asyncio.run(run())


@pytest.mark.slow
def test_digests_are_known_when_a_tree_has_arrived_and_stay_so(store: Store, source: Path) -> None:
    folder = _statindex(store)
    (source / "hard").hardlink_to(source / "src" / "f2")
    expected = LocalDigester(str(source.parent / "elsewhere")).digest(
        LocalTree(str(source)), Selection(path="/")
    )

    def check(received: Received) -> None:
        index = StatIndex(index_file(folder, received.path))
        for name, facts in describe(received.path).items():
            status = os.lstat(os.path.join(received.path, name))
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                body = facts[2]
                assert isinstance(body, bytes)
                assert index.get(status) == hashlib.sha256(b"\0" + body).digest()
        found = LocalDigester(folder).digest(LocalTree(received.path), Selection(path="/"))
        assert found == expected

    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            for number in range(20):
                (source / "src" / "f1").touch()
                async with made.sync.fetch(made.session, CONTEXT) as received:
                    check(received)
                    assert received.files == (32 if number == 0 else 1)

    asyncio.run(run())


@pytest.mark.slow
def test_two_builds_at_once_do_not_see_each_other(store: Store, source: Path) -> None:
    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            async with made.sync.fetch(made.session, CONTEXT) as first:
                before = describe(first.path)
                (source / "src" / "f1").write_bytes(b"new")
                async with made.sync.fetch(made.session, CONTEXT) as second:
                    assert second.path != first.path
                    assert describe(first.path) == before
                    assert describe(second.path) == describe(source)
            assert (await made.fetch()).transferred == 0

    asyncio.run(run())


@pytest.mark.slow
def test_copies_that_many_builds_made_go_when_they_are_let_go(store: Store, source: Path) -> None:
    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            gate = asyncio.Event()

            async def build() -> None:
                async with made.sync.fetch(made.session, CONTEXT):
                    await gate.wait()

            builds = [asyncio.create_task(build()) for _ in range(5)]
            async with asyncio.timeout(60):
                while (len(os.listdir(store.contexts_dir)) if _exists(store) else 0) < 5:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            gate.set()
            await asyncio.gather(*builds)
        assert len(os.listdir(store.contexts_dir)) == 2

    asyncio.run(run())


def _exists(store: Store) -> bool:
    return os.path.isdir(store.contexts_dir)


def test_small_reads_keep_nothing(store: Store, source: Path) -> None:
    request = LocalRequest(name="dockerfile", follow=("Dockerfile", "dockerfile"), keep=False)

    async def run() -> None:
        async with rig(store, file_sync({"dockerfile": str(source)})) as made:
            async with made.sync.fetch(made.session, request) as received:
                assert os.listdir(received.path) == ["Dockerfile"]
            assert not os.path.exists(received.path)
        assert not _exists(store)

    asyncio.run(run())


def test_what_has_no_name_is_not_kept_unless_told(store: Store, source: Path) -> None:
    async def run() -> None:
        sync = LocalSync(store)
        async with connected(file_sync({"context": str(source)})) as session:
            async with sync.fetch(session, CONTEXT) as received:
                assert os.path.isdir(received.path)
                assert len(os.listdir(_statindex(store))) == 1
            assert not _exists(store) and not os.path.exists(received.path)
            assert os.listdir(_statindex(store)) == []
        async with (
            connected(file_sync({"context": str(source)}), shared_key="mine") as session,
            sync.fetch(session, CONTEXT) as received,
        ):
            assert _exists(store)
        sync.close()

    asyncio.run(run())


@pytest.mark.parametrize(("key", "moved"), [("", 2), ("mine", 1)])
def test_equal_looks_are_doubted_where_another_directory_may_look_alike(
    store: Store, tmp_path: Path, key: str, moved: int
) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
        for name, time in (("pinned", 5 * 10**9), ("odd", 5), ("same", 7)):
            (root / name).write_bytes(root.name.encode() if name == "pinned" else b"x")
            os.utime(root / name, ns=(time, time))
    try:
        os.setxattr(roots[1] / "odd", "user.mark", b"1")
    except OSError:
        pytest.skip("no user attributes here")

    async def run() -> None:
        async with rig(store, file_sync({"context": str(roots[0])}), key) as made:
            await made.fetch()
        async with rig(store, file_sync({"context": str(roots[1])}), key) as made:
            received = await made.fetch()
            assert received.files == moved
            assert os.getxattr(os.path.join(received.path, "odd"), "user.mark") == b"1"
            if not key:
                assert describe(received.path) == describe(roots[1])

    asyncio.run(run())


def _statindex(store: Store) -> str:
    return os.path.join(store.root, "statindex")


def test_files_are_sent_again_where_their_looks_are_not_to_count(
    store: Store, source: Path
) -> None:
    """A file of equal time and size may be another one: the client says what it means by that."""

    async def run() -> None:
        changing = source / "Dockerfile"
        os.utime(changing, ns=(5, 1_700_000_000_123_456_789))
        async with rig(store, file_sync({"context": str(source)}), shared_key="mine") as r:
            await r.fetch()
            changing.write_bytes(b"FROM another\n")
            os.utime(changing, ns=(5, 1_700_000_000_123_456_789))
            path = Path((await r.fetch()).path)
            assert (path / "Dockerfile").read_bytes() == b"FROM scratch\n"
            fresh = await r.fetch(replace(CONTEXT, compare=False))
            assert (Path(fresh.path) / "Dockerfile").read_bytes() == b"FROM another\n"
            assert fresh.files == 32 and describe(str(source)) == describe(fresh.path)

    asyncio.run(run())


def test_a_directory_may_be_listed_with_the_contents_of_a_few_files(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for name in ("data", "dir/file1", "dir/file2", "dir/sub/bar1", "dir/sub2/bar3", "foo"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / NAME).write_text("the client's own")
    request = replace(CONTEXT, contents=("dir/**/*1", "foo"))

    def found(root: str) -> tuple[set[str], list[bytes]]:
        files = {str(p.relative_to(root)) for p in Path(root).rglob("*") if p.is_file()}
        data, listed = Path(root, NAME).read_bytes(), list[bytes]()
        while data:
            size = int.from_bytes(data[:4], "little")
            entry = packet.decode(b"\x12" + packet.uvarint(size) + data[4 : 4 + size]).stat
            assert entry is not None
            listed.append(entry.path)
            data = data[4 + size :]
        return files - {NAME}, listed

    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)}), shared_key="mine") as r:
            fetched = await r.fetch(request)
            files, listed = found(fetched.path)
            assert files == {"dir/file1", "dir/sub/bar1", "foo"} and fetched.files == 3
            assert not Path(fetched.path, "dir/sub2").exists()
            names = [b"data", b"dir", b"dir/file1", b"dir/file2", b"dir/sub", b"dir/sub/bar1"]
            assert listed == [*names, b"dir/sub2", b"dir/sub2/bar3", b"foo"]
            whole = await r.fetch()
            assert (Path(whole.path) / "dir/file2").exists()
            (source / "dir/sub/bar1").unlink()
            files, listed = found((await r.fetch(request)).path)
            assert files == {"dir/file1", "foo"} and b"dir/sub/bar1" not in listed
            only = replace(CONTEXT, contents=())
            assert found((await r.fetch(only)).path)[0] == set()
            with pytest.raises(UserError, match="read context of the client"):
                await r.fetch(replace(CONTEXT, contents=("[",)))

    asyncio.run(run())


def test_a_link_to_what_is_only_listed_is_refused(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    (source / "b").hardlink_to(source / "a")

    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as r:
            with pytest.raises(UserError, match="hard link to what is only listed"):
                await r.fetch(replace(CONTEXT, contents=("b",)))

    asyncio.run(run())


def test_patterns_reach_the_client_whatever_is_in_them(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    for name in ("ü x", "plain", "a%b", " lead", "tab\there"):
        (root / name).write_bytes(b"")

    async def run() -> None:
        async with rig(store, file_sync({"contéxt": str(root)})) as made:
            request = LocalRequest(name="contéxt", include=("ü x", "a%b", "plain"))
            async with made.sync.fetch(made.session, request) as received:
                assert sorted(os.listdir(received.path)) == ["a%b", "plain", "ü x"]
            request = LocalRequest(name="contéxt", exclude=("a%b", "plain", "tab*"), hint="2")
            async with made.sync.fetch(made.session, request) as received:
                assert sorted(os.listdir(received.path)) == [" lead", "ü x"]

    asyncio.run(run())


@pytest.mark.slow
def test_copies_of_different_owners_keys_and_ends_are_apart(store: Store, source: Path) -> None:
    async def run() -> None:
        handlers = file_sync({"context": str(source), "other": str(source)})
        paths: set[str] = set()
        for key in ("", "a", "b"):
            async with rig(store, handlers, key) as made:
                for request in (CONTEXT, LocalRequest(name="other")):
                    paths.add((await made.fetch(request)).path)
                paths.add((await made.fetch(LocalRequest(name="context", hint="ignore"))).path)
        assert len(paths) == 9

    asyncio.run(run())


def test_another_part_of_a_directory_builds_on_the_copy_that_is_there(
    store: Store, source: Path
) -> None:
    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            first = await made.fetch()
            part = LocalRequest(name="context", follow=("src/f1",))
            async with made.sync.fetch(made.session, part) as second:
                assert (second.path, second.transferred) == (first.path, 0)
                assert os.listdir(os.path.join(second.path, "src")) == ["f1"]

    asyncio.run(run())


def test_kept_copies_are_seen_by_du_and_freed_by_prune(store: Store, source: Path) -> None:
    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            async with made.sync.fetch(made.session, CONTEXT) as received:
                (record,) = [one for one in usage(store) if one.kind == "context"]
                assert (record.type, record.in_use) == ("source.local", True)
                assert record.description == "local source for context"
                assert record.size > 2 << 20
                prune(store)
                assert os.path.isdir(received.path)
            prune(store)
            assert os.listdir(store.contexts_dir) == []
            assert [one for one in usage(store) if one.kind == "context"] == []
            assert (await made.fetch()).transferred > 2 << 20

    asyncio.run(run())
