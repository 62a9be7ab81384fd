"""All attempts, by theme, and which of them a rung leaves out."""

from __future__ import annotations

from tests.security.escapes.attempt import Escape
from tests.security.escapes.descriptors import DESCRIPTORS
from tests.security.escapes.devices import DEVICES
from tests.security.escapes.kernelfiles import KERNEL_FILES
from tests.security.escapes.mounts import MOUNTS
from tests.security.escapes.processes import PROCESSES
from tests.security.escapes.readfiles import READ_FILES
from tests.security.escapes.sockets import SOCKETS

ESCAPES: tuple[Escape, ...] = (
    *MOUNTS,
    *PROCESSES,
    *DESCRIPTORS,
    *KERNEL_FILES,
    *DEVICES,
    *READ_FILES,
    *SOCKETS,
)

# Without namespaces a step has the processes and the network of the container that we are in,
# without mounts it has no /proc, and copies where others have binds.
_NOT_IN_A_CONTAINER = {
    "kill the builder": "the container's processes are the step's, too",
    "kill everybody": "the container's processes are the step's, too",
    "sysrq": "there is no /proc",
    "change the kernel's objects": "there are none",
    "timers of others": "there is no /proc",
    "hosts behind a link": "the file that the link leads to is put there",
    "a part of a cache that is a link to the host": "a directory of the host cannot be bound",
    "out of a cache": "a directory of the host cannot be bound",
    "write to a read-only bind": "it is a copy, writes are lost",
    "change a secret": "it is a file of the step's own",
    "abstract sockets of the host, network none": "no network but the container's",
    "out without network": "no network but the container's",
}


def left_out(rung: str, escape: Escape) -> str:
    """Return why *escape* is not tried on a rung, "" if it is; docs/rootless.md says it to users."""
    if rung != "chroot":
        return ""
    if escape.python or escape.name.startswith("take hold of the builder's program"):
        return "programs of the host cannot be mounted, and copying them all takes too long"
    return _NOT_IN_A_CONTAINER.get(escape.name, "")
