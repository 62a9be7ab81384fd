"""Logins as the large registries want them, each against a double of its door [REG-4..6]."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import DockerCredentials
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, make_image
from tests.registry.vendors import ZEROS, Azure, Door, Ecr, GitHub, Google

pytestmark = pytest.mark.slow
KEY = {"type": "service_account", "client_email": "b@p.iam", "private_key": "-----BEGIN\nx:y\n"}


class Home:
    """A home directory with docker's file and helper programs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "bin").mkdir(parents=True)
        self.environ = {"HOME": str(path), "PATH": f"{path}/bin:{os.environ['PATH']}"}

    def config(self, **content: Any) -> None:
        (self.path / ".docker").mkdir(exist_ok=True)
        (self.path / ".docker/config.json").write_text(json.dumps(content))

    def helper(self, name: str, script: str) -> None:
        program = self.path / f"bin/docker-credential-{name}"
        program.write_text(f'#!/bin/sh\necho "$1" >> "$HOME/{name}.log"\n{script}\n')
        program.chmod(0o755)

    def client(self) -> Client:
        return client(credentials=DockerCredentials(self.environ))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def there_and_back(
    c: Client, at: Reference, blobs: DirectoryBlobs, other: DirectoryBlobs, note: str = ""
) -> None:
    image = make_image(blobs, b"small", b"big" * 5000, note=note)
    await push_image(c, blobs, image, [at])
    await pull_image(c, other, at, LINUX_AMD64, layers=True)
    assert other.has(image.digest)


def test_ecr_takes_a_helpers_password_and_a_new_one_when_that_has_ended(
    home: Home, tmp_path: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    """Its helper has no list, and its passwords end after twelve hours with a 403."""
    door = Ecr(passwords={"first": True})
    secret = home.path / "secret"
    secret.write_text("first")
    home.helper(
        "ecr-login",
        '[ "$1" = get ] || { echo "not implemented"; exit 1; }\n'
        'printf \'{"ServerURL":"x","Username":"AWS","Secret":"%s"}\' "$(cat "$HOME/secret")"',
    )

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            home.config(credHelpers={host: "ecr-login"})
            at = Reference.parse(f"{host}/team/app:1")
            await there_and_back(c, at, blobs, other_blobs)
            assert (home.path / "ecr-login.log").read_text() == "get\n", "asked once, and kept"
            door.passwords = {"first": False, "second": True}
            secret.write_text("second")
            await there_and_back(c, at, blobs, other_blobs, note="twelve hours later")
            door.passwords = {"first": False, "second": False}
            with pytest.raises(HttpFault, match="403 DENIED: Your authorization token has"):
                await c.tags(at)

    run(work(), 60)
    assert not door.leaks and not door.asked


@pytest.mark.parametrize("how", ["_json_key", "_json_key_base64", "oauth2accesstoken", "helper"])
def test_google_takes_keys_and_access_tokens(
    home: Home, tmp_path: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs, how: str
) -> None:
    door = Google(keys=[KEY], access_tokens=["ya29.abc"])
    text = json.dumps(KEY, indent=2)
    password = {
        "_json_key": text,
        "_json_key_base64": base64.b64encode(text.encode()).decode(),
        "oauth2accesstoken": "ya29.abc",
    }.get(how, "")
    home.helper("gcloud", """printf '{"Username":"_dcgcloud_token","Secret":"ya29.abc"}'""")

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            if how == "helper":
                home.config(credHelpers={host: "gcloud"})
            else:
                home.config(auths={host: auth(how, password)})
            await there_and_back(
                c, Reference.parse(f"{host}/project/repo/app:1"), blobs, other_blobs
            )

    run(work(), 60)
    assert not door.leaks
    methods = [method for method, _, _ in door.asked]
    assert methods == ["POST", "GET"], "one token for all, once it is known which way"
    assert door.asked[1][1]["scope"] == ["repository:project/repo/app:pull,push"]


@pytest.mark.parametrize("how", ["identitytoken", "helper", "password"])
def test_azure_takes_the_refresh_token_that_az_has_exchanged(
    home: Home, tmp_path: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs, how: str
) -> None:
    door = Azure()

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"http://{host}/oauth2/exchange",
                    data={"grant_type": "access_token", "service": host, "access_token": "entra"},
                ) as answer,
            ):
                refresh = (await answer.json())["refresh_token"]
            if how == "identitytoken":
                home.config(auths={host: {**auth(ZEROS, ""), "identitytoken": refresh}})
            elif how == "password":
                home.config(auths={host: auth(ZEROS, refresh)})
            else:
                home.helper("acr", f"""printf '{{"Username":"<token>","Secret":"{refresh}"}}'""")
                home.config(credsStore="acr")
            await there_and_back(c, Reference.parse(f"{host}/app:1"), blobs, other_blobs)

    run(work(), 60)
    assert not door.leaks
    assert {method for method, _, _ in door.asked} == {"POST"}
    grant = "password" if how == "password" else "refresh_token"
    assert all(values["grant_type"] == [grant] for _, values, _ in door.asked)


def test_github_gives_tokens_by_get_and_none_for_its_example(
    home: Home, tmp_path: Path, blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    door = GitHub(accounts={"mona": "ghp_x"})

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            home.config(auths={host: auth("mona", "ghp_x")})
            await c.check_login(host)
            assert all("scope" not in values for _, values, _ in door.asked)
            at = Reference.parse(f"{host}/acme/app:1")
            await there_and_back(c, at, blobs, other_blobs)
            # A mount from where we may not read is no reason to fail.
            extra = make_image(blobs, b"more")
            sources = {extra.digest: [f"{host}/foreign/app"]}
            layers = {blobs.put(b"more"): [f"{host}/foreign/app"], **sources}
            await push_image(c, blobs, extra, [at], mount_sources=layers)
            async with client() as nobody:
                await nobody.resolve(at)
                with pytest.raises(HttpFault, match="denied"):
                    await push_image(nobody, blobs, make_image(blobs, b"no"), [at])
        assert {method for method, _, user in door.asked if not user} == {"POST", "GET"}

    run(work(), 60)
    assert not door.leaks


@pytest.mark.parametrize("key", ["https://{}", "https://{}/v2/", "{}"])
def test_a_helper_that_calls_the_host_otherwise_is_asked_for_its_list(
    home: Home, tmp_path: Path, key: str
) -> None:
    """[REG-4] logins of other programs stand under URLs."""
    door: Door = Ecr(passwords={"pw": True})

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            name = key.format(host)
            home.helper(
                "keys",
                'read server\ncase "$1:$server" in\n'
                f'list:*) echo \'{{"{name}": "AWS", "https://other.example": "x"}}\' ;;\n'
                f'"get:{name}") echo \'{{"Username":"AWS","Secret":"pw"}}\' ;;\n'
                '*) echo "credentials not found in native keychain"; exit 1 ;;\nesac',
            )
            home.config(credsStore="keys")
            await c.check_login(host)

    run(work(), 60)
    asked = (home.path / "keys.log").read_text().split()
    assert asked == (["get"] if key == "{}" else ["get", "list", "get"])


def test_a_login_that_is_made_while_we_run_counts(home: Home, tmp_path: Path) -> None:
    door = Ecr(passwords={"pw": True})

    async def work() -> None:
        async with door.open(tmp_path / "store") as host, home.client() as c:
            home.config(auths={host: auth("AWS", "wrong")})
            with pytest.raises(HttpFault, match="401"):
                await c.check_login(host)
            home.config(auths={host: auth("AWS", "pw"), "other.example": auth("a", "b")})
            await c.check_login(host)

    run(work(), 60)
