"""The end of a step without a pid namespace: every process that came of it is found and killed.

A process whose parent ends becomes the child of the nearest ancestor that asked for it, which is
the step's supervisor, and the zygote after that. So nobody leaves the family, and whoever is left is
below us in the tree of processes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_SIGKILL, _SIGSTOP = 9, 19


def end_descendants(spare: Collection[int] = ()) -> None:
    """Kill our children but for *spare*, and all below them, until there are none.

    Each round stops everybody before it kills anybody, so that what forks without end stands still;
    what was born meanwhile is for the next round.
    """
    while True:
        try:
            # Most steps leave nobody.
            if not spare and os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        below = _children()
        ours = [pid for pid in below.get(os.getpid(), ()) if pid not in spare]
        if not ours:
            return
        family: list[int] = []
        todo = list(ours)
        while todo:
            pid = todo.pop()
            family.append(pid)
            todo += below.get(pid, ())
        for number in (_SIGSTOP, _SIGKILL):
            for pid in family:
                _signal(pid, number)
        for pid in ours:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # somebody has waited for it


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _children() -> dict[int, list[int]]:
    """Return every process's children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(fd, 4096)
            finally:
                os.close(fd)
        except OSError:
            continue
        # The name in parentheses may have any character in it.
        fields = data[data.rfind(b")") + 2 :].split(None, 2)
        if len(fields) > 1:
            children.setdefault(int(fields[1]), []).append(int(name))
    return children
