"""Logging in with Basic and with tokens, TLS with and without client certificates, by real requests."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import bcrypt
import pytest

from pybuild.cache.store import Store
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.model.trust import trusting
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.server.access import MEMBERS, Access, Rule
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import client, run
from tests.registry.fakes import WallClock
from tests.registry.server.serving import Served, served
from tests.registry.servers import Authority


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "htpasswd"
    lines = [
        f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}\n" for name in NAMES
    ]
    path.write_text("".join(lines))
    return str(path)


NAMES = ("ann", "bob")
RULES = Access(
    (
        Rule(
            users=("anonymous",), repositories=("public/*",), actions=frozenset({Permission.PULL})
        ),
        Rule(users=("ann",), repositories=("*",), actions=frozenset(Permission)),
        Rule(users=("bob",), repositories=("team/*",), actions=frozenset({Permission.PULL})),
    )
)


def guarded(users: str, access: Access | None = None, tokens: bool = False) -> RegistrySettings:
    return RegistrySettings(
        access=access or Access((MEMBERS,)),
        htpasswd=users,
        tokens=tokens,
        service="registry.test",
        grace_s=0.2,
    )


def test_basic_lets_in_who_has_a_password(tmp_path: Path, users: str) -> None:
    async def work() -> None:
        async with served(tmp_path / "store", guarded(users)) as one:
            for path in ("/v2/", "/v2/a/tags/list", "/v2/_catalog"):
                stranger = await one.ask("GET", path)
                assert (stranger.status, stranger.code) == (401, "UNAUTHORIZED")
                assert stranger.headers["WWW-Authenticate"].startswith("Basic realm=")
            assert (await one.ask("GET", "/v2/", headers=basic("ann", "ann"))).status == 200
            for wrong in (
                basic("ann", "bob"),
                basic("eve", "eve"),
                basic("", ""),
                {"Authorization": "Basic !"},
                {"Authorization": "Bearer x"},
                {"Authorization": "Digest x"},
            ):
                assert (await one.ask("GET", "/v2/", headers=wrong)).status == 401
            begun = await one.ask("POST", "/v2/a/blobs/uploads/", headers=basic("bob", "bob"))
            assert begun.status == 202

    run(work())


def test_rules_hold_for_each_repository(tmp_path: Path, users: str) -> None:
    async def work() -> None:
        async with served(tmp_path / "store") as one:
            for name in ALL:
                await one.push_image(name, "v1", name.encode())
        async with served(tmp_path / "store", guarded(users, RULES)) as one:

            async def status(method: str, path: str, user: str = "") -> int:
                headers = basic(user, user) if user else {}
                return (await one.ask(method, path, headers=headers)).status

            assert await status("GET", "/v2/public/a/manifests/v1") == 200
            assert await status("GET", "/v2/team/a/manifests/v1") == 401
            assert await status("GET", "/v2/team/a/manifests/v1", "bob") == 200
            assert await status("GET", "/v2/secret/manifests/v1", "bob") == 403
            assert await status("DELETE", "/v2/team/a/manifests/v1", "bob") == 403
            assert await status("POST", "/v2/public/a/blobs/uploads/") == 401
            listed = await one.ask("GET", "/v2/_catalog", headers=basic("bob", "bob"))
            assert listed.json == {"repositories": ["public/a", "team/a"]}
            open_to_all = await one.ask("GET", "/v2/_catalog")
            assert open_to_all.json == {"repositories": ["public/a"]}

    run(work())


ALL = ("public/a", "secret", "team/a")


def test_a_mount_needs_the_right_to_pull_there(tmp_path: Path, users: str) -> None:
    rules = Access(
        (
            Rule(users=("bob",), repositories=("team/*",), actions=frozenset(Permission)),
            Rule(users=("ann",), repositories=("*",), actions=frozenset(Permission)),
        )
    )

    async def work() -> None:
        async with served(tmp_path / "store") as one:
            digest = await one.push_blob("secret", b"secret")
        async with served(tmp_path / "store", guarded(users, rules)) as one:
            for query in (f"?mount={digest}&from=secret", f"?mount={digest}"):
                path = f"/v2/team/a/blobs/uploads/{query}"
                assert (await one.ask("POST", path, headers=basic("bob", "bob"))).status == 202
            path = f"/v2/team/a/blobs/uploads/?mount={digest}&from=secret"
            assert (await one.ask("POST", path, headers=basic("ann", "ann"))).status == 201

    run(work())


async def token(one: Served, scope: str, user: str = "") -> str:
    query = urlencode({"service": "registry.test", "scope": scope})
    headers = basic(user, user) if user else {}
    answer = await one.ask("GET", f"/token?{query}", headers=headers)
    assert answer.status == 200
    assert answer.json["expires_in"] >= 60
    return str(answer.json["token"])


def test_tokens_carry_what_was_asked_for_and_may_be(tmp_path: Path, users: str) -> None:
    async def work() -> None:
        async with served(tmp_path / "store") as one:
            for name in ALL:
                await one.push_image(name, "v1")
        async with served(tmp_path / "store", guarded(users, RULES, tokens=True)) as one:
            probe = await one.ask("GET", "/v2/")
            realm = f'Bearer realm="http://{one.host}/token",service="registry.test"'
            assert (probe.status, probe.headers["WWW-Authenticate"]) == (401, realm)
            path = "/v2/team/a/manifests/v1"
            asked = await one.ask("GET", path)
            assert asked.headers["WWW-Authenticate"] == realm + ',scope="repository:team/a:pull"'

            async def bearer(token: str, path: str, method: str = "GET") -> int:
                headers = {"Authorization": f"Bearer {token}"}
                return (await one.ask(method, path, headers=headers)).status

            bob = await token(one, "repository:team/a:pull,push", "bob")
            assert await bearer(bob, "/v2/") == 200
            assert await bearer(bob, path) == 200
            assert await bearer(bob, "/v2/team/a/blobs/uploads/", "POST") == 401
            assert await bearer(bob, "/v2/secret/manifests/v1") == 401
            stranger = await token(one, "repository:public/a:pull repository:team/a:pull")
            assert await bearer(stranger, "/v2/public/a/manifests/v1") == 200
            assert await bearer(stranger, path) == 401
            assert await bearer(bob[:-2] + "xx", path) == 401
            wrong = await one.ask("GET", "/token", headers=basic("ann", "guess"))
            assert (wrong.status, wrong.code) == (401, "UNAUTHORIZED")
            form = {
                "grant_type": "password",
                "username": "ann",
                "password": "ann",
                "scope": "repository:secret:delete",
                "service": "registry.test",
            }
            urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
            posted = await one.ask("POST", "/token", form, urlencoded)
            assert (
                await bearer(posted.json["access_token"], "/v2/secret/manifests/v1", "DELETE")
                == 202
            )
            refused = await one.ask("POST", "/token", {**form, "grant_type": "x"}, urlencoded)
            assert refused.status == 400
            other = await one.ask("PUT", "/token", {**form}, urlencoded)
            assert (other.status, other.code) == (405, "UNSUPPORTED")
            assert other.headers["Allow"] == "GET, POST"

    run(work())


def test_a_token_of_one_process_holds_for_all_on_the_store(tmp_path: Path, users: str) -> None:
    async def work() -> None:
        settings = guarded(users, RULES, tokens=True)
        async with served(tmp_path / "store", settings) as one:
            mine = await token(one, "registry:catalog:*", "ann")
        async with served(tmp_path / "store", settings) as one:
            headers = {"Authorization": f"Bearer {mine}"}
            assert (await one.ask("GET", "/v2/_catalog", headers=headers)).status == 200

    run(work())


@pytest.mark.parametrize("tokens", [False, True])
def test_our_client_logs_in(tmp_path: Path, users: str, tokens: bool) -> None:
    async def work() -> None:
        async with served(tmp_path / "plain") as one:
            await one.push_image("a", "v1")
        async with (
            served(tmp_path / "plain", guarded(users, tokens=tokens)) as one,
            client(credentials=StaticCredentials({one.host: Credential("ann", "ann")})) as ours,
        ):
            reference = Reference.parse(f"{one.host}/a:v1")
            assert (await ours.resolve(reference)).media_type.endswith("manifest.v1+json")
            assert await ours.tags(reference) == ["v1"]

    run(work())


@pytest.mark.slow
def test_tls_with_and_without_a_certificate_of_the_client(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    settings = RegistrySettings(
        cert=str(authority.cert), key=str(authority.key), ca=str(authority.ca), grace_s=0.2
    )

    async def work() -> None:
        with Store.open(tmp_path / "store", WallClock()) as store:
            async with (
                listening(Hosting(store, settings), ["127.0.0.1:0"]) as [host],
                aiohttp.ClientSession() as session,
            ):
                stranger = trusting(str(authority.ca))
                known = trusting(str(authority.ca))
                known.load_cert_chain(authority.cert, authority.key)
                async with session.get(f"https://{host}/v2/", ssl=known) as response:
                    assert response.status == 200
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"https://{host}/v2/", ssl=stranger)

    run(work())


@pytest.mark.parametrize("key", ["cert", "htpasswd"])
def test_files_that_are_not_there_stop_the_start(tmp_path: Path, key: str) -> None:
    name = str(tmp_path / "nothing")
    settings = RegistrySettings(cert=name) if key == "cert" else RegistrySettings(htpasswd=name)

    async def work() -> None:
        with Store.open(tmp_path / "store", WallClock()) as store:
            async with listening(Hosting(store, settings), ["127.0.0.1:0"]):
                pass

    with pytest.raises(UsageError):
        run(work())
