"""The API that answers at an address: Docker's, or BuildKit's, which speaks HTTP/2 alone."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pybuild.client.docker.places import EnginePlace
from pybuild.client.docker.probing import speaks_docker


@pytest.mark.parametrize(
    ("answer", "speaks"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nOK", True),
        (b"HTTP/1.0 200 OK\r\n\r\nOK", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/2.0 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 20", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_docker_is_known_by_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, speaks: bool, family: str
) -> None:
    monkeypatch.chdir(tmp_path)
    server = socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET)
    heard: list[bytes] = []
    with server:
        server.bind("sock" if family == "unix" else ("127.0.0.1", 0))
        server.listen()
        server.settimeout(60)

        def serve() -> None:
            own, _ = server.accept()
            with own:
                own.settimeout(60)
                data = b""
                while not data.endswith(b"\r\n\r\n"):
                    piece = own.recv(1000)
                    if not piece:
                        break
                    data += piece
                heard.append(data)
                with suppress(OSError):  # it reads no more than it needs
                    for at in range(len(answer)):
                        own.sendall(answer[at : at + 1])

        thread = threading.Thread(target=serve)
        thread.start()
        address = (
            f"unix:{tmp_path}/sock"
            if family == "unix"
            else f"tcp://127.0.0.1:{server.getsockname()[1]}"
        )
        assert speaks_docker(EnginePlace(url=address)) is speaks
        thread.join()
    assert heard[0].startswith(b"GET /_ping HTTP/1.1\r\n")


def test_nobody_speaks_nothing(tmp_path: Path) -> None:
    assert not speaks_docker(EnginePlace(url=f"unix://{tmp_path}/none"))
