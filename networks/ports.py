"""The host's side of published ports: sockets that hold them, so that nobody else gets them [NET-24].

What comes by a wire never gets here, since the packet filter leads it on; what does, as from ``::1``,
is carried to the container by `carrying`.
"""

from __future__ import annotations

import _socket
import errno
import os

from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.networks.records import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.networks.order import PortOrder

_BACKLOG = 512
_EPHEMERAL_TRIES = 16
_KINDS = {
    "tcp": (_socket.SOCK_STREAM, 0),
    "udp": (_socket.SOCK_DGRAM, 0),
    "sctp": (_socket.SOCK_STREAM, 132),
}


class HeldPort:
    """A published port and the socket that has it."""

    __slots__ = ("port", "socket")

    def __init__(self, port: Port, socket: _socket.socket) -> None:
        self.port = port
        self.socket = socket


def hold(orders: Sequence[PortOrder], default: str) -> list[HeldPort]:
    """Take all ports, or none; of a range the first that is free.

    Args:
        default: the host's address where none is given; "": all of both versions.

    Raises:
        Fault: environment; one cannot be had.
    """
    held: list[HeldPort] = []
    try:
        for order in orders:
            held += _hold(order, default)
    except BaseException:
        release(held)
        raise
    return held


def hold_again(known: Sequence[Port]) -> list[HeldPort]:
    """Take the ports that another process had, but those that somebody else has by now."""
    held: list[HeldPort] = []
    for port in known:
        try:
            held.append(HeldPort(port, _bind(port.protocol, port.address, port.port)))
        except OSError:
            pass
    return held


def held_again(port: Port, fd: int) -> HeldPort:
    """Return a port with the socket that another process has left for it."""
    family = _socket.AF_INET6 if ":" in port.address else _socket.AF_INET
    type, kind = _KINDS[port.protocol]
    return HeldPort(port, _socket.socket(family, type, kind, fd))


def release(held: Sequence[HeldPort]) -> None:
    for one in held:
        one.socket.close()


def _hold(order: PortOrder, default: str) -> list[HeldPort]:
    address = order.address or default
    addresses = [address] if address else ["0.0.0.0", "::"]
    candidates = range(order.first, order.last + 1) if order.first else [0] * _EPHEMERAL_TRIES
    refusal: OSError | None = None
    for number in candidates:
        try:
            return _bind_all(order, addresses, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _fault(order, addresses[0], number, error) from error
            refusal = error
    if refusal is None:
        raise ValueError("no ports to choose of")
    raise _fault(order, addresses[0], order.first, refusal)


def _bind_all(order: PortOrder, addresses: Sequence[str], number: int) -> list[HeldPort]:
    held: list[HeldPort] = []
    try:
        for address in addresses:
            try:
                socket = _bind(order.protocol, address, number)
            except OSError as error:
                if (
                    address == "::"
                    and held
                    and error.errno
                    in (
                        errno.EAFNOSUPPORT,
                        errno.EADDRNOTAVAIL,
                    )
                ):
                    continue  # a machine without IPv6
                raise
            number = int(socket.getsockname()[1])
            held.append(HeldPort(Port(order.protocol, address, number, order.port), socket))
    except BaseException:
        release(held)
        raise
    return held


def _bind(protocol: str, address: str, number: int) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    type, kind = _KINDS[protocol]
    socket = _socket.socket(family, type | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, kind)
    try:
        if family == _socket.AF_INET6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if type == _socket.SOCK_STREAM:
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        socket.bind((address, number))
        if type == _socket.SOCK_STREAM:
            socket.listen(_BACKLOG)
    except BaseException:
        socket.close()
        raise
    return socket


def accept(listener: _socket.socket) -> _socket.socket:
    """Return the next connection to *listener*, which waits for nothing.

    Raises:
        OSError: there is none.
    """
    fd = int(listener._accept()[0])  # type: ignore[attr-defined]  # pyright: ignore
    client = _socket.socket(listener.family, listener.type, 0, fd)
    client.setblocking(False)
    return client


def _fault(order: PortOrder, address: str, number: int, error: OSError) -> Fault:
    where = f"[{address}]" if ":" in address else address
    what = f"{where}:{number or '*'} for {order.port}/{order.protocol} of the container"
    hints = {
        errno.EADDRINUSE: "publish another port, or end what listens there (ss -ltnup shows it)",
        errno.EADDRNOTAVAIL: "publish on an address that this machine has (ip addr shows them)",
        errno.EACCES: "as root, sysctl net.ipv4.ip_unprivileged_port_start=80 lets everybody",
    }
    reason = (
        "port is already allocated"
        if error.errno == errno.EADDRINUSE
        else (os.strerror(error.errno or 0).lower())
    )
    hint = hints.get(error.errno or 0)
    return Fault(ENVIRONMENT, f"cannot publish {what}: {reason}", (hint,) if hint else ())
