"""Links, addresses and routes by messages of rtnetlink: a dozen system calls for what a library takes 30 ms.

A socket belongs to the network namespace that it was made in, and so does whatever it is told to do.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pybuild.executor.zygote import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _DUMP = 1, 4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _SETLINK = 16, 17, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _GETROUTE = 24, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_PROTINFO = 18, 28, 12
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_UP = 1
_NODAD = 2
_NESTED = 0x8000
_PIECE_BYTES = 1 << 16
_MAIN_TABLE, _STATIC, _UNIVERSE, _UNICAST = 254, 4, 0, 1


class Rtnetlink:
    """A socket to the kernel's links, addresses and routes; of this process's namespace, or of another's.

    Args:
        namespace: the descriptor of a network namespace; the thread is in its own again afterwards.
    """

    def __init__(self, namespace: int = -1) -> None:
        self._sequence = 0
        with Inside(namespace):
            self._socket = _socket.socket(
                _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0
            )
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._socket.close()

    # --- links ------------------------------------------------------------------------------------

    def add_bridge(self, name: str, mac: bytes, mtu: int = 0) -> None:
        """Make a bridge; OSError with EEXIST: there is a device of that name."""
        attributes = _text(_IFLA_IFNAME, name) + _attribute(_IFLA_ADDRESS, mac)
        if mtu:
            attributes += _number(_IFLA_MTU, mtu)
        attributes += _kind("bridge")
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, _link() + attributes)

    def add_veth(
        self, name: str, master: int, peer: str, namespace: int, mac: bytes, mtu: int = 0
    ) -> None:
        """Make a pair: *name*, up, at the bridge *master*, and *peer* in another namespace."""
        size = _number(_IFLA_MTU, mtu) if mtu else b""
        end = _link() + _text(_IFLA_IFNAME, peer) + _attribute(_IFLA_ADDRESS, mac)
        end += _number(_IFLA_NET_NS_FD, namespace) + size
        attributes = _text(_IFLA_IFNAME, name) + _number(_IFLA_MASTER, master) + size
        attributes += _kind("veth", _attribute(_VETH_PEER | _NESTED, end))
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, _link(up=True) + attributes)

    def set_up(self, index: int) -> None:
        self._ask(_SETLINK, 0, _link(index, up=True))

    def set_master(self, index: int, master: int) -> None:
        """Plug a device into a bridge."""
        self._ask(_SETLINK, 0, _link(index) + _number(_IFLA_MASTER, master))

    def set_port(self, index: int, *, hairpin: bool, isolated: bool) -> None:
        """Let a bridge send back through this port what came in by it, and nothing to other isolated ones."""
        if not (hairpin or isolated):
            return
        flags = _attribute(_BRPORT_MODE, b"\1") if hairpin else b""
        flags += _attribute(_BRPORT_ISOLATED, b"\1") if isolated else b""
        data = _attribute(_IFLA_PROTINFO | _NESTED, flags)
        self._ask(_SETLINK, 0, _link(index, family=_socket.AF_BRIDGE) + data)

    def remove_link(self, name: str) -> bool:
        """Remove a device; False: there is none."""
        try:
            self._ask(_DELLINK, 0, _link() + _text(_IFLA_IFNAME, name))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return True

    # --- addresses and routes ---------------------------------------------------------------------

    def add_address(self, index: int, address: bytes, prefix: int) -> None:
        """Give a device an address, 4 or 16 bytes; that it has it already is no error."""
        family = _family(address)
        body = struct.pack("=BBBBI", family, prefix, 0, 0, index)
        body += _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
        if family == _socket.AF_INET6:
            body += _number(_IFA_FLAGS, _NODAD)  # nobody else gives addresses there
        elif prefix < 31:
            last = int.from_bytes(address, "big") | (1 << 32 - prefix) - 1
            body += _attribute(_IFA_BROADCAST, last.to_bytes(4, "big"))
        try:
            self._ask(_NEWADDR, _CREATE | _EXCLUSIVE, body)
        except FileExistsError:
            pass

    def add_default_route(self, index: int, gateway: bytes) -> None:
        self._route(_CREATE | _EXCLUSIVE, index, gateway)

    def replace_default_route(self, index: int, gateway: bytes) -> None:
        replace = 0x100
        self._route(_CREATE | replace, index, gateway)

    def _route(self, flags: int, index: int, gateway: bytes) -> None:
        family = _family(gateway)
        body = struct.pack(
            "=BBBBBBBBI", family, 0, 0, 0, _MAIN_TABLE, _STATIC, _UNIVERSE, _UNICAST, 0
        )
        body += _attribute(_RTA_GATEWAY, gateway) + _number(_RTA_OIF, index)
        self._ask(_NEWROUTE, flags, body)

    def prefixes(self) -> list[tuple[bytes, int, int]]:
        """Return the prefixes of this machine's addresses and routes: address, length, index of the device."""
        entries: list[tuple[bytes, int, int]] = []
        for data in self._dump(_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            _, prefix, _, _, index = struct.unpack_from("=BBBBI", data)
            attributes = _attributes(data[8:])
            address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if address:
                entries.append((address, prefix, index))
        for data in self._dump(_GETROUTE, bytes(12)):
            prefix, attributes = data[1], _attributes(data[12:])
            index = int.from_bytes(attributes.get(_RTA_OIF, b""), "little")
            if prefix and _RTA_DST in attributes and data[4] == _MAIN_TABLE:
                entries.append((attributes[_RTA_DST], prefix, index))
        return entries

    # --- messages ---------------------------------------------------------------------------------

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, _REQUEST | _ACK | flags, body)
        for type, data in self._answers():
            if type == _ERROR:
                (code,) = struct.unpack_from("=i", data)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        self._send(kind, _REQUEST | _DUMP, body)
        entries: list[bytes] = []
        while True:
            for type, data in self._answers():
                if type == _DONE:
                    return entries
                if type == _ERROR:
                    (code,) = struct.unpack_from("=i", data)
                    raise OSError(-code, os.strerror(-code))
                entries.append(data)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        head = struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0)
        self._socket.send(head + body)

    def _answers(self) -> list[tuple[int, bytes]]:
        data = self._socket.recv(_PIECE_BYTES)
        entries: list[tuple[int, bytes]] = []
        at = 0
        while at + 16 <= len(data):
            size, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
            if size < 16:
                break
            if sequence == self._sequence:
                entries.append((kind, data[at + 16 : at + size]))
            at += size + 3 & ~3
        return entries


