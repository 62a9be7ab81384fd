"""A container connected by a process that ends: what it has in memory by then, the helper does without.

That is 2 MB, of which libnftables has a half. What is handed over are the places of the container, and the
sockets of its published ports and of its questions for names.
"""

from __future__ import annotations

import _socket
import marshal
import os
import struct

from pybuild.executor.zygote import syscalls, worker
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.model.border import packed, unpacked
from pybuild.networks import attaching, resolver
from pybuild.networks.ports import HeldPort
from pybuild.networks.rtnetlink import namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pybuild.networks.attaching import Attachment
    from pybuild.networks.order import NetworkOrder

_MOST_SOCKETS = 250  # the kernel sends no more descriptors at once
_MESSAGE_BYTES = 1 << 18


def attach(order: NetworkOrder, pid: int) -> Attachment:
    """Do `attaching.attach` in another process, and return what that has made.

    Raises:
        Fault, OSError: it cannot be; nothing is left of it.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    child, pidfd = syscalls.clone3(0)
    if child == 0:
        _attach(theirs, order, pid)
    theirs.close()
    os.close(pidfd)
    space = _socket.CMSG_SPACE(_MOST_SOCKETS * 4)
    data, rights, _, _ = ours.recvmsg(_MESSAGE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
    ours.close()
    os.waitpid(child, 0)
    sockets = [
        _socket.socket(-1, -1, -1, fd)
        for _, _, sent in rights
        for (fd,) in struct.iter_unpack("=i", sent[: len(sent) // 4 * 4])
    ]
    if not data:
        attaching.remove_devices(attaching.detach(order.folder, order.container, pid))
        raise Fault(ENVIRONMENT, "the process that connects the container ended")
    message = marshal.loads(data)
    if message[0] == "fault":
        raise Fault(message[1], message[2], tuple(message[3]))
    made = attaching.Attachment(order, namespace_of(pid), pid)
    _, places, made.priorities, made.warnings, published = message
    made.places = [(unpacked(network), unpacked(endpoint)) for network, endpoint in places]
    made.held = [HeldPort(unpacked(port), sockets.pop(0)) for port in published]
    if sockets:
        made.questions = (sockets[0], sockets[1])
    return made


def _attach(channel: _socket.socket, order: NetworkOrder, pid: int) -> NoReturn:
    """Do it, and say what came of it. In the process that ends."""
    try:
        _hand_over(channel, order, pid)
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        if isinstance(error, OSError):
            error = attaching.problem(error)
        channel.send(marshal.dumps(worker.fault_message(error)))
    finally:
        os._exit(0)


def _hand_over(channel: _socket.socket, order: NetworkOrder, pid: int) -> None:
    made = attaching.attach(order, pid)
    try:
        sockets = [held.socket for held in made.held]
        if made.answers_names():
            sockets += resolver.open_sockets(made.namespace)
        if len(sockets) > _MOST_SOCKETS:
            raise Fault(
                ENVIRONMENT,
                f"{len(sockets)} sockets of published ports are more than {_MOST_SOCKETS}",
                ("publish fewer ports, or give the container the host's network: --network host",),
            )
        places = [(packed(network), packed(endpoint)) for network, endpoint in made.places]
        published = [packed(held.port) for held in made.held]
        message = ("attached", places, made.priorities, made.warnings, published)
        rights = struct.pack(f"={len(sockets)}i", *(one.fileno() for one in sockets))
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if sockets else []
        channel.sendmsg([marshal.dumps(message)], ancillary)
    except BaseException:
        attaching.remove_devices(attaching.detach(order.folder, order.container, pid))
        raise
