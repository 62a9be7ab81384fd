"""A machine of its own for tests of networks: a network namespace, and pybuild in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.test_containers import wait_until
from tests.harness import Done, Pybuild


@dataclass(frozen=True)
class NetworkedPybuild(Pybuild):
    """Runs pybuild, and other commands, in the network namespace of process *pid*."""

    pid: int = 0

    def command(self, *words: str | Path) -> list[str]:
        return [*self.inside(), *super().command(*words)]

    def inside(self) -> list[str]:
        return [str(shutil.which("nsenter")), "-t", str(self.pid), "-n"]

    def sh(self, script: str, *, code: int | None = 0) -> Done:
        """Run a shell's script on this machine."""
        done = subprocess.run(
            [*self.inside(), "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def network_namespace() -> Generator[int]:
    """Yield a process in a network namespace of its own, with nothing but its loopback device."""
    script = "ip link set lo up && echo up && exec sleep 3600"
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "up\n":
                pytest.skip("needs a network namespace of its own, which this machine refuses")
            yield process.pid
        finally:
            process.kill()


def devices(machine: NetworkedPybuild, start: str) -> list[str]:
    lines = machine.sh("ip -o link").out.splitlines()
    names = [line.split(": ")[1].partition("@")[0] for line in lines]
    return [name for name in names if name.startswith(start)]


SERVE = "exec busybox nc -ll -p 80 -e echo $HOSTNAME"


def run(machine: NetworkedPybuild, name: str, script: str, *options: str) -> str:
    return machine("run", "-d", "--name", name, *options, "base", "sh", "-c", script).out.strip()


def get(machine: NetworkedPybuild, address: str, port: int = 8080) -> str:
    """Return the answer that this machine gets, "" where nobody answers."""
    script = f"busybox nc -w 10 {address} {port} </dev/null"
    return machine.sh(script, code=None).out.strip()


def up(machine: NetworkedPybuild, address: str, port: int = 80) -> None:
    wait_until(lambda: get(machine, address, port) != "")


def tries(*targets: tuple[str, int]) -> str:
    """Return a script that prints what each target answers, one a line; all are asked at once."""
    asking = " ".join(
        f"echo {number} $(busybox nc -w 10 {address} {port} </dev/null 2>/dev/null) &"
        for number, (address, port) in enumerate(targets)
    )
    return f"{{ {asking} wait; }} | busybox sort -n | busybox sed 's/^[0-9]* *//'"


def asked(machine: NetworkedPybuild, script: str, *options: str) -> list[str]:
    """Return the lines that a container's script prints."""
    name = f"asks{next(_NUMBERS)}"
    run(machine, name, script, *options)
    machine("wait", name)
    return machine("logs", name).out.splitlines()


_NUMBERS = count()


def named(machine: NetworkedPybuild, name: str, *options: str) -> list[str]:
    """Return the addresses that a container gets for a name."""
    lines = asked(machine, f"busybox nslookup {name}", *options)
    found = [line.split(": ")[1] for line in lines if line.startswith("Address: ")]
    return sorted(address for address in found if address != "127.0.0.11")
