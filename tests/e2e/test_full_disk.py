"""Containers whose store is full: every state stays true, no exit code is lost, and `rm -f` always works [MON-2, MON-5]."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.networked import NetworkedPybuild, devices, network_namespace
from tests.e2e.test_containers import wait_until
from tests.harness import leftovers, make_base
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
_WHERE = "no space left on device on the file system at"


class SmallDisk:
    """A small file system that can be filled to its last byte."""

    def __init__(self, place: Path) -> None:
        self._rest = place / "rest"

    @contextmanager
    def full(self) -> Generator[None]:
        fd = os.open(self._rest, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.close(fd)
        try:
            yield
        finally:
            self._rest.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Generator[SmallDisk]:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    subprocess.run(mount, check=True, timeout=60)
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "-l", place], check=True, timeout=60)


@pytest.fixture
def machine(tmp_path: Path, disk: SmallDisk) -> Generator[NetworkedPybuild]:
    del disk
    with network_namespace() as pid:
        machine = NetworkedPybuild(tmp_path / "small/store", None, pid)
        make_base(machine, tmp_path / "base", "base")
        machine("network", "create", "own")
        yield machine
        ids = machine("ps", "-aq").out.split()
        if ids:
            machine("rm", "-f", *ids)
        wait_until(lambda: not [*leftovers(machine.store), *devices(machine, "veth")])


def state(machine: NetworkedPybuild, name: str) -> dict[str, Any]:
    (known,) = json.loads(machine("inspect", name).out)
    return dict(known["State"])


@pytest.mark.parametrize("network", ["none", pytest.param("own", marks=needs("nft"))])
def test_each_turn_of_a_life_on_a_full_disk(
    machine: NetworkedPybuild, disk: SmallDisk, network: str
) -> None:
    options = ("--network", network, "base", "sh", "-c")
    ends = "while [ ! -e /go ]; do echo line; sleep 0.05; done; exit 7"
    with disk.full():
        refused = machine("create", "--name", "one", *options, "exit 7", code=3)
        assert _WHERE in refused.err and "pybuild prune" in refused.err
    machine("create", "--name", "one", *options, ends)
    with disk.full():
        assert f"cannot start container one: {_WHERE}" in machine("start", "one", code=3).err
        assert state(machine, "one")["Status"] == "created"
    machine("start", "one")
    with disk.full():
        assert state(machine, "one")["Running"]
        assert _WHERE in machine("rename", "one", "two", code=3).err
        machine("exec", "one", "touch", "/go")  # an empty file takes nothing of a tmpfs
        assert machine("wait", "one").out == "7\n"
        assert (state(machine, "one")["Status"], state(machine, "one")["ExitCode"]) == ("exited", 7)
        machine("rm", "-f", "one")


@pytest.mark.parametrize("network", ["none", pytest.param("own", marks=needs("nft"))])
def test_a_restart_on_a_full_disk_loses_no_exit_code(
    machine: NetworkedPybuild, disk: SmallDisk, network: str
) -> None:
    waits = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    machine("run", "-d", "--name", "one", "--network", network, "base", "sh", "-c", waits)
    wait_until(lambda: machine("logs", "one").out == "ready\n")
    again = ("run", "-d", "--name", "two", "--restart", "always", "--network", network)
    machine(*again, "base", "sh", "-c", "exit 9")
    with disk.full():
        done = machine("restart", "one", code=None)  # what its end leaves free may be enough
        known = state(machine, "one")
        if done.code == 0:
            assert known["Status"] == "running"
        else:
            assert f"cannot start container one: {_WHERE}" in done.err
            assert (known["Status"], known["ExitCode"]) == ("exited", 5)
        machine("stop", "two")
        assert (state(machine, "two")["Status"], state(machine, "two")["ExitCode"]) == ("exited", 9)
        machine("rm", "-f", "one", "two")
    assert machine("ps", "-aq").out == ""


@needs("nft")
def test_networks_on_a_full_disk(machine: NetworkedPybuild, disk: SmallDisk) -> None:
    machine("network", "create", "other")
    machine("run", "-d", "--name", "one", "--network", "own", "base", "sleep", "1000")
    with disk.full():
        assert f"cannot make network third: {_WHERE}" in (
            machine("network", "create", "third", code=3).err
        )
        refused = machine("network", "connect", "other", "one", code=3)
        assert "cannot connect the container: no space left on device" in refused.err
        (known,) = json.loads(machine("inspect", "one").out)
        assert list(known["NetworkSettings"]["Networks"]) == ["own"]
        machine("network", "disconnect", "own", "one")
        machine("rm", "-f", "one")
        machine("network", "rm", "other")
    assert "third" not in machine("network", "ls").out
