"""One owner on a server, and the sockets of the server itself."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.buildkit.journal import Journal
from pybuild.buildkit.pb import control as pb
from pybuild.daemon.control import tenant as tenants
from pybuild.daemon.control.tenant import Tenant
from pybuild.daemon.process import default_address
from pybuild.daemon.sockets import unix_socket
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.test_control_parts import record


@dataclass
class Going:
    """A build under way."""

    ref: str
    journal: Journal = field(default_factory=Journal.temporary)


def owner(tmp_path: Path) -> Tenant[Going]:
    return Tenant("somebody", str(tmp_path))


def test_a_build_has_its_turn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "MOST_BUILDS", 2)
    tenant = owner(tmp_path)
    with tenant.turn("a"):
        with pytest.raises(RpcError, match="job ID a exists"), tenant.turn("a"):
            raise AssertionError
        with tenant.turn("b"):
            full = pytest.raises(RpcError, match="2 builds are under way already")
            with full as caught, tenant.turn("c"):
                raise AssertionError
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
        with tenant.turn("c"):
            pass
    with tenant.turn("a"):
        pass


def test_what_builds_hold_is_bounded_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "MOST_HELD_BYTES", 1 << 20)
    tenant = owner(tmp_path)
    with tenant.turn("a"):
        tenant.hold("a", 1 << 19)
        with tenant.turn("b"):
            tenant.hold("b", 1 << 19)
            with pytest.raises(RpcError, match="take more than 1 MiB") as caught:
                tenant.hold("b", 1)
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
        tenant.hold("a", 1 << 19)
        with pytest.raises(RpcError, match="take more than"):
            tenant.hold("a", 1)
    tenant.hold("nobody", 1 << 20)
    tenant.hold("nobody", 1 << 20)


def test_a_build_under_way_is_found_by_its_ref(tmp_path: Path) -> None:
    async def run() -> None:
        tenant = owner(tmp_path)
        going = Going("a")
        tenant.add(going)
        async with tenant.journal("a") as journal:
            assert await tenant.build("a") is going and journal is going.journal
        tenant.remove(going)
        tenant.history.end(record("a", 1))
        with pytest.raises(RpcError, match="no such job a") as caught:
            await tenant.build("a")
        assert caught.value.code is Code.NOT_FOUND
        going.journal.discard()

    asyncio.run(run())


def test_who_waits_hears_of_the_build_that_arrives(tmp_path: Path) -> None:
    async def run() -> None:
        tenant = owner(tmp_path)
        waiting = asyncio.create_task(tenant.build("a"))
        journal = asyncio.create_task(tenant.journal("a").__aenter__())
        other, going = Going("b"), Going("a")
        await asyncio.sleep(0)
        tenant.add(other)
        await asyncio.sleep(0)
        tenant.add(going)
        assert await waiting is going and await journal is going.journal
        for one in (other, going):
            one.journal.discard()

    asyncio.run(run())


def test_who_waits_hears_at_once_of_the_build_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "WAIT_S", 3600)

    async def run() -> None:
        tenant = owner(tmp_path)
        waiting = asyncio.create_task(tenant.build("a"))
        going = Going("a")
        await asyncio.sleep(0)
        tenant.add(going)
        tenant.history.end(record("a", 1))
        tenant.remove(going)
        async with asyncio.timeout(60):
            for asked in (waiting, tenant.build("a")):
                with pytest.raises(RpcError, match="no such job a"):
                    await asked
        going.journal.discard()

    asyncio.run(run())


def test_the_progress_of_a_build_that_ended_is_that_of_the_history(tmp_path: Path) -> None:
    async def run() -> None:
        tenant = owner(tmp_path)
        done = record("a", 1)
        done.logs.CopyFrom(tenant.history.add_blob(b"\3\0\0\0one", "text/plain"))
        tenant.history.end(done)
        open_before = os.listdir("/proc/self/fd")
        async with tenant.journal("a") as stored:
            assert [message async for message in stored.follow()] == [b"one"]
        assert os.listdir("/proc/self/fd") == open_before
        with pytest.raises(RpcError, match="no such job a"):
            await tenant.build("a")

    asyncio.run(run())


def test_owners_have_places_of_their_own(tmp_path: Path) -> None:
    one, other = owner(tmp_path), Tenant[Going]("another", str(tmp_path))
    assert one.place and one.place != other.place and one.cgroup != other.cgroup
    one.history.end(pb.BuildHistoryRecord(Ref="a"))
    assert one.history.get("a") is not None and other.history.get("a") is None


# --- the server's own -----------------------------------------------------------------------------


def test_a_servers_address_is_one_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_address("/r") == "unix:///run/pybuild/pybuild.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert default_address("/r") == "unix:///run/user/5/pybuild/pybuild.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_address("/r") == "unix:///r/pybuild/pybuild.sock"


def test_a_socket_is_its_users_alone_and_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "d/s"
    first = unix_socket(str(path))
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first.listen(1)
        with pytest.raises(EnvironmentFault, match="a server is there"):
            unix_socket(str(path))
        assert path.exists()
    finally:
        first.close()
    second = unix_socket(str(path))
    try:
        second.listen(1)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    finally:
        second.close()


def test_a_socket_is_put_nowhere_where_everybody_may_replace_it(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="everybody may put another socket in its place") as caught:
        unix_socket(str(folder / "s"))
    assert caught.value.hints == (
        f"take a directory that only you may write to, or chmod o-w {folder}",
    )
    assert os.listdir(folder) == []
    folder.chmod(0o755)
    (folder / "f").write_text("mine")
    with pytest.raises(OSError, match="Address already in use"):
        unix_socket(str(folder / "f"))
    assert (folder / "f").read_text() == "mine"
