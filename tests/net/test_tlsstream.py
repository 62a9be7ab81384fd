"""TLS whose sides end one by one, as clients of Docker's API end their input and wait for output [ENG-34]."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from pybuild.net.doorway import Admission, Doorway
from pybuild.net.http1.tlsfiles import KeyPair
from pybuild.net.tls import server_context
from pybuild.net.tlsstream import TlsVisit
from tests import watchdog
from tests.daemon.identities import Authority, Signed, subject
from tests.net.http1sites import Run

_LARGE = 3 << 20


class Echo(asyncio.Protocol):
    """Sends all that it got back when the other side has said that there comes no more."""

    def __init__(self) -> None:
        self.protocol = self
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        self.heard = bytearray()
        self.transport: asyncio.Transport | None = None

    def idle_since(self) -> float | None:
        return None

    def leave(self) -> None: ...
    def abort(self) -> None: ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.begun.set()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.heard += data
        self.transport.pause_reading()  # what is held back by TLS comes all the same
        self.transport.resume_reading()

    def eof_received(self) -> bool:
        assert self.transport is not None
        self.transport.write(self.heard)
        self.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "authority")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Signed:
    return authority.sign(
        subject(("CN", "server")), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )


def _client(authority: Authority, own: Signed | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def _talk(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """Say *data*, end our side of TLS and hear the rest, as Go's ``CloseWrite`` does."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as own:

        def pump() -> None:
            own.sendall(going.read())
            piece = own.recv(1 << 16)
            coming.write(piece) if piece else coming.write_eof()

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pump()
        tls.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        heard = bytearray()
        while True:
            try:
                piece = tls.read(1 << 16)
            except ssl.SSLWantReadError:
                pump()
                continue
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                return bytes(heard)
            heard += piece


async def _served(
    server: Signed, ca: Path, work: Callable[[int], object], echoes: list[Echo]
) -> None:
    """Run *work* with the port in a thread; *echoes* has the connections that came."""
    context = server_context(KeyPair(str(server.certificate), str(server.key)), str(ca))

    def visit() -> TlsVisit:
        echoes.append(Echo())
        return TlsVisit(echoes[-1], context)

    listener = socket.create_server(("127.0.0.1", 0))
    admission = Admission(connections=9, machine=9, waiting=9, begin_s=60, idle_s=60)
    door = Doorway(visit, admission, listener)
    try:
        await asyncio.to_thread(work, listener.getsockname()[1])
        for echo in echoes:
            await echo.gone.wait()
    finally:
        door.close()


@pytest.mark.parametrize("size", [5, _LARGE])
def test_who_ends_what_it_says_hears_the_rest(
    run: Run, authority: Authority, server: Signed, size: int
) -> None:
    context = _client(authority, authority.sign(subject(("CN", "me"))))
    answers: list[bytes] = []
    data = bytes(range(256)) * (size // 256) + b"end"
    with watchdog.ends():
        run(
            _served(
                server, authority.file, lambda port: answers.append(_talk(port, context, data)), []
            )
        )
    assert answers == [data]


@pytest.mark.parametrize("who", ["nobody", "another's", "expired"])
def test_who_has_no_valid_certificate_says_nothing_to_what_is_inside(
    run: Run, authority: Authority, server: Signed, tmp_path: Path, who: str
) -> None:
    own = {
        "nobody": None,
        "another's": Authority(tmp_path, "other").sign(subject(("CN", "me"))),
        "expired": authority.sign(subject(("CN", "me")), is_expired=True),
    }[who]
    context = _client(authority, own)

    def work(port: int) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _talk(port, context, b"x")

    echoes: list[Echo] = []
    with watchdog.ends():
        run(_served(server, authority.file, work, echoes))
    assert [echo.transport for echo in echoes] == [None]


def test_what_is_no_tls_ends_and_a_silent_peer_that_goes_is_gone(
    run: Run, authority: Authority, server: Signed
) -> None:
    def work(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as own:
            own.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while own.recv(100):
                pass
        socket.create_connection(("127.0.0.1", port), timeout=60).close()

    echoes: list[Echo] = []
    with watchdog.ends():
        run(_served(server, authority.file, work, echoes))
    assert all(echo.transport is None for echo in echoes)
