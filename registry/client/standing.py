"""Whether a registry of plain HTTP still gives a manifest under a name: one HEAD by a bare socket.

Lean: the proof that nothing has to be pushed loads this, and no event loop. Without a yes the client of
registries asks in earnest.
"""

from __future__ import annotations

import _socket
import os

from pybuild.model.package import USER_AGENT

_PATIENCE_S = 5.0
_MOST_BYTES = 1 << 16
_PIECE_BYTES = 1 << 13
_END = b"\r\n\r\n"


def stands(netloc: str, path: str, media_type: str, digest: str) -> bool:
    """Return whether the server says that *path* is the manifest *digest*; not, where it says anything else.

    Args:
        netloc: ``host:port`` of a server that is spoken to in the clear; not where there is a proxy.
        path: with a leading slash, quoted.

    Raises:
        OSError: it cannot be asked.
    """
    if os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY"):
        return False
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        host, port = netloc, "80"
    ask = (
        f"HEAD {path} HTTP/1.1\r\nHost: {netloc}\r\nUser-Agent: {USER_AGENT}\r\n"
        f"Accept: {media_type}\r\nConnection: close\r\n\r\n"
    )
    status, *lines = _answer(host.strip("[]"), int(port), ask.encode()).split("\r\n")
    if status.split(" ")[1:2] != ["200"]:
        return False
    named = (line.partition(":") for line in lines)
    return [digest] == [
        value.strip() for name, _, value in named if name.lower() == "docker-content-digest"
    ]


def _answer(host: str, port: int, ask: bytes) -> str:
    """Return the status line and the header lines of the answer."""
    family, _, _, _, address = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)[0]
    line = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        line.settimeout(_PATIENCE_S)
        line.connect(address)
        line.sendall(ask)
        data = b""
        while _END not in data and len(data) < _MOST_BYTES:
            piece = line.recv(_PIECE_BYTES)
            if not piece:
                break
            data += piece
    finally:
        line.close()
    return data.partition(_END)[0].decode("latin-1")
