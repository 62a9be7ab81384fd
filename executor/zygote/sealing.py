"""Seals the tree of a step that has ended: nobody who was handed a descriptor of it writes to it any more.

Two steps that run at once and share a directory of the host can meet at a socket there. What one
hands the other outlives it, and its snapshot would change under the digests that others found it by.
"""

from __future__ import annotations

import errno
import os
import time

from pybuild.executor.steps.spec import StepMountType
from pybuild.executor.zygote import landlock, syscalls, wire
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepSpec
    from pybuild.executor.zygote.mounts import DetachedMount
    from pybuild.model.border import WorkerCall

_TRIES = 20
_PAUSE_S = 0.05


def is_due(spec: StepSpec) -> bool:
    """Return whether the step that *spec* describes may meet another one.

    It has a directory of the host, or abstract sockets, which only newer kernels keep it from.
    """
    if any(mount.type == StepMountType.BIND_PATH for mount in spec.mounts):
        return True
    return spec.network == "host" or (spec.network == "default" and not landlock.possible())


def trees_of(spec: StepSpec, root_fd: int, prepared: list[DetachedMount]) -> list[int]:
    """Return descriptors of the trees to be sealed: the root, and mounts whose writes are kept.

    Raises:
        Fault: user; there are more than can be handed over.
    """
    if not is_due(spec):
        return []
    kept = [mount.mount_fd for mount in prepared if mount.is_kept]
    if len(kept) >= wire.MOST_DESCRIPTORS - 1:
        raise Fault(USER, f"{len(kept)} mounts are to be kept, too many for one step")
    return [os.dup(fd) for fd in (root_fd, *kept)]


def seal(call: WorkerCall) -> None:
    """Make the file systems of the mounts handed over read-only.

    Raises:
        Fault: user; somebody keeps a file of it open for writing. OSError: it cannot be done.
    """
    left = list(call.fds)
    for _ in range(_TRIES):
        try:
            while left:
                syscalls.remount_readonly(left[-1])
                left.pop()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(_PAUSE_S)  # what a process had open closes a moment after its end
        else:
            return
    raise Fault(
        USER,
        "another step keeps a file of this one open for writing",
        ("steps that share a cache mount must hand each other no open files",),
    )
