"""The processes of a container, all of them: listed, frozen, let go on."""

from __future__ import annotations

import os
import time

from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.cgroups import Leaf

_FREEZE_S = 10.0


def freeze(leaf: Leaf | None, frozen: bool) -> bool:
    """Let all in these cgroups stand still, or go on; False: there is no freezer.

    Raises:
        Fault: environment; the kernel does not get to it. OSError: it refuses.
    """
    if leaf is None or not leaf.freeze(frozen):
        return False
    until = time.monotonic() + _FREEZE_S
    while leaf.is_frozen() != frozen:
        if time.monotonic() > until:
            leaf.freeze(not frozen)
            raise Fault(ENVIRONMENT, "the kernel did not freeze the container in time")
        time.sleep(0.001)
    return True


def pause(leaf: Leaf | None, paused: bool, name: str) -> None:
    """Freeze the container called *name*, or let it go on.

    Raises:
        Fault: as `freeze`, or there is no freezer. OSError: the kernel refuses.
    """
    if not freeze(leaf, paused):
        raise Fault(
            ENVIRONMENT,
            f"container {name} cannot be paused: it has no cgroup with a freezer here",
            ("pybuild doctor shows which cgroups this machine gives",),
        )


def processes(leaf: Leaf | None, first: int) -> list[int]:
    """Return the numbers of all, as this machine has them; *first* is the first process."""
    if leaf is not None and leaf.places:
        with open(leaf.places[0][1] + "/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    there: list[int] = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.path.samefile(f"/proc/{name}/ns/pid", f"/proc/{first}/ns/pid"):
                there.append(int(name))
        except OSError:
            continue  # it is gone, or another user's
    return sorted(there)
