"""The network namespace of a plain user's containers: made, held, found again, connected [NET-5].

The tests are in a network of their own, and the pod is one more beside it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from pybuild.cache.disk.locks import locked
from pybuild.networks import pod
from pybuild.networks.records import HELPERS, NetworkFiles
from tests.executor.filetrees import in_child

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def inode(place: str) -> int:
    return os.stat(f"/proc/{place}").st_ino


def held_place(folder: Path) -> str:
    return (folder / "pod/holder").read_text()


def test_it_is_held_by_one_and_taken_over_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "networks"
    folder.mkdir()

    def work() -> None:
        store = NetworkFiles(str(folder))
        here = inode("self/ns/net")
        assert not pod.is_held(store.folder) and pod.process(store.folder) == 0
        with locked(store.lock):
            warnings = pod.enter(store)
        assert all(one.startswith("containers reach nobody outside") for one in warnings)
        there = inode("self/ns/net")
        assert there != here
        holder = pod.find_holder(store.folder)
        assert pod.is_held(store.folder) and pod.process(store.folder) == holder > 1
        assert (
            inode(held_place(folder))
            == there
            == inode(f"{holder}/fd/{held_place(folder).rpartition('/')[2]}")
        )
        with locked(store.lock):
            assert pod.hold(store) == []
        assert pod.find_holder(store.folder) == holder
        with open("/proc/sys/net/ipv4/ip_forward") as forwards:
            assert forwards.read() == "1\n"
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 10).close()
        (folder / HELPERS).mkdir()
        lock = os.open(folder / HELPERS / "c", os.O_RDWR | os.O_CREAT)
        os.write(lock, b"x" * 100)
        fcntl.flock(lock, fcntl.LOCK_EX)
        pod.sign(lock)
        assert (folder / HELPERS / "c").read_text() == f"{os.getpid()}/ns/net"
        os.kill(holder, 9)
        while pod.is_held(store.folder):
            pass
        assert pod.process(store.folder) == os.getpid()
        another = pod.find_holder(store.folder)
        try:
            assert another not in (0, holder)
            assert inode(held_place(folder)) == there
        finally:
            os.kill(another, 9)

    in_child(work)
    while pod.is_held(str(folder)):
        pass
    assert pod.process(str(folder)) == 0


def test_who_is_no_spawner_has_none() -> None:
    assert not pod.is_used()
    assert not in_child(pod.is_used)  # root has the machine's
