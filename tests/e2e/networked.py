"""A machine of its own for tests of networks: a network namespace, and pybuild in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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
