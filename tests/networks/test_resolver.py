"""The name server of a container, asked over real sockets; others are asked on this machine of its own [NET-11…13]."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pybuild.networks import dnsmessages as dns
from pybuild.networks.directory import Directory
from pybuild.networks.events import Events
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.records import NetworkEndpoint
from pybuild.networks.resolver import Resolver
from tests.networks.test_names import query

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

GOOD, REFUSING, FAILING, NOBODY = (f"127.0.0.{number}" for number in (53, 54, 55, 56))


@contextmanager
def name_server(address: str, code: int) -> Generator[None]:
    """Serve one name, or refuse, at port 53 of an address by UDP and TCP."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with udp, tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (udp, tcp):
            one.bind((address, 53))
        tcp.listen()

        def reply(message: bytes) -> bytes:
            question = dns.read_question(message)
            assert question is not None
            values = [] if code else [b"\7\7\7\7"]
            return dns.answer(message, question, values, code)

        def by_udp() -> None:
            while True:
                message, sender = udp.recvfrom(9999)
                if message == b"end":
                    return
                udp.sendto(b"\xff\xff" + reply(message)[2:], sender)  # somebody else's answer
                udp.sendto(reply(message), sender)

        def by_tcp() -> None:
            while True:
                client, _ = tcp.accept()
                with client:
                    head = client.recv(2)
                    if not head:
                        return
                    made = reply(client.recv(9999))
                    client.sendall(struct.pack("!H", len(made)) + made)

        threads = [threading.Thread(target=one) for one in (by_udp, by_tcp)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", (address, 53))
            socket.create_connection((address, 53), 60).close()
            for thread in threads:
                thread.join(60)


class Asked:
    """A resolver for a container that is called ``me``, and who asks it."""

    def __init__(self, folder: Path, servers: tuple[str, ...], *, internal: bool) -> None:
        networks = Networks(str(folder))
        made = networks.create(NewNetwork(name="net", internal=internal))
        own = NetworkEndpoint(
            "c", "me", os.getpid(), addresses=("10.0.0.2/24",), names=("me", "web")
        )
        networks.records.keep(made, own)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for one in (self.udp, self.tcp):
            one.bind(("127.0.0.1", 0))
        self.tcp.listen()
        self.events = Events()
        Resolver(self.events, Directory(networks.records, "c"), servers, self.udp, self.tcp)

    def by_udp(self, message: bytes) -> bytes:
        """Return the answer; this process serves it meanwhile."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(self.udp.getsockname())
            client.send(message)
            client.setblocking(False)
            while True:
                self.events.turn()
                try:
                    return client.recv(9999)
                except BlockingIOError:
                    continue

    def by_tcp(self, message: bytes) -> bytes:
        with socket.create_connection(self.tcp.getsockname(), 60) as client:
            client.sendall(struct.pack("!H", len(message)) + message)
            self.events.turn()
            (size,) = struct.unpack("!H", client.recv(2))
            data = client.recv(9999)
            assert len(data) == size
            return data


@pytest.fixture
def asked(tmp_path: Path) -> Generator[Callable[..., Asked]]:
    with ExitStack() as held:

        def make(*servers: str, internal: bool = False) -> Asked:
            folder = tmp_path / f"{len(servers)}{internal}"
            made = Asked(folder, servers, internal=internal)
            held.callback(made.udp.close)
            held.callback(made.tcp.close)
            return made

        yield make


def ways(one: Asked) -> tuple[Callable[[bytes], bytes], ...]:
    return one.by_udp, one.by_tcp


def test_names_of_containers_need_nobody_else(asked: Callable[..., Asked]) -> None:
    one = asked()
    for ask in ways(one):
        reply = ask(query("web"))
        assert reply[:2] == query("web")[:2] and reply.endswith(b"\n\0\0\2")
        assert dns.code_of(ask(query("nobody"))) == dns.SERVFAIL
        assert dns.code_of(ask(b"\0\7" + bytes(4))) == dns.FORMERR
        update = query("web")[:2] + b"\x28\0" + query("web")[4:]
        assert dns.code_of(ask(update)) == dns.NOTIMP


def test_other_names_are_asked_of_one_server_after_the_other(asked: Callable[..., Asked]) -> None:
    one = asked(NOBODY, REFUSING, GOOD)
    with name_server(REFUSING, dns.REFUSED), name_server(GOOD, 0):
        for ask in ways(one):
            reply = ask(query("far.example"))
            assert dns.code_of(reply) == dns.NOERROR and reply.endswith(b"\7\7\7\7")
        closed = asked(GOOD, internal=True)  # where nobody outside is asked
        assert dns.code_of(closed.by_udp(query("far.example"))) == dns.SERVFAIL


def test_the_last_refusal_is_told_where_nobody_knows(asked: Callable[..., Asked]) -> None:
    one, none = asked(FAILING, REFUSING), asked(NOBODY)
    with name_server(REFUSING, dns.REFUSED), name_server(FAILING, dns.SERVFAIL):
        for ask in ways(one):
            assert dns.code_of(ask(query("far.example"))) == dns.REFUSED
    for ask in ways(none):
        assert dns.code_of(ask(query("far.example"))) == dns.SERVFAIL


def test_three_servers_are_asked_at_most(asked: Callable[..., Asked]) -> None:
    one = asked(NOBODY, NOBODY, NOBODY, GOOD)
    with name_server(GOOD, 0):
        assert dns.code_of(one.by_udp(query("far.example"))) == dns.SERVFAIL
