"""A relay before a server of a test, which counts what goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Bytes to and from the server so far."""

    port: int
    sent: int = 0
    received: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def moved(self) -> int:
        return self.sent + self.received

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        with self.lock:
            self.sent += sent
            self.received += received


@contextlib.contextmanager
def relay(port: int) -> Generator[Relay]:
    """Pass connections on to *port* of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener.getsockname()[1])
        thread = threading.Thread(target=_accept, args=(listener, port, relay), daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def _accept(listener: socket.socket, port: int, relay: Relay) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_converse, args=(client, port, relay), daemon=True).start()


def _converse(client: socket.socket, port: int, relay: Relay) -> None:
    with (
        client,
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 10) as server,
    ):
        server.settimeout(None)
        back = threading.Thread(target=_pump, args=(server, client, relay, False), daemon=True)
        back.start()
        _pump(client, server, relay, True)
        back.join()


def _pump(source: socket.socket, target: socket.socket, relay: Relay, is_sent: bool) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            relay.count(**{"sent" if is_sent else "received": len(data)})
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
