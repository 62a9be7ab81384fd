"""The recorder's process: one per step, outside of its namespaces, inside its root.

It is a child of the zygote, so the step can neither see nor signal it. It gives up every capability
but those that a step has and two more: to look into the step's tasks and to follow their chroots.
It ends with the last task of the step, writes down what only it knows, and its end is the step's.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pybuild.executor.zygote import socketcalls, syscalls, ulimits, wire
from pybuild.executor.zygote.recorder import calls
from pybuild.executor.zygote.recorder.claims import Claim, Claims
from pybuild.executor.zygote.recorder.files import FileCalls
from pybuild.executor.zygote.recorder.ids import IdCalls
from pybuild.executor.zygote.recorder.labels import XattrCalls
from pybuild.executor.zygote.recorder.looks import StatCalls
from pybuild.executor.zygote.recorder.owners import Owners
from pybuild.executor.zygote.recorder.peer import Call, Roots, change_root, serve
from pybuild.executor.zygote.users import StepUser
from pybuild.image.layer import ownership
from pybuild.model.border import NamedTuple, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[Call], None]

# CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID SYS_CHROOT SYS_PTRACE MKNOD SYS_NICE SETFCAP
_CAPS = sum(1 << n for n in (0, 1, 3, 4, 6, 7, 18, 19, 27, 23, 31))


class RecorderOrder(NamedTuple):
    """The user that the step believes to be, and the directories whose owners are recorded."""

    user: StepUser
    lowers: tuple[str, ...]
    uppers: tuple[str, ...]


def send(link: _socket.socket, listener: int, order: RecorderOrder) -> None:
    """Tell the recorder what to do; said by the step, whose root is the current one by now."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rights = struct.pack("=2i", listener, root)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
        link.sendmsg([b"!"], ancillary)
        link.sendall(wire.frame(packed(order)))
    finally:
        os.close(root)
        os.close(listener)
        link.close()


def record(link: _socket.socket) -> None:
    """Wait for a step to begin, answer until it has ended. Returns at once if none begins.

    Whatever can be done before is: the step's first program waits for its first answer.
    """
    ulimits.raise_file_limit()
    os.umask(0)
    os.chdir("/proc")
    data, ancillary, _, _ = link.recvmsg(1, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC)
    if not data:
        return
    listener, root = struct.unpack("=2i", ancillary[0][2])
    order: RecorderOrder = unpacked(wire.receive_one(link))
    link.close()
    uppers = [_Upper(path) for path in order.uppers]
    below = ownership.OwnershipNotes(order.lowers)
    change_root(root)
    syscalls.capset(_CAPS, _CAPS, 0)
    owners = Owners(below)
    user = order.user
    table, roots = Claims(Claim.of(user.uid, user.gid, user.groups)), Roots(root)
    serve(listener, roots, _answering(table, owners, roots))
    if owners.has_table:
        for upper in uppers:
            upper.settle(owners, below, root)


_PARTS = (FileCalls, IdCalls, StatCalls, XattrCalls)
_CHROOT, _NOBODY, _SOCKETS = -1, -2, -3
# (which of the parts, its method) by architecture and number
_table: dict[tuple[int, int], tuple[int, str]] = {}


def prepare() -> None:
    """Work out who answers what, once for all recorders."""
    if _table:
        return
    by_name = {name: index for index, part in reversed([*enumerate(_PARTS)]) for name in vars(part)}
    _table[calls.SOCKETCALL] = (_SOCKETS, "")
    for arch, numbers in calls.NUMBERS.items():
        for number, name in {**numbers, **calls.MOVES[arch]}.items():
            _table[arch, number] = (_CHROOT if name == "chroot" else by_name[name], name)
        _table[arch, calls.PRCTL[arch]] = (by_name["prctl"], "prctl")


def _answering(table: Claims, owners: Owners, roots: Roots) -> Answer:
    prepare()
    parts = (FileCalls(table, owners), IdCalls(table, owners), StatCalls(owners), XattrCalls())

    def answer(call: Call) -> None:
        index, name = _table.get((call.arch, call.number), (_NOBODY, ""))
        if index >= 0:
            getattr(parts[index], name)(call)
        elif index == _NOBODY:
            call.fail(errno.ENOSYS)
        elif index == _SOCKETS:
            socketcalls.answer(call)
        else:
            roots.watch = True
            call.proceed()

    return answer


class _Upper:
    """A directory that takes changes, held open from before we left the host's root."""

    def __init__(self, path: str) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._fd = os.open(path, flags)
        self._beside = os.open(os.path.dirname(path), flags)
        self._name = os.path.basename(path)

    def settle(self, owners: Owners, below: ownership.OwnershipNotes, root: int) -> None:
        """Write the list of the new delta: who owns the links and FIFOs that the step left."""
        owners_by_path: dict[bytes, ownership.Ids] = {}
        os.fchdir(self._fd)
        for path, number in ownership.uncarried(b"."):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                ids = owners.remaining(fd)
            finally:
                os.close(fd)
            if ids is None:
                ids = below.owners.get(number) or _seen(owners, below, root, path)
            if ids is not None and ids != (0, 0):
                owners_by_path[path] = ids
        os.fchdir(self._beside)
        ownership.write_list(self._name, owners_by_path)


def _seen(
    owners: Owners, below: ownership.OwnershipNotes, root: int, path: bytes
) -> ownership.Ids | None:
    """Return the owner of a link that was copied up: in the step's tree it has its old number."""
    if not below.owners:
        return None
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        return None
    try:
        return owners.remaining(fd) or below.owners.get(os.fstat(fd).st_ino)
    finally:
        os.close(fd)
