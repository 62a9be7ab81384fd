"""One attempt to get out of a step, as data, and words that several attempts share.

Nothing here imports more than the package and the standard library, because attempts are also made
by a plain user in a copy of both. Each is shell or Python in a step; it must show that it was tried
and refused, must not print the canary of the host, and must leave the canary's directory as it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pybuild.executor.steps.spec import StepMount, StepMountType

CANARY = "canary-of-the-host-81c2"
PYTHON = "/usr/bin/python3"
DENIED = r"denied|not permitted|read-only|invalid argument|no such|not found|busy|can't"
"""Words of programs that were refused."""
NODES = " ".join(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))

VICTIM = "/dev/pybuild-victim"
"""A device of the host, where a test has made one."""


@dataclass(frozen=True, kw_only=True)
class Escape:
    """One attempt.

    Attributes:
        script: for ``/bin/sh``, or for Python where *python*; ``@HOST@`` is a directory of the
            host with a file ``canary`` in it; ``@PID@`` the process that builds.
        shows: what its output must match, so that we know that it ran and was refused.
        steps: how the step differs from an ordinary one.
        links: symbolic links in the image, ``path: target``.
        cve: where it has worked before.
    """

    name: str
    script: str
    shows: str
    python: bool = False
    steps: tuple[tuple[str, Any], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    cve: str = ""


def host_programs() -> tuple[StepMount, ...]:
    """Return mounts that let a step run the host's Python."""
    return tuple(
        StepMount(type=StepMountType.BIND_PATH, source=path, target=path, readonly=True)
        for path in ("/usr", "/lib", "/lib64")
        if os.path.isdir(path)
    )
