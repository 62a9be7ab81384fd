"""Leases end with their process, however that ends [STO-1]."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from tests.cache import children
from tests.clocks import FakeClock


def test_lease_holds_until_closed(store: Store) -> None:
    with store.leases.create() as lease:
        lease.add("delta", "a")
        lease.add_all([("blob", "b"), ("mount", "c"), ("delta", "a")])
        assert store.leases.held() == {("delta", "a"), ("blob", "b"), ("mount", "c")}
    assert store.leases.held() == set()


def test_empty_lease_makes_no_file(store: Store, root: Path) -> None:
    with store.leases.create():
        assert os.listdir(root / "leases") == []


def test_lease_tells_whether_it_holds_all_of_several_things(store: Store) -> None:
    with store.leases.create() as lease:
        assert lease.holds([])
        lease.add_all([("blob", "b"), ("delta", "a")])
        assert lease.holds([("delta", "a"), ("blob", "b")])
        assert not lease.holds([("delta", "a"), ("delta", "b")])
    assert not lease.holds([("delta", "a")])


def test_trying_to_lease_waits_for_nobody_who_frees(store: Store) -> None:
    with store.leases.create() as lease:
        with store.leases.collecting():
            assert not lease.try_add("delta", "a")
            assert not lease.holds([("delta", "a")])
        assert lease.try_add("delta", "a")
        with store.leases.collecting():
            assert lease.try_add("delta", "a")  # it is held already
        assert store.leases.held() == {("delta", "a")}


@pytest.mark.parametrize(("kind", "name"), [("image", "a"), ("delta", ""), ("delta", "a\nblob b")])
def test_lease_refuses_what_it_could_not_tell_again(store: Store, kind: str, name: str) -> None:
    with store.leases.create() as lease, pytest.raises(ValueError, match="cannot lease"):
        lease.add(kind, name)


def test_what_a_store_writes_is_held_until_it_closes(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as watcher:
        with Store.open(root, clock) as store:
            digest = store.blobs.put(b"hello")
            id = store.deltas.commit(store.deltas.begin())
            assert watcher.leases.held() == {("blob", digest), ("delta", id)}
        assert watcher.leases.held() == set()


def test_explicit_lease_takes_the_place_of_the_stores_own(store: Store) -> None:
    with store.leases.create() as lease:
        store.blobs.put(b"hello", lease)
        store.deltas.commit(store.deltas.begin(), lease=lease)
        assert len(store.leases.held()) == 2
    assert store.leases.held() == set()


def test_lease_lives_as_long_as_its_process(store: Store, root: Path) -> None:
    child = children.start(
        root,
        "lease = store.leases.create(); lease.add('delta', 'a'); print('ready', flush=True)\n"
        "sys.stdin.readline()",
    )
    try:
        assert children.line(child) == "ready"
        assert store.leases.held() == {("delta", "a")}
        assert store.leases.held() == {("delta", "a")}  # looking does not end it
    finally:
        children.kill(child)
    assert store.leases.held() == set()
    assert os.listdir(root / "leases") == []


def test_forked_child_does_not_end_its_parents_lease(store: Store) -> None:
    with store.leases.create() as lease:
        lease.add("delta", "a")
        pid = os.fork()
        if pid == 0:
            lease.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert store.leases.held() == {("delta", "a")}


def test_half_written_line_is_not_believed(store: Store, root: Path) -> None:
    with store.leases.create() as lease:
        lease.add("delta", "abc")
        (name,) = os.listdir(root / "leases")
        with open(root / "leases" / name, "a") as file:
            file.write("delta ab")
        assert store.leases.held() == {("delta", "abc")}


def test_threads_share_a_lease(store: Store) -> None:
    with store.leases.create() as lease:
        threads = [
            threading.Thread(target=lease.add, args=("delta", f"d{number}")) for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.leases.held() == {("delta", f"d{number}") for number in range(20)}


def test_nobody_adds_while_somebody_collects(store: Store) -> None:
    added = threading.Event()

    def add() -> None:
        lease.add("delta", "a")
        added.set()

    with store.leases.create() as lease:
        with store.leases.collecting():
            thread = threading.Thread(target=add)
            thread.start()
            assert not added.wait(0.05)
            assert store.leases.held() == set()
        thread.join()
        assert store.leases.held() == {("delta", "a")}


def test_what_is_kept_under_a_name_outlives_every_process_until_it_is_dropped(
    root: Path, clock: FakeClock
) -> None:
    with Store.open(root, clock) as store:
        store.leases.keep(
            "container", [("delta", "b"), ("delta", "a"), ("blob", "c"), ("delta", "a")]
        )
        store.leases.keep("other", [("delta", "a")])
    with Store.open(root, clock) as store:
        assert store.leases.held() == {("delta", "a"), ("delta", "b"), ("blob", "c")}
        assert store.leases.lasting("delta", "a") == ("container", "other")
        assert store.leases.lasting("blob", "c") == ("container",)
        assert store.leases.lasting("blob", "a") == ()
        assert store.leases.holders("delta", "a") == ()
        store.leases.drop("container")
        store.leases.drop("none")
        assert store.leases.held() == {("delta", "a")}
