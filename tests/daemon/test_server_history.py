"""A server's history, its copies of directories, and the directories of clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import timestamp
from pybuild.cache.store import Store
from pybuild.daemon.builds.trees import ClientTrees, read_all
from pybuild.daemon.control.history import History
from pybuild.daemon.session.filesync import LocalSync
from pybuild.daemon.session.sessions import Session
from pybuild.executor.trees.receivedcopies import Copies, CopyOrigin
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import LocalSource
from tests.daemon.peers import open_store
from tests.daemon.test_control_parts import listed, record

# --- history --------------------------------------------------------------------------------------


def test_records_are_chosen_by_what_they_are(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    failed = record("failed", 1, CompletedAt=timestamp(2))
    failed.error.message = "no"
    history.end(failed)
    history.end(record("done", 2, CompletedAt=timestamp(3)))
    history.begin(record("now", 3))

    def refs(*filters: str, **more: object) -> list[str]:
        return [ref for _, ref in listed(history, Filter=filters, **more)]

    assert refs() == ["now", "failed", "done"]
    assert refs("status==error") == ["failed"] and refs("status=completed") == ["done"]
    assert refs("status==running") == ["now"]
    assert refs("ref==done") == ["done"] and refs("ref==none") == []
    assert refs("status==error", "ref==done") == []
    assert refs("unknown==x") == refs("", "nothing") == refs()
    assert refs(Limit=2) == ["failed", "done"] and refs(Limit=9) == refs()
    assert refs(ActiveOnly=True) == ["now"] and refs(Ref="failed") == ["failed"]
    assert [kind for kind, _ in listed(history)] == [pb.STARTED, pb.COMPLETE, pb.COMPLETE]


def test_a_build_that_goes_on_is_not_deleted_and_pins_are_kept(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    running = record("now", 1)
    history.begin(running)
    assert history.get("now") is running and not history.delete("now")
    assert history.pin("now", True) and running.pinned
    assert list((tmp_path / "history/records").iterdir()) == []
    history.end(running)
    found = History(str(tmp_path)).get("now")
    assert found is not None and found.pinned and history.active() == []
    assert history.pin("now", False)
    found = History(str(tmp_path)).get("now")
    assert found is not None and not found.pinned
    assert not history.pin("none", True) and not history.delete("none")


def test_blobs_are_found_by_their_digests(tmp_path: Path) -> None:
    history = History(str(tmp_path), "owner")
    found = history.add_blob(b"abc", "text/plain")
    assert (found.media_type, found.size, found.digest) == ("text/plain", 3, Digest.of(b"abc"))
    path = history.blob_path(found.digest)
    assert path is not None and Path(path).read_bytes() == b"abc"
    assert path.startswith(str(tmp_path / "history/owner/blobs"))
    assert history.blob_path(Digest.of(b"other")) is None
    assert History(str(tmp_path), "other").blob_path(found.digest) is None
    assert history.blob_path(found.digest.replace("sha256", "sha512")) is None


def test_young_blobs_wait_for_their_record(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    young, old = history.add_blob(b"young", "t"), history.add_blob(b"old", "t")
    old_path = history.blob_path(old.digest)
    assert old_path is not None
    os.utime(old_path, (1, 1))
    history.end(record("a", 1))
    assert history.delete("a")
    assert history.blob_path(young.digest) and history.blob_path(old.digest) is None


def test_the_oldest_records_beyond_the_most_go_but_pinned_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.daemon.control.history.MAX_RECORDS", 2)
    history = History(str(tmp_path))
    for number in range(5):
        history.end(record(f"r{number}", number))
        if number == 0:
            assert history.pin("r0", True)
    assert [one.Ref for one in history.records()] == ["r0", "r3", "r4"]


# --- copies of directories ------------------------------------------------------------------------


def test_copies_are_kept_apart_by_what_they_are_of() -> None:
    origins = [
        CopyOrigin(name="a"),
        CopyOrigin(name="b"),
        CopyOrigin(name="a", owner="o"),
        CopyOrigin(name="a", shared_key="k"),
        CopyOrigin(name="a", hint="h"),
    ]
    assert len({origin.family() for origin in origins}) == 5
    part = CopyOrigin(name="a", patterns=(("x",), (), ()))
    assert part.family() == origins[0].family() and part.part() != origins[0].part()
    assert CopyOrigin(name="a", patterns=(["x"], [], [])).part() == part.part()


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


def test_a_copy_is_one_holders_and_two_of_a_family_are_kept(store: Store) -> None:
    copies = Copies(store)
    origin = CopyOrigin(name="context", shared_key="k")
    held = [copies.take(origin) for _ in range(3)]
    assert len({copy.id for copy in held}) == 3
    for copy in held:
        assert os.listdir(copy.path) == [] and os.stat(copy.path).st_mode & 0o777 == 0o755
        copy.received()
        copy.give_up()  # nothing: it is complete
        assert os.path.isdir(copy.path)
        facts = store.records.get("context", copy.id)
        assert facts is not None and facts["count"] == 1
        assert facts["description"] == "local source for context"
    for copy in held:
        copy.close()
        copy.close()
    assert len(os.listdir(copies.folder)) == 2
    again = copies.take(origin)
    again.received()
    facts = store.records.get("context", again.id)
    assert facts is not None and facts["count"] == 2
    again.close()
    failed = copies.take(CopyOrigin(name="other"))
    failed.give_up()
    assert not os.path.exists(failed.home) and store.records.get("context", failed.id) is None
    failed.close()


# --- directories of clients -----------------------------------------------------------------------


def silent(id: str, current: int, total: int, done: bool) -> None:
    """Hear of progress and say nothing."""


async def nobody(id: str) -> Session:
    raise AssertionError(id)


def test_a_directory_that_is_read_in_two_ways_has_two_names(store: Store) -> None:
    trees = ClientTrees(None, nobody, LocalSync(store))
    first, second = LocalQuery(dir_name="c"), LocalQuery(dir_name="c", follow=("a",), session="s")
    other = LocalQuery(dir_name="d")
    names = [trees.name_of(query) for query in (first, second, first, other)]
    assert names == ["c#1", "c#2", "c#1", "d#1"]
    trees.call("context", "ctx")
    trees.will_use({"context": ("a", "b")})
    trees.use_session("ctx", "mine")
    sources = [LocalSource(name=name) for name in ("c#2", "context", "plain")]
    assert [trees.client_name(source) for source in sources] == ["c", "ctx", "plain"]
    given = LocalSource(name="context", exclude=("x",))
    assert trees.queries([LocalSource(name="c#1"), LocalSource(name="c#2"), given]) == {
        "c#1": first,
        "c#2": second,
        "context": LocalQuery(
            dir_name="ctx", exclude=("x",), follow=("a", "b"), shared_key="ctx", session="mine"
        ),
    }


def test_a_directory_of_nobody_is_missing(store: Store) -> None:
    async def run() -> None:
        trees = ClientTrees(None, nobody, LocalSync(store))
        with pytest.raises(UserError, match='no session has the directory "context"'):
            await trees.tree(LocalSource(name="context"), silent)
        await trees.close()
        await trees.close()

    asyncio.run(run())


def test_files_of_a_directory_are_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"abc")
    (root / "l").symlink_to("a")
    (root / "out").symlink_to("../outside")
    assert read_all(str(root), ["a", "l", "none", "out"], 3) == {"a": b"abc", "l": b"abc"}
    with pytest.raises(UserError, match="failed to read a: larger than 0 MiB"):
        read_all(str(root), ["a"], 2)
