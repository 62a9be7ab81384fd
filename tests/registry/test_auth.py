"""Logins against the real registry: Basic, and tokens of a real token server [REG-5, REG-6]."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from pybuild.registry.client.transport import TransferLimits
from tests.needs import need
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, make_image
from tests.registry.servers import TokenServer, serve
from tests.registry.vendors import Bearer
from tests.services import RegistryProcess, TokenAuth, start_registry

pytestmark = pytest.mark.registry
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    need("docker-registry")
    path = tmp_path_factory.mktemp("guarded")
    with start_registry(path, htpasswd={"alice": PASSWORD}) as running:
        yield running


def test_basic_login_pushes_and_pulls(
    guarded: RegistryProcess, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    image = make_image(blobs, b"layer" * 500)
    reference = Reference.parse(f"{guarded.host}/private/app:1")
    login = StaticCredentials({guarded.host: Credential("alice", PASSWORD)})

    async def work() -> None:
        async with client(credentials=login) as c:
            await push_image(c, blobs, image, [reference])
            await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)

    run(work())
    assert other_blobs.has(image.digest)


@pytest.mark.parametrize("login", [None, Credential("alice", "wrong")], ids=["none", "wrong"])
def test_refused_push_names_request_and_hints_at_login(
    guarded: RegistryProcess, blobs: DirectoryBlobs, login: Credential | None
) -> None:
    """STYLE section 6; the password is in no message."""
    image = make_image(blobs)
    reference = Reference.parse(f"{guarded.host}/private/app:1")
    credentials = StaticCredentials({guarded.host: login} if login else {})

    async def work() -> None:
        async with client(credentials=credentials) as c:
            with pytest.raises(HttpFault) as caught:
                await push_image(c, blobs, image, [reference])
            assert caught.value.message.startswith(f"push {reference}: HEAD /v2/private/app/blobs/")
            assert caught.value.message.endswith(": 401 UNAUTHORIZED")
            again = ", again or as somebody else: it does not accept what alice sent"
            assert caught.value.hints == (
                f"log in: pybuild login {guarded.host}{again if login else ''}",
            )
            assert "wrong" not in caught.value.message

    run(work())


def test_pull_without_login_says_what_builders_say(guarded: RegistryProcess) -> None:
    """dockerfile.md section 17"""
    reference = Reference.parse(f"{guarded.host}/private/app:1")

    async def work() -> None:
        async with client() as c:
            with pytest.raises(UnresolvedImage) as caught:
                await c.resolve(reference)
            assert caught.value.message == (
                f"failed to resolve source metadata for {reference}: pull access denied, "
                "repository does not exist or may require authorization: "
                "HEAD /v2/private/app/manifests/1: 401 UNAUTHORIZED"
            )

    run(work())


class Tokens:
    """A registry and the token server it trusts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = TokenServer(directory, users={"bob": PASSWORD})
        self.server.refresh_tokens = {"refresh-me": "bob"}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[RegistryProcess, None]:
        async with serve(self.server.handle) as realm:
            auth = TokenAuth(
                f"http://{realm}/token",
                self.server.service,
                self.server.issuer,
                self.server.certificate,
            )
            with start_registry(self.directory, token=auth) as registry:
                yield registry


@pytest.fixture(scope="module")
def token_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("docker-registry")
    return tmp_path_factory.mktemp("token")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["post", "get", "identity"])
def test_bearer_tokens_are_fetched_once_a_scope(
    token_directory: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs, how: str
) -> None:
    tokens = Tokens(token_directory)
    tokens.server.posts = how != "get"
    login = Credential("bob", PASSWORD)
    if how == "identity":
        login = Credential(identity_token="refresh-me")
    image = make_image(blobs, b"one", b"two" * 1000, b"three")

    async def work() -> None:
        async with tokens.running() as registry:
            reference = Reference.parse(f"{registry.host}/team/app:{how}")
            credentials = StaticCredentials({registry.host: login})
            async with client(credentials=credentials) as c:
                await push_image(c, blobs, image, [reference])
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)

    run(work())
    assert other_blobs.has(image.digest)
    asked = tokens.server.asked
    scopes = [" ".join(values["scope"]) for _, values, _ in asked]
    assert set(scopes) == {"repository:team/app:pull,push"}, "a push token serves pulls, too"
    assert [method for method, _, _ in asked] == (["POST", "GET"] if how == "get" else ["POST"])
    if how == "get":
        assert asked[0][1]["grant_type"] == ["password"]
        assert asked[1][2].startswith("Basic ")
    if how == "identity":
        assert asked[0][1]["grant_type"] == ["refresh_token"]


