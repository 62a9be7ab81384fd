"""The processes of a container, all of them: listed, frozen, let go on."""

from __future__ import annotations

import os
import time

from pybuild.containers.state import PAUSED, RESTARTING, RUNNING
from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.cgroups import Leaf
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.executor.zygote.hierarchies import hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.containers.state import ContainerState
    from pybuild.executor.steps.spec import StepLimits, StepSpec

_FREEZE_S = 10.0
_ROUNDS = 5000
"""Looks at those that are killed, a millisecond apart; one in the kernel can take its time."""
_SIGKILL = 9


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


def pause(
    state: ContainerState, leaf: Leaf | None, paused: bool, id: str, *, is_there: bool
) -> None:
    """Freeze a container, or let it go on; *is_there*: it has a process.

    Raises:
        Fault: as `freeze` and `see_it_runs`, it is so already, or there is no freezer. OSError: the kernel refuses.
    """
    if paused == (state.status == PAUSED):
        raise Fault(USER, f"container {id} is {'already' if paused else 'not'} paused")
    if paused:
        see_it_runs(state, id[:12], is_there=is_there)
    if not freeze(leaf, paused):
        raise Fault(
            ENVIRONMENT,
            f"container {id[:12]} cannot be paused: it has no cgroup with a freezer here",
            ("pybuild doctor shows which cgroups this machine gives",),
        )


def processes(leaf: Leaf | None, first: int) -> list[int]:
    """Return the numbers of all, as this machine has them; *first* is the first process."""
    return pids_of([] if leaf is None else [path for _, path in leaf.places], first)


def pids_of(cgroups: Sequence[str], first: int) -> list[int]:
    """As `processes`, of a container with these directories of cgroups."""
    if cgroups:
        try:
            with open(cgroups[0] + "/cgroup.procs", encoding="ascii") as file:
                return [int(line) for line in file]
        except FileNotFoundError:
            return []  # it has just ended
    there: list[int] = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.path.samefile(f"/proc/{name}/ns/pid", f"/proc/{first}/ns/pid"):
                there.append(int(name))
        except OSError:
            continue  # it is gone, or another user's
    return sorted(there)


def end_all(leaf: Leaf) -> None:
    """Kill all that are in these cgroups: they are in no process namespace that would end with its first."""
    leaf.freeze(False)
    for _ in range(_ROUNDS):
        held: dict[int, int] = {}
        try:
            for pid in processes(leaf, 0):
                try:
                    held[pid] = os.pidfd_open(pid)
                except OSError:
                    continue  # it has ended
            if not held:
                return
            # One that is still there is the one that was opened: none is killed that took its number.
            for pid in held.keys() & set(processes(leaf, 0)):
                try:
                    syscalls.pidfd_send_signal(held[pid], _SIGKILL)
                except ProcessLookupError:
                    pass
        finally:
            syscalls.close_quietly(*held.values())
        time.sleep(0.001)


def limited(step: StepSpec, leaf: Leaf | None, limits: StepLimits) -> tuple[StepSpec, list[str]]:
    """Give the cgroups of a container other limits, those that are not 0; return its step, and warnings.

    Raises:
        Fault: user; the kernel refuses a value.
    """
    known = {key: value for key, value in limits._asdict().items() if value}
    warnings = leaf.limit(limits) if leaf is not None and known else []
    return step._replace(limits=step.limits._replace(**known)), warnings


def see_it_runs(state: ContainerState, name: str, *, is_there: bool) -> None:
    """Raise a fault unless a process can be started in a container, or heard [ENG-21]."""
    if state.status == PAUSED:
        raise Fault(USER, f"container {name} is paused", ("pybuild unpause lets it go on",))
    if state.status == RESTARTING:
        raise Fault(USER, f"container {name} is restarting, wait until it is running")
    if not is_there or state.status != RUNNING:
        raise Fault(USER, f"container {name} is not running")


def known_leaf(places: Sequence[tuple[int, str]]) -> Leaf | None:
    """Return the cgroups that another process made."""
    leaf = Leaf()
    for version, path in places:
        for hierarchy in hierarchies():
            if hierarchy.version == version and path.startswith(hierarchy.top + "/"):
                leaf.places.append((hierarchy, path))
                break
    return leaf if leaf.places else None


def make_empty(work: str) -> None:
    """Have an empty work directory, whatever an earlier run has left in it: its mounts are gone."""
    for folder, directories, files in os.walk(work, topdown=False):
        for name in files:
            os.unlink(f"{folder}/{name}")
        for name in directories:
            path = f"{folder}/{name}"
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
    try:
        os.mkdir(work, 0o700)
    except FileExistsError:
        pass
