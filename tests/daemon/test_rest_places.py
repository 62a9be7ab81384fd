"""Where Docker's API is served: addresses, sockets of a service manager, requests of browsers [ENG-42]."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.daemon.rest.origins import refusal_of_browser
from pybuild.daemon.rest.places import PlaceMaker
from pybuild.daemon.sockets import is_loopback, read_address, remove_socket, unix_socket
from pybuild.engine.settings import Daemon
from pybuild.model.errors import UsageError
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