@pytest.mark.slow
def test_anonymous_token_pulls_and_does_not_push(
    token_directory: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    tokens = Tokens(token_directory)
    image = make_image(blobs, b"public")

    async def work() -> None:
        async with tokens.running() as registry:
            reference = Reference.parse(f"{registry.host}/public/app")
            login = StaticCredentials({registry.host: Credential("bob", PASSWORD)})
            async with client(credentials=login) as c:
                await push_image(c, blobs, image, [reference])
            async with client() as c:
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)
                extra = make_image(blobs, b"more")
                with pytest.raises(HttpFault, match="401 UNAUTHORIZED") as caught:
                    await push_image(c, blobs, extra, [reference])
                assert caught.value.hints == (f"log in: pybuild login {registry.host}",)

    run(work())
    assert other_blobs.has(image.digest)


@pytest.mark.slow
def test_tokens_are_refreshed_before_they_end(token_directory: Path, blobs: DirectoryBlobs) -> None:
    """Tokens of no more than a moment: each use fetches another, and none is refused."""
    tokens = Tokens(token_directory)
    tokens.server.lifetime_s = 1
    image = make_image(blobs, b"x")

    async def work() -> None:
        async with tokens.running() as registry:
            reference = Reference.parse(f"{registry.host}/short/app")
            login = StaticCredentials({registry.host: Credential("bob", PASSWORD)})
            now = [1000.0]

            class Hand:
                def now(self) -> float:
                    now[0] += 0.9
                    return now[0]

            async with Client(credentials=login, clock=Hand()) as c:
                await push_image(c, blobs, image, [reference])
                assert (await c.resolve(reference)).digest == image.digest

    run(work())
    assert len(tokens.server.asked) > 2


class FourHours(Bearer):
    """A registry of which every request takes five minutes, and every token is good for ten."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000_000.0
        self.made: dict[str, float] = {}

    def now(self) -> float:
        return self.time

    async def token(self, request: web.Request) -> web.Response | None:
        if request.path != self.realm:
            return None
        if request.method != "GET":
            return web.Response(status=405)
        token = self.issue(request.query.getall("scope", []))
        self.made[token] = self.time
        return web.json_response({"token": token, "expires_in": 600})

    def guard(self, request: web.Request) -> web.Response | None:
        for token, made in self.made.items():
            if self.time > made + 600:
                self.tokens.pop(token, None)
        refusal = super().guard(request)
        self.time += 300
        return refusal


@pytest.mark.slow
def test_a_push_of_four_hours_gets_tokens_as_it_needs_them(
    tmp_path: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    """By a clock that is turned: none is used that has ended, so nothing but the first is refused."""
    door = FourHours()
    image = make_image(blobs, *(bytes([n]) * 1000 for n in range(16)))
    limits = TransferLimits(backoff_s=0.01, connections_per_host=1)

    async def work() -> None:
        async with (
            door.open(tmp_path / "store") as host,
            Client(
                Hosts({host: {"http": True}}),
                StaticCredentials({host: Credential("bob", PASSWORD)}),
                clock=door,
                limits=limits,
            ) as c,
        ):
            at = Reference.parse(f"{host}/long/app:1")
            await push_image(c, blobs, image, [at])
            await pull_image(c, other_blobs, at, LINUX_AMD64, layers=True)

    run(work(), 60)
    assert other_blobs.has(image.digest)
    assert door.time - 1_000_000 > 4 * 3600
    assert len(door.made) > 20
    assert door.refused == 1


@pytest.mark.slow
def test_token_for_mounting_covers_both_repositories(
    token_directory: Path, blobs: DirectoryBlobs
) -> None:
    """[REG-5] scopes merge"""
    tokens = Tokens(token_directory)
    image = make_image(blobs, b"mounted")

    async def work() -> None:
        async with tokens.running() as registry:
            one = Reference.parse(f"{registry.host}/a/one")
            two = Reference.parse(f"{registry.host}/b/two")
            login = StaticCredentials({registry.host: Credential("bob", PASSWORD)})
            async with client(credentials=login) as c:
                await push_image(c, blobs, image, [one, two])
            log = registry.log.read_text()
            assert "PUT /v2/b/two/manifests" in log and "PUT /v2/b/two/blobs" not in log

    run(work())
    scopes = {" ".join(values["scope"]) for _, values, _ in tokens.server.asked}
    assert "repository:a/one:pull repository:b/two:pull,push" in scopes


@pytest.mark.slow
def test_wrong_password_at_the_token_server_is_told(
    token_directory: Path, blobs: DirectoryBlobs
) -> None:
    tokens = Tokens(token_directory)
    image = make_image(blobs)

    async def work() -> None:
        async with tokens.running() as registry:
            reference = Reference.parse(f"{registry.host}/team/app:1")
            login = StaticCredentials({registry.host: Credential("bob", "s3cret-typo")})
            async with client(credentials=login) as c:
                with pytest.raises(HttpFault) as caught:
                    await push_image(c, blobs, image, [reference])
            message = caught.value.message
            assert message.endswith("401 UNAUTHORIZED: incorrect username or password")
            assert "s3cret" not in message and "s3cret" not in repr(caught.value)
            assert "it does not accept what bob sent" in caught.value.hints[0]

    run(work())