class Inside:
    """This thread in another network namespace, for a block; -1 is its own."""

    def __init__(self, namespace: int) -> None:
        self._namespace = namespace
        self._own = -1

    def __enter__(self) -> None:
        if self._namespace >= 0:
            self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(self._namespace, syscalls.CLONE_NEWNET)
            except OSError:
                os.close(self._own)
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._own >= 0:
            try:
                syscalls.setns(self._own, syscalls.CLONE_NEWNET)
            finally:
                os.close(self._own)


def namespace_of(pid: int) -> int:
    """Open the network namespace of a process; -1, which is ours, for 0.

    Raises:
        OSError: it has ended, or is none of ours.
    """
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC) if pid else -1


def index_of(name: str) -> int:
    """Return the number of a device of this namespace, 0: there is none."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return 0


def _family(address: bytes) -> int:
    return int(_socket.AF_INET6 if len(address) == 16 else _socket.AF_INET)


def _link(index: int = 0, *, up: bool = False, family: int = 0) -> bytes:
    return struct.pack("=BBHiII", family, 0, 0, index, _UP if up else 0, _UP if up else 0)


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _kind(name: str, data: bytes = b"") -> bytes:
    info = _text(_INFO_KIND, name)
    if data:
        info += _attribute(_INFO_DATA | _NESTED, data)
    return _attribute(_IFLA_LINKINFO | _NESTED, info)


def _attributes(data: bytes) -> dict[int, bytes]:
    entries: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        entries[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return entries
