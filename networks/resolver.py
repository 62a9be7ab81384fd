"""The name server of one container, at 127.0.0.11 in its own network namespace [NET-11, NET-12, NET-13].

Names of containers are answered from the records of networks, all others by the servers that the host
asks, in the host's namespace. The sockets are bound to a port that the kernel chose, and the
container's own packet filter leads port 53 of that address there: so a container may serve port 53.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pybuild.networks import dnsmessages as dns
from pybuild.networks.firewall import firewall
from pybuild.networks.hostfiles import RESOLVER
from pybuild.networks.ports import accept
from pybuild.networks.rtnetlink import Inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybuild.networks.directory import Directory
    from pybuild.networks.events import Events

_PATIENCE_S = 4.0
_MOST_SERVERS = 3
_MOST_WAITING = 1024
_MOST_TCP = 16
_MOST_DESCRIPTORS = 1 << 20
_MESSAGE_BYTES = 1 << 16
_TABLE = "pybuild_names"
_PORT = 53


def open_sockets(namespace: int) -> tuple[_socket.socket, _socket.socket]:
    """Return sockets for UDP and TCP that answer 127.0.0.11:53 in a network namespace.

    Raises:
        OSError: there can be none.
    """
    with Inside(namespace):
        udp, tcp = _bound(0)
        try:
            _lead(int(udp.getsockname()[1]), int(tcp.getsockname()[1]))
        except OSError:
            udp.close()
            tcp.close()
            udp, tcp = _bound(_PORT)  # no packet filter there: then it takes the port itself
    return udp, tcp


def _bound(port: int) -> tuple[_socket.socket, _socket.socket]:
    flags = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | flags)
    tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | flags)
    try:
        udp.bind((RESOLVER, port))
        tcp.bind((RESOLVER, port))
        tcp.listen(_MOST_TCP)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def _lead(udp: int, tcp: int) -> None:
    firewall().run(
        f"""add table ip {_TABLE}
