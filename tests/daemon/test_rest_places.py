"""Where Docker's API is served: addresses, sockets of a service manager, requests of browsers [ENG-42]."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.daemon.rest.origins import refusal_of_browser
from pybuild.daemon.rest.places import PlaceMaker
from pybuild.daemon.sockets import is_loopback, read_address, remove_socket, unix_socket
from pybuild.engine.settings import Daemon
from pybuild.model.errors import UsageError
from pybuild.net.activation import handed_names, notify
from tests.daemon.identities import Authority, subject


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Host": "127.0.0.1:2375"}, ""),
        ({"Host": "[::1]:2375"}, ""),
        ({"Host": "localhost:2375"}, ""),
        ({"Host": "docker"}, ""),
        ({"Host": "api.moby.localhost"}, ""),
        ({"Host": "host.docker.internal:2375"}, ""),
        ({"Host": "Build.Example.com:2375"}, ""),
        ({}, ""),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, ""),
        ({"Host": "localhost:1", "Sec-Fetch-Site": "none"}, ""),
        ({"Host": "evil.example:2375"}, "none of this machine's names"),
        ({"Host": "127.0.0.1.evil.example"}, "none of this machine's names"),
        ({"Host": "[::1"}, "none of this machine's names"),
        ({"Host": "localhost:1", "Origin": "http://evil.example"}, "web pages"),
        ({"Host": "localhost:1", "Origin": "null"}, "web pages"),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, "web pages"),
        ({"Host": "localhost:1", "Sec-Fetch-Site": "cross-site"}, "web pages"),
    ],
)
def test_pages_and_names_that_others_can_have_are_refused(
    headers: Mapping[str, str], refused: str
) -> None:
    why = refusal_of_browser(headers, {"build.example.com"}, has_certificate=False)
    assert refused in why and bool(why) == bool(refused)


def test_a_certificate_stands_for_the_name_but_not_for_a_page() -> None:
    named = {"Host": "any.example"}
    assert refusal_of_browser(named, (), has_certificate=True) == ""
    page = {**named, "Origin": "https://evil.example"}
    assert "web pages" in refusal_of_browser(page, (), has_certificate=True)


@pytest.mark.parametrize("address", ["tcp://x", "unix://", "http://x:1", "x", "tcp://[::1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="invalid address"):
        read_address(address)


def test_loopback_is_known() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.3.3.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example")))


def _listened(daemon: Daemon, address: str, *, insecure: bool = False) -> bool:
    """Return whether the place, which is made and closed, is open to all."""

    async def work() -> bool:
        places = await PlaceMaker(daemon, insecure=insecure).listen(address)
        for place in places:
            place.listener.close()
        assert not places[0].shown.endswith(":0")
        return places[0].is_open

    return asyncio.run(work())


def test_tcp_beyond_this_machine_needs_certificates_of_both(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    own = authority.sign(subject(("CN", "server")))
    one_sided = Daemon(cert=str(own.certificate), key=str(own.key))
    mutual = Daemon(cert=str(own.certificate), key=str(own.key), ca=str(authority.file))
    for daemon in (Daemon(), one_sided):
        with pytest.raises(UsageError, match="lets everybody who reaches it be this user") as error:
            _listened(daemon, "tcp://0.0.0.0:0")
        assert error.value.hints == ("give --tlscacert, --tlscert and --tlskey, or say --insecure",)
    with pytest.raises(UsageError, match="who shows no certificate"):
        _listened(one_sided, "tcp://127.0.0.1:0")
    assert not _listened(mutual, "tcp://0.0.0.0:0")
    assert _listened(Daemon(), "tcp://127.0.0.1:0")
    assert _listened(Daemon(), "tcp://0.0.0.0:0", insecure=True)


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


def test_the_socket_of_a_server_that_has_followed_stays(tmp_path: Path) -> None:
    """One that ends slowly would take the next one's away."""
    path = tmp_path / "s.sock"
    first = unix_socket(str(path))
    first.close()
    remove_socket(f"unix://{path}")
    assert not path.exists()
    with unix_socket(str(path)) as following:
        following.listen()
        remove_socket(f"unix://{path}")
        assert path.exists()
