"""Worker functions that carry cache mounts: a directory to a tar, and a stranger's tar into one."""

from __future__ import annotations

import os
import sys

from pybuild.executor.files import archives, unpack
from pybuild.executor.files.apply import Mounts
from pybuild.executor.files.making import give
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.executor.files.values import OwnerMode
    from pybuild.model.border import WorkerCall

_DEEP = 20_000


def export_job(call: WorkerCall, path: str) -> None:
    """Write the tree at *path* to the descriptor handed over: the same tree, the same bytes."""
    from pybuild.image.layer.writing import write_all

    write_tar(path, lambda data: write_all(call.fds[0], data))


def write_tar(path: str, take: Callable[[memoryview], None]) -> None:
    """Give *take* the tar of the tree at *path*, piece by piece."""
    from pybuild.image.layer.pieces import Chunker
    from pybuild.image.layer.treecopy import trees_tar

    out = Chunker.into(take)
    ledger = Mounts("").ledger([path])
    ledgers = {} if ledger is None else {"": ledger}
    trees_tar([("", path, None)], out, userxattr=ledger is not None, ledgers=ledgers)


def import_job(call: WorkerCall, target: str, look: OwnerMode, name: str) -> None:
    """Unpack the archive handed over into *target*, an empty directory that nothing can leave.

    Args:
        look: of the directory itself.
        name: of the archive, for messages.

    Raises:
        Fault: user; it is no archive, or a damaged one.
    """
    read = archives.open_archive(call.fds[0])
    if read is None:
        raise Fault(USER, f"{name}: no tar archive, plain or compressed")
    fill(target, look, name, read)


def fill(target: str, look: OwnerMode, name: str, read: Callable[[], bytes]) -> None:
    """Unpack the tar that *read* gives, b"" at its end, into *target*, as far as its disk has room.

    Args:
        look: of the directory itself.
        name: of the archive, for messages.
    """
    os.umask(0)
    sys.setrecursionlimit(_DEEP)
    disk = os.statvfs(target)
    read = archives.capped(read, name, disk.f_bavail * disk.f_frsize * 19 // 20)
    with Tree.open(target, ledger=Mounts("").ledger([])) as tree:
        unpack.unpack(read, tree, "/", name=name, owner=None, mtime_ns=None)
        give("", tree.fd, (look.uid, look.gid), ledger=tree.ledger)
        os.fchmod(tree.fd, look.mode)
        if tree.ledger is not None:
            tree.ledger.save(target, None)
