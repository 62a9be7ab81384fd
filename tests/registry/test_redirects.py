"""Redirects of servers, and secrets that do not follow them [REG-5, REG-11]."""

from __future__ import annotations

import pytest
from aiohttp import web

from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.auth import refuse_clear_text
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.client.hosts import Endpoint, Hosts
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs
from tests.registry.servers import serve
from tests.services import RegistryProcess


def test_redirect_to_another_host_carries_no_login(other_blobs: DirectoryBlobs) -> None:
    """[REG-11] the blob comes, the password stays."""
    data = b"from the other side"
    descriptor = Descriptor("x", Digest.of(data), len(data))
    elsewhere: list[dict[str, str]] = []
    at_home: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        elsewhere.append(dict(request.headers))
        return web.Response(body=data)

    async def work() -> None:
        async with serve(other) as there:

            async def home(request: web.Request) -> web.StreamResponse:
                at_home.append(request.headers.get("Authorization", ""))
                if "Authorization" not in request.headers:
                    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
                place = f"http://{there}/signed?X=a%2Fb"
                return web.Response(status=307, headers={"Location": place})

            async with serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)

    run(work())
    assert at_home == ["", "Basic dTpw"]
    assert len(elsewhere) == 1 and "Authorization" not in elsewhere[0]
    assert other_blobs.read(descriptor.digest) == data


def test_challenge_of_a_redirect_target_is_not_answered(other_blobs: DirectoryBlobs) -> None:
    """Else any host that a registry points at could ask for its login."""
    asked: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Authorization", ""))
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give"'})

    async def work() -> None:
        async with serve(other) as there:

            async def home(request: web.Request) -> web.StreamResponse:
                return web.Response(status=302, headers={"Location": f"http://{there}/x"})

            async with serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p"), there: Credential("v", "q")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    with pytest.raises(HttpFault, match="401"):
                        await c.blob(
                            Reference.parse(f"{host}/a/b"), Descriptor("x", Digest.of(b""), 0)
                        )

    run(work())
    assert asked == [""]


def test_a_token_server_left_once_gets_no_login_by_a_detour() -> None:
    """[REG-11] else a stranger would choose what it is asked with our name."""
    asked: list[tuple[str, bool]] = []
    token_server = ""

    async def other(request: web.Request) -> web.StreamResponse:
        asked.append(("other", "Authorization" in request.headers))
        return web.Response(status=302, headers={"Location": f"http://{token_server}/chosen"})

    async def work() -> None:
        nonlocal token_server
        async with serve(other) as there:

            async def tokens(request: web.Request) -> web.StreamResponse:
                asked.append((request.path, "Authorization" in request.headers))
                if request.method == "POST":
                    return web.Response(status=405)
                if request.path == "/token":
                    return web.Response(status=302, headers={"Location": f"http://{there}/x"})
                return web.json_response({"token": "t"})

            async def home(request: web.Request) -> web.StreamResponse:
                if request.headers.get("Authorization") == "Bearer t":
                    return web.json_response({"tags": ["one"]})
                challenge = f'Bearer realm="http://{token_server}/token",service="s"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})

            async with serve(tokens) as token_server, serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    assert await c.tags(Reference.parse(f"{host}/a/b")) == ["one"]

    run(work())
    assert [entry for entry in asked if entry[0] != "/token"] == [
        ("other", False),
        ("/chosen", False),
    ]
    assert ("/token", True) in asked


def test_redirects_without_end_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.path_qs})

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(EnvironmentFault, match="more than 10 redirects"):
                await c.resolve(Reference.parse(f"{host}/a/b"))

    run(work())


def test_token_server_in_the_clear_gets_no_password_of_a_tls_registry() -> None:
    """[REG-5] hostile realms, among them one that only looks like loopback"""
    tls = Endpoint("r.example", "r.example")
    for realm in ("http://t.example/token", "http://localhost:x@t.example/", "http://[::2]/"):
        with pytest.raises(HttpFault, match="credentials are not sent over plain HTTP"):
            refuse_clear_text(tls, realm)
    for realm in ("https://t.example/token", "http://127.0.0.1:5001/token", "http://[::1]:1/"):
        refuse_clear_text(tls, realm)


@pytest.mark.registry
def test_plain_http_where_it_is_not_allowed_hints_at_the_setting(
    registry: RegistryProcess,
) -> None:
    """[REG-2, REG-9] only loopback falls back, and not when http = false says so."""

    async def work() -> None:
        async with client(Hosts({registry.host: {"http": False}})) as c:
            with pytest.raises(HttpFault) as caught:
                await c.resolve(Reference.parse(f"{registry.host}/a/b:1"))
            assert "server gave HTTP response to HTTPS client" in caught.value.message
            assert caught.value.hints == (
                f'if it speaks plain HTTP: http = true under [registry."{registry.host}"] in pybuild.toml',
            )

    run(work())
