"""Byte streams to an engine: over a Unix socket, TCP, TLS, or a program such as ssh.

Blocking, and of the standard library alone: a command makes a request or two, and what an event loop
costs to load is more than they take. One thread may send while another receives.
"""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

from pybuild.client.docker.places import EnginePlace
from pybuild.model.errors import EnvironmentFault, UsageError

_CONNECT_S = 20.0
_PIECE_BYTES = 1 << 16
_FARAWAY = (
    "if command -v pybuild >/dev/null 2>&1; then exec pybuild system dial-stdio; "
    "else exec docker system dial-stdio; fi"
)


class Pipe(Protocol):
    """A stream both ways, each of which ends for itself."""

    def receive(self, most: int = _PIECE_BYTES) -> bytes:
        """Return the bytes that have come, at least one; none at the end."""
        ...

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def end_input(self) -> None:
        """Say that there comes no more."""
        ...

    def close(self) -> None: ...


class SocketPipe:
    """A socket as it is."""

    def __init__(self, own: socket.socket) -> None:
        self._own = own

    def receive(self, most: int = _PIECE_BYTES) -> bytes:
        return self._own.recv(most)

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None:
        self._own.sendall(data)

    def end_input(self) -> None:
        with suppress(OSError):
            self._own.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)  # who waits for something hears of it
        self._own.close()


class TlsPipe:
    """TLS over a socket; Python's own sockets of TLS cannot end what they say and go on hearing."""

    def __init__(self, own: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._own = own
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._coming, self._going, server_hostname=name)
        self._state = threading.Lock()  # of TLS, never held while waiting for the other side
        self._order = threading.Lock()  # of what is sent
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._hear()
        self._flush()

    def _flush(self) -> None:
        if data := self._going.read():
            self._own.sendall(data)

    def _hear(self) -> None:
        data = self._own.recv(_PIECE_BYTES)
        self._coming.write(data) if data else self._coming.write_eof()

    def receive(self, most: int = _PIECE_BYTES) -> bytes:
        while True:
            try:
                with self._state:
                    return self._tls.read(most)
            except ssl.SSLWantReadError:
                self._hear()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None:
        view = memoryview(data)
        with self._order:
            while view:
                with self._state:
                    view = view[self._tls.write(view[:_PIECE_BYTES]) :]
                    ready = self._going.read()
                self._own.sendall(ready)

    def end_input(self) -> None:
        with self._order:
            with self._state, suppress(ssl.SSLError):
                self._tls.unwrap()  # the other side's word for it comes when it comes
            with suppress(OSError):
                self._flush()

    def close(self) -> None:
        with suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)
        self._own.close()


class _Reading(io.RawIOBase):
    """A pipe as a file to read."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._pipe.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def reading(pipe: Pipe) -> io.BufferedReader:
    """Return a file of what comes."""
    return io.BufferedReader(_Reading(pipe))


def dial(place: EnginePlace) -> Pipe:
    """Connect.

    Raises:
        EnvironmentFault: nobody answers, or somebody else. UsageError: a certificate cannot be used.
    """
    parts = urlsplit(place.url)
    try:
        if parts.scheme == "ssh":
            return _over_ssh(place.url)
        if parts.scheme == "npipe":
            return NamedPipe(open(pipe_path(place.url), "r+b", buffering=0))
        if parts.scheme == "unix":
            return SocketPipe(_unix(parts.path))
        host, port = parts.hostname or "localhost", parts.port or (2376 if place.tls else 2375)
        own = socket.create_connection((host, port), timeout=_CONNECT_S)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.tls is None:
            own.settimeout(None)
            return SocketPipe(own)
        from pybuild.net.tls import make_context

        pipe = TlsPipe(own, make_context(place.tls), place.server_name or host)
        own.settimeout(None)
        return pipe
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise EnvironmentFault(
            f"cannot connect to {place.url}: TLS: {reason.lower().replace('_', ' ')}",
            hints=["--tlscacert, --tlscert and --tlskey name the certificates"],
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            f"cannot connect to {place.url}: {(error.strerror or str(error)).lower()}",
            hints=["start a server there: pybuild daemon --docker-address ADDR"],
        ) from error
    except ValueError as error:
        raise UsageError(f'invalid address "{place.url}": {error}') from error


def pipe_path(url: str) -> str:
    """Return the path of ``npipe:////./pipe/NAME`` as Windows opens it."""
    return url.removeprefix("npipe://").replace("/", "\\")


class NamedPipe:
    """A named pipe of Windows, which is a file to it: nothing is sent while an answer is waited for.

    So requests and their answers go by it, logs and builds too; what is typed into a container meanwhile waits.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def receive(self, most: int = _PIECE_BYTES) -> bytes:
        try:
            return self._file.read(most) or b""
        except BrokenPipeError:  # so Windows says that the other side has closed it
            return b""

    def sendall(self, data: bytes | bytearray | memoryview, /) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def end_input(self) -> None:
        with suppress(OSError):
            self._file.write(b"")  # a message of no bytes is the end, as engines of Windows take it

    def close(self) -> None:
        self._file.close()


def _unix(path: str) -> socket.socket:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this system's Python has no Unix sockets")
    own = socket.socket(family)
    try:
        own.connect(path)
    except OSError:
        own.close()
        raise
    return own


def _over_ssh(url: str) -> Pipe:
    """Run ``ssh``, which runs a program beside the engine that speaks to it."""
    parts = urlsplit(url)
    if not parts.hostname or parts.hostname.startswith("-") or parts.password:
        raise ValueError("expected ssh://[USER@]HOST[:PORT]")
    words = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    words += ["-l", parts.username] if parts.username else []
    words += ["-p", str(parts.port)] if parts.port else []
    return ProgramPipe([*words, "--", parts.hostname, _FARAWAY])


class ProgramPipe(SocketPipe):
    """The standard streams of a program, which threads join to a socket: on all systems alike."""

    def __init__(self, words: Sequence[str]) -> None:
        own, theirs = socket.socketpair()
        super().__init__(own)
        self._theirs = theirs
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        for work in (self._carry_in, self._carry_out):
            threading.Thread(target=work, daemon=True).start()

    def _carry_in(self) -> None:
        to = self._process.stdin
        assert to is not None
        with suppress(OSError), to:
            while data := self._theirs.recv(_PIECE_BYTES):
                view = memoryview(data)
                while view:
                    view = view[to.write(view) :]

    def _carry_out(self) -> None:
        of = self._process.stdout
        assert of is not None
        with suppress(OSError):
            while data := of.read(_PIECE_BYTES):
                self._theirs.sendall(data)
            self._theirs.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        super().close()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
