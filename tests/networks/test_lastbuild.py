"""The network of builds as the last build found it, in a namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import Connecting
from pybuild.executor.zygote import syscalls
from pybuild.model.border import WorkerCall
from pybuild.networks import buildnetwork, buildspaces, lastbuild, wayout
from tests.needs import needs

pytestmark = [pytest.mark.root, needs("ip", "nft")]


def sh(script: str) -> None:
    subprocess.run(["/bin/sh", "-ec", script], check=True, timeout=20)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """The folder with the note of a build, on a machine with one wire and nothing else."""
    monkeypatch.setattr(wayout, "SHARED", str(tmp_path))
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    try:
        sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
        sh("ip addr add 10.9.9.2/24 dev up0; ip route add default via 10.9.9.1")
        way = buildnetwork.prepare(WorkerCall(), "")
        assert lastbuild.look(str(tmp_path), "") is None  # that build has changed the packet filter
        assert buildnetwork.prepare(WorkerCall(), "") == way
        yield str(tmp_path)
    finally:
        syscalls.setns(own, syscalls.CLONE_NEWNET)
        os.close(own)


def test_where_nothing_has_changed_it_is_known(folder: str) -> None:
    way = lastbuild.look(folder, "")
    assert way == buildnetwork.prepare(WorkerCall(), "")
    assert isinstance(way, Connecting)
    assert way.function == f"{buildspaces.__name__}:{buildspaces.make.__name__}"
    assert sorted(os.listdir(folder)) == ["buildnetwork", "lastbuild"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "nft add table inet stranger",
        "nft delete table inet pybuild_builds",
        "nft flush chain inet pybuild_builds forged",
        "ip link set pybuild0 down",
        "ip addr flush dev pybuild0",
        "ip addr flush dev pybuild0; ip addr add 172.17.0.1/24 dev pybuild0",
        "ip link set pybuild0 address 02:42:01:02:03:04",
        "ip link delete pybuild0",
        "ip link set up0 mtu 1400",
        "ip route delete default",
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
    ],
)
def test_where_somebody_has_changed_anything_all_is_looked_at(folder: str, change: str) -> None:
    sh(change)
    assert lastbuild.look(folder, "") is None


@pytest.mark.slow
def test_rules_of_the_old_packet_filter_are_seen(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "names").write_text("nat\nfilter\n")
    monkeypatch.setattr(wayout, "LEGACY_TABLES", str(tmp_path / "names"))
    assert lastbuild.look(folder, "") is None


def test_what_was_found_for_another_name_server_does_not_count(folder: str) -> None:
    assert lastbuild.look(folder, "127.0.0.1") is None
    for _ in range(2):
        buildnetwork.prepare(WorkerCall(), "127.0.0.1")
    assert lastbuild.look(folder, "127.0.0.1") is not None
    assert lastbuild.look(folder, "") is None
    sh("echo 0 >/proc/sys/net/ipv4/conf/pybuild0/route_localnet")
    assert lastbuild.look(folder, "127.0.0.1") is None


@pytest.mark.slow
def test_nor_does_what_another_version_found(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastbuild, "FORM", lastbuild.FORM + 1)
    assert lastbuild.look(folder, "") is None


def give_away(note: Path) -> None:
    os.chown(note, 1, 1)


def open_up(note: Path) -> None:
    note.chmod(0o622)


def link(note: Path) -> None:
    note.rename(note.with_name("elsewhere"))
    note.symlink_to("elsewhere")


def spoil(note: Path) -> None:
    note.write_bytes(b"\xff")


def cut(note: Path) -> None:
    note.write_text("one line")


@pytest.mark.slow
@pytest.mark.parametrize("change", [give_away, open_up, link, spoil, cut, Path.unlink])
def test_a_note_that_somebody_else_may_have_written_is_none(
    folder: str, change: Callable[[Path], None]
) -> None:
    change(Path(folder) / "lastbuild")
    assert lastbuild.look(folder, "") is None


@pytest.mark.slow
def test_in_another_namespace_all_is_looked_at(folder: str) -> None:
    """Its packet filter may have had as many changes; its bridge has another address."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    before = Path(folder, "lastbuild").read_text()
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        assert lastbuild.look(folder, "") is None
        sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
        sh("ip addr add 10.9.9.2/24 dev up0; ip route add default via 10.9.9.1")
        for _ in range(2):
            buildnetwork.prepare(WorkerCall(), "")
        Path(folder, "lastbuild").write_text(before)
        assert str(lastbuild.generation()) in before.split("\n")
        assert lastbuild.look(folder, "") is None
    finally:
        syscalls.setns(own, syscalls.CLONE_NEWNET)
        os.close(own)
