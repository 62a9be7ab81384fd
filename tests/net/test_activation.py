"""Sockets that a service manager hands over (systemd's protocols)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.model.errors import UsageError
from pybuild.net.activation import handed_names, notify


def test_sockets_are_those_of_this_process() -> None:
    own = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "docker:grpc"}
    assert handed_names(own, 7) == ["docker", "grpc"]
    assert handed_names(own, 8) == ()
    assert handed_names({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7) == ["", ""]
    with pytest.raises(UsageError, match="LISTEN_FDS"):
        handed_names({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, 7)


_TAKES = """
import os, sys
from pybuild.net.activation import take
from pybuild.model.errors import UsageError
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    for one in take(os.environ):
        print(one.name, one.is_docker, one.shown, os.get_inheritable(one.socket.fileno()))
except UsageError as error:
    print("error:", error.message)
print("LISTEN_FDS" in os.environ)
"""


def _taken(*sockets: socket.socket, names: str) -> list[str]:
    """Return the words of a process that is handed *sockets*, from descriptor 3 on."""
    count = len(sockets)
    fds = [one.fileno() for one in sockets]
    places = " ".join(f"{3 + at}<&{fd}" for at, fd in enumerate(fds))
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {places}', "bash", sys.executable, "-c", _TAKES],
        env={**os.environ, "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names},
        pass_fds=fds,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_sockets_are_taken_by_their_names(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        port = tcp.getsockname()[1]
        assert _taken(unix, tcp, names="docker:grpc") == [
            f"docker True unix://{tmp_path}/s False",
            f"grpc False tcp://127.0.0.1:{port} False",
            "False",
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            said = _taken(other, names="x")
    assert said == ["error: the socket x does not listen for streams", "False"]


def test_the_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notify("READY=1")  # to nobody
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "n"))
        own.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        notify("READY=1")
        assert own.recv(100) == b"READY=1"
