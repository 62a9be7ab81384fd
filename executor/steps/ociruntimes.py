"""The OCI runtime that runs steps where the user asks for one: found, and tried once [RUN]."""

from __future__ import annotations

import os
import re
import subprocess

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault

KNOWN = ("crun", "runc", "youki")
_SECONDS = 10
# What makes each leave control groups alone: a step is in its own already.
_OPTIONS = {"crun": ("--cgroup-manager=disabled",), "runc": ("--rootless=true",)}


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """A program with the command line of runc.

    Attributes:
        name: what it calls itself, else its file's name.
    """

    path: str
    name: str
    version: str

    @property
    def options(self) -> tuple[str, ...]:
        return _OPTIONS.get(self.name, ())


def find_runtime(name: str) -> OciRuntime:
    """Return the runtime *name*, a name to be found on PATH or a path.

    Raises:
        EnvironmentFault: it is not there or does not start.
    """
    import shutil  # and with it what reads archives: most builds have steps of our own

    path = os.path.abspath(name) if "/" in name else shutil.which(name)
    if path is None or not os.path.exists(path):
        hint = f"install {name}" if name in KNOWN else f"one of {', '.join(KNOWN)}, or a path"
        where = "" if "/" in name else " on PATH"
        raise EnvironmentFault(
            f'OCI runtime "{name}": not found{where}',
            hints=(hint, "or leave --runtime away: steps have a sandbox of ours"),
        )
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentFault(f'OCI runtime "{path}" does not start: {reason.lower()}') from error
    version = re.match(r"(\S+) version:? v?(\S+)", done.stdout.strip())
    if done.returncode or version is None:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise EnvironmentFault(
            f'"{path}" is no OCI runtime: {path} --version ended with status {done.returncode}'
            + (f": {words[0][:200]}" if words else " and said nothing"),
        )
    return OciRuntime(path, version[1], version[2])
