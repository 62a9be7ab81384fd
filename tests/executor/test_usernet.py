"""A network of the step's own [SBX-19]."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault
from tests.executor.sandbox_helpers import (
    HOST_PROGRAMS,
    Box,
    make_base,
    parent,
    processes_with,
    skip_unless_possible,
)
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture(params=["root", "userns"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    skip_unless_possible()
    need("slirp4netns")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/net/tun")
    workers = Workers(rootless=request.param == "userns")
    yield Box(tmp_path, (make_base(tmp_path / "base"),), workers)
    asyncio.run(workers.close())


def helpers() -> list[int]:
    """Return the helpers of this process: others on the machine have their own."""
    parents = {pid: parent(pid) for pid in processes_with("slirp4netns")}
    ours: list[int] = []
    for pid in parents:
        above = pid
        while above > 1 and above != os.getpid():
            above = parent(above)
        if above == os.getpid():
            ours.append(pid)
    return ours


def test_it_is_another_network_that_leads_outside(box: Box) -> None:
    before = helpers()
    done = box.sh("ip -o -4 addr; ip route; readlink /proc/self/ns/net", network="isolated")
    assert done.status == 0, done.err
    assert "10.0.2.100/24" in done.out
    assert "127.0.0.1/8" in done.out
    assert "default via 10.0.2.2 dev tap0" in done.out
    assert os.readlink("/proc/self/ns/net") not in done.out
    assert helpers() == before


@pytest.mark.slow
def test_it_reaches_addresses_of_the_host_and_not_its_loopback(box: Box) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route to anywhere")
        own: str = probe.getsockname()[0]
    with socket.create_server((own, 0)) as here, socket.create_server(("127.0.0.1", 0)) as lo:
        script = (
            "import socket\n"
            f"for a in (('{own}', {here.getsockname()[1]}), "
            f"('10.0.2.2', {lo.getsockname()[1]}), ('127.0.0.1', {lo.getsockname()[1]})):\n"
            "    try: socket.create_connection(a, 2); print('connected')\n"
            "    except OSError as error: print('refused')\n"
        )
        program = ("/usr/bin/python3", "-I", "-S", "-c", script)
        done = box.run(*program, mounts=HOST_PROGRAMS, network="isolated")
    assert done.out.split() == ["connected", "refused", "refused"], done.err


@pytest.mark.slow
def test_the_helper_ends_with_a_cancelled_step(box: Box) -> None:
    before = helpers()

    async def body() -> None:
        seen = asyncio.Event()
        spec = box.spec("/bin/sh", "-c", "echo x; sleep 1000; true", network="isolated")
        task = asyncio.create_task(box.workers.run_step(spec, lambda _s, _d: seen.set()))
        await seen.wait()
        assert helpers() != before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await box.workers.close()

    asyncio.run(body())
    deadline = time.monotonic() + 60
    while helpers() != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert helpers() == before


def test_without_the_helper_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_possible()
    if any(os.path.exists(f"{place}/slirp4netns") for place in ("/usr/bin", "/usr/sbin")):
        pytest.skip("slirp4netns is installed")
    monkeypatch.setenv("PATH", "/bin")
    workers = Workers()
    box = Box(tmp_path, (make_base(tmp_path / "base"),), workers)
    with pytest.raises(EnvironmentFault, match="needs slirp4netns, which is not installed"):
        box.run("true", network="isolated")
    asyncio.run(workers.close())