delete table ip {_TABLE}
table ip {_TABLE} {{
 chain questions {{
  type nat hook output priority -100; policy accept;
  ip daddr {RESOLVER} udp dport {_PORT} dnat to {RESOLVER}:{udp}
  ip daddr {RESOLVER} tcp dport {_PORT} dnat to {RESOLVER}:{tcp}
 }}
}}
"""
    )


class Resolver:
    """Answers what comes to its sockets.

    Args:
        servers: asked, one after the other, for names that are no container's.
    """

    def __init__(
        self,
        events: Events,
        directory: Directory,
        servers: Sequence[str],
        udp: _socket.socket,
        tcp: _socket.socket,
    ) -> None:
        self._events = events
        self._directory = directory
        self._servers = tuple(servers)[:_MOST_SERVERS]
        self._udp = udp
        self._tcp = tcp
        self._waiting = 0
        self._children: set[int] = set()
        events.watch(udp.fileno(), self._hear)
        events.watch(tcp.fileno(), self._accept)

    def _hear(self) -> None:
        try:
            message, sender = self._udp.recvfrom(_MESSAGE_BYTES)
        except OSError:
            return
        question = dns.read_question(message)
        reply = self._own_answer(message, question)
        if reply is None:
            self._forward(message, question, sender)
        else:
            most = dns.PLAIN_BYTES if question is None else question.most_bytes
            self._send(dns.fitted(reply, most), sender)

    def _own_answer(self, message: bytes, question: dns.DnsQuestion | None) -> bytes | None:
        """Return the answer that needs nobody else; None: others are to be asked."""
        if question is None or not question.is_query:
            code = dns.FORMERR if question is None else dns.NOTIMP
            return dns.refusal(message, code)
        values = self._directory.answer(question)
        if values is not None:
            return dns.answer(message, question, values)
        if self._directory.is_closed or not self._servers or self._waiting >= _MOST_WAITING:
            return dns.answer(message, question, (), dns.SERVFAIL)
        return None

    def _send(self, message: bytes, receiver: Any) -> None:
        try:
            self._udp.sendto(message, receiver)
        except OSError:
            pass  # who asked is gone

    def _forward(self, message: bytes, question: dns.DnsQuestion | None, sender: Any) -> None:
        def done(reply: bytes) -> None:
            self._waiting -= 1
            if not reply and question is not None:
                reply = dns.answer(message, question, (), dns.SERVFAIL)
            self._send(reply, sender)

        self._waiting += 1
        Forwarded(self._events, message, self._servers, done)

    def _accept(self) -> None:
        """Have a connection served by a process of its own: few ask so, and they may take their time."""
        self._children = {pid for pid in self._children if not _has_ended(pid)}
        try:
            client = accept(self._tcp)
        except OSError:
            return
        if len(self._children) < _MOST_TCP:
            try:
                pid = os.fork()
            except OSError:
                client.close()
                return
            if pid == 0:
                try:
                    # What we hold, such as published ports, is not held up by one who takes long.
                    os.closerange(3, client.fileno())
                    os.closerange(client.fileno() + 1, _MOST_DESCRIPTORS)
                    self._serve(client)
                finally:
                    os._exit(0)
            self._children.add(pid)
        client.close()

    def _serve(self, client: _socket.socket) -> None:
        client.settimeout(_PATIENCE_S * _MOST_SERVERS)
        while message := _receive(client):
            question = dns.read_question(message)
            reply = self._own_answer(message, question)
            if reply is None:
                reply = _ask_by_tcp(message, self._servers)
                if not reply and question is not None:
                    reply = dns.answer(message, question, (), dns.SERVFAIL)
            client.sendall(struct.pack("!H", len(reply)) + reply)


class Forwarded:
    """A question that others are asked, one after the other; *done* gets the answer, or b""."""

    def __init__(
        self,
        events: Events,
        message: bytes,
        servers: Sequence[str],
        done: Callable[[bytes], None],
    ) -> None:
        self._events = events
        self._message = message
        self._servers = list(servers)
        self._done = done
        self._last = b""
        self._socket: _socket.socket | None = None
        self._next()

    def _next(self) -> None:
        self._close()
        while self._servers:
            server = self._servers.pop(0)
            try:
                self._socket = _connected(server, _socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._socket.send(self._message)
            except (OSError, ValueError):
                self._close()
                continue
            self._events.watch(self._socket.fileno(), self._hear)
            self._events.after(_PATIENCE_S, self, self._next)
            return
        self._done(self._last)

    def _hear(self) -> None:
        assert self._socket is not None
        try:
            reply = self._socket.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if reply[:2] != self._message[:2]:
            return
        if dns.code_of(reply) in (dns.SERVFAIL, dns.REFUSED):
            self._last = reply
            self._next()
            return
        self._close()
        self._done(reply)

    def _close(self) -> None:
        self._events.take_back(self)
        if self._socket is not None:
            self._events.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _connected(server: str, type: int) -> _socket.socket:
    """Return a socket connected to a name server, whose address may name a device behind a ``%``."""
    address, _, device = server.partition("%")
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    socket = _socket.socket(family, type | _socket.SOCK_CLOEXEC)
    try:
        socket.settimeout(_PATIENCE_S)
        if family == _socket.AF_INET6:
            scope = _socket.if_nametoindex(device) if device else 0
            socket.connect((address, _PORT, 0, scope))
        else:
            socket.connect((address, _PORT))
    except BaseException:
        socket.close()
        raise
    return socket


def _ask_by_tcp(message: bytes, servers: Sequence[str]) -> bytes:
    last = b""
    for server in servers:
        try:
            socket = _connected(server, _socket.SOCK_STREAM)
            try:
                socket.sendall(struct.pack("!H", len(message)) + message)
                last = _receive(socket)
            finally:
                socket.close()
        except (OSError, ValueError):
            continue
        if last and dns.code_of(last) not in (dns.SERVFAIL, dns.REFUSED):
            break
    return last


def _receive(socket: _socket.socket) -> bytes:
    """Return the next message of a connection, b"": there is none."""
    try:
        head = _exactly(socket, 2)
        return _exactly(socket, struct.unpack("!H", head)[0]) if head else b""
    except OSError:
        return b""


def _exactly(socket: _socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = socket.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except OSError as error:
        return error.errno == errno.ECHILD
