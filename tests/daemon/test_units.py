"""Units of systemd for the server, and a server that such a manager starts: sockets, READY=1, its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.daemon.units import units, write_units
from tests.needs import needs


def test_the_sockets_have_the_names_by_which_they_are_told_apart() -> None:
    made = units("/usr/bin/pybuild", is_user=False)
    assert "FileDescriptorName=docker\n" in made["pybuild-docker.socket"]
    assert "ListenStream=/run/docker.sock\n" in made["pybuild-docker.socket"]
    assert (
        "docker" not in made["pybuild.socket"].partition("FileDescriptorName=")[2].splitlines()[0]
    )
    service = made["pybuild.service"]
    assert "ExecStart=/usr/bin/pybuild daemon --addr fd:// --docker-address fd://\n" in service
    assert "KillMode=process\n" in service and "Type=notify\n" in service
    mine = units("/usr/bin/pybuild", is_user=True, docker_socket="%t/x.sock")
    assert "ListenStream=%t/x.sock\n" in mine["pybuild-docker.socket"]
    assert "WantedBy=default.target\n" in mine["pybuild.service"]


@pytest.mark.slow
@needs("systemd-analyze")
@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_understands_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_user: bool
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/true"])
    assert write_units(str(tmp_path), is_user=is_user) == ""
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(tmp_path) not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_server_takes_its_managers_sockets_and_tells_when_it_is_ready(tmp_path: Path) -> None:
    """A client that came before the start is answered; the sockets stay the manager's."""
    paths = {name: tmp_path / f"{name}.sock" for name in ("docker", "builds")}
    listeners = [socket.socket(socket.AF_UNIX) for _ in paths]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        for own, path in zip(listeners, paths.values(), strict=True):
            own.bind(str(path))
            own.listen()
        fds = [own.fileno() for own in listeners]
        moved = " ".join(f"{3 + at}<&{fd}" for at, fd in enumerate(fds))
        words = [sys.executable, "-m", "pybuild", "daemon", "--root", str(tmp_path / "store")]
        with (
            socket.socket(socket.AF_UNIX) as early,
            subprocess.Popen(
                ["bash", "-c", f'export LISTEN_PID=$$; exec "$@" {moved}', "bash"]
                + [*words, "--addr", "fd://", "--docker-address", "fd://"],
                env={
                    **os.environ,
                    "LISTEN_FDS": "2",
                    "LISTEN_FDNAMES": ":".join(paths),
                    "NOTIFY_SOCKET": str(tmp_path / "notify"),
                },
                pass_fds=fds,
                stderr=subprocess.DEVNULL,
            ) as server,
        ):
            try:
                early.settimeout(60)
                early.connect(str(paths["docker"]))
                early.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
                assert manager.recv(100) == b"READY=1"
                answer = b"".join(iter(lambda: early.recv(4096), b""))
                assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"OK")
            finally:
                server.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert server.wait(60) == 0
    assert all(path.exists() for path in paths.values())
    for own in listeners:
        own.close()
