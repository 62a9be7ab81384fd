"""The processes of a container, by this machine's ps [CTR-82]."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from pybuild.containers.container import Container
from pybuild.model.errors import EnvironmentFault, UsageError


def process_table(container: Container, options: Sequence[str]) -> list[str]:
    """Return the title and the rows that ps with these options has for the container's processes.

    Raises:
        UsageError: ps refuses the options, or its title has no PID then.
        EnvironmentFault: there is no ps.
    """
    pids = frozenset(map(str, container.ask("processes")))
    try:
        done = subprocess.run(
            ["ps", *(options or ["-ef"])], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(
            f"cannot run ps: {error}", hints=["install the package procps"]
        ) from error
    if done.returncode:
        raise UsageError(f"ps {' '.join(options)}: {done.stderr.strip() or 'failed'}")
    title, *rows = done.stdout.splitlines()
    if "PID" not in title.split():
        raise UsageError("couldn't find PID field in ps output")
    column = title.split().index("PID")
    return [title, *(row for row in rows if row.split()[column] in pids)]
