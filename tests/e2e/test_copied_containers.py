"""Containers of a store that lies on an overlay itself, as in many a CI container: each works on a copy of its tree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.networked import SERVE, NetworkedPybuild, get, run, up
from tests.e2e.test_containers import wait_until
from tests.harness import leftovers
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]

_SETUP = """
set -e
mount -t tmpfs none "$1"
cd "$1"
mkdir lower upper work machine
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work machine
cp -a "$2" machine/store
ip link set lo up
echo ready
exec sleep 3600
"""


@dataclass(frozen=True)
class OverlaidPybuild(NetworkedPybuild):
    """Runs pybuild where its store is on an overlay."""

    def inside(self) -> list[str]:
        return [*super().inside(), "-m"]


@pytest.fixture
def machine(tmp_path: Path, base_store: Path) -> Generator[OverlaidPybuild]:
    need("nsenter", "ip", "nft")
    place = tmp_path / "place"
    place.mkdir()
    words: list[str | Path] = ["unshare", "-m", "-n", "sh", "-c", _SETUP, "sh", place, base_store]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                pytest.skip("needs a mount namespace in which overlay can be mounted")
            made = OverlaidPybuild(place / "machine/store", None, process.pid)
            yield made
            ids = made("ps", "-aq", code=None).out.split()
            if ids:
                made("rm", "-f", *ids)
            wait_until(lambda: not leftovers(made.store))
        finally:
            process.kill()


def test_one_in_the_background_has_a_life(machine: OverlaidPybuild, tmp_path: Path) -> None:
    """It runs as soon as its program does, and what follows it is in its tree, not on this machine [CTR-30, CTR-50]."""
    mark = f"mark-{tmp_path.name}"
    machine("network", "create", "front")
    web = run(machine, "web", f"echo up; {SERVE}", "-p", "8080:80")[:12]
    assert machine("ps", "--format", "{{.Names}} {{.State}}").out == "web running\n"
    up(machine, "127.0.0.1", 8080)
    assert get(machine, "127.0.0.1") == web
    assert machine("logs", "web").out == "up\n"
    machine("exec", "web", "touch", f"/{mark}")
    (tmp_path / "file").write_text("text")
    machine("cp", str(tmp_path / "file"), f"web:/{mark}-copied")
    assert mark not in machine.sh("ls /").out
    names = machine("exec", "web", "ls", "/").out.split()
    assert {mark, f"{mark}-copied"} <= {*names}
    assert "store" not in machine("exec", "web", "cat", "/proc/mounts").out
    hosts = machine.sh("cat /etc/hosts").out
    machine("network", "connect", "front", "web")
    assert machine.sh("cat /etc/hosts").out == hosts
    assert "172.18.0." in machine("exec", "web", "cat", "/etc/hosts").out
    (shown,) = json.loads(machine("inspect", "web").out)
    root = f"/proc/{shown['State']['Pid']}/root"
    assert mark in machine.sh(f"ls {root}/").out
    for end in (("kill",), ("stop", "-t", "0"), ("restart", "-t", "0")):
        machine(*end, "web")
        if end[0] != "restart":
            assert machine("wait", "web").out == "137\n"
            machine("start", "web")
        assert machine("exec", "web", "test", "-f", f"/{mark}").code == 0


def test_a_signal_is_the_programs_which_has_its_time(machine: OverlaidPybuild) -> None:
    script = "trap 'sleep 1; echo done > /end; exit 3' TERM; while :; do sleep 0.1; done"
    run(machine, "slow", script, "--network", "none")
    machine("stop", "slow")
    assert machine("wait", "slow").out == "3\n"
    machine("start", "slow")
    assert machine("exec", "slow", "cat", "/end").out == "done\n"


def test_what_cannot_be_executed_is_said_at_once(machine: OverlaidPybuild) -> None:
    done = machine("run", "-d", "--network", "none", "base", "/nothere", code=127)
    assert 'exec: "/nothere": no such file or directory' in done.err
    assert machine("run", "--rm", "base", "sh", "-c", "echo in front; exit 7", code=7).out == (
        "in front\n"
    )
