"""``login``, ``logout``, ``tags`` and ``search`` at real registries."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.harness import Pybuild, write
from tests.needs import needs
from tests.services import RegistryProcess, start_registry
from tests.webservers import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]

USER, PASSWORD = "ann", "s3cr3t-of-ann"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    where = tmp_path_factory.mktemp("guarded")
    with start_registry(where, htpasswd={USER: PASSWORD}) as registry:
        yield registry


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"DOCKER_CONFIG": str(tmp_path / "docker")}


def test_a_login_is_tried_kept_used_and_forgotten(
    guarded: RegistryProcess, pybuild: Pybuild, tmp_path: Path, env: dict[str, str]
) -> None:
    words = ["login", "-u", USER, "--password-stdin", f"http://{guarded.host}/v2/"]
    refused = pybuild(*words, stdin=b"wrong-one\n", env=env, code=3)
    assert f"{guarded.host} does not accept user name and password of {USER}" in refused.err
    assert "wrong-one" not in refused.err
    assert not (tmp_path / "docker").exists()
    done = pybuild(*words, stdin=f"{PASSWORD}\n".encode(), env=env)
    assert done.out == f"Login Succeeded: {guarded.host}, kept in {tmp_path}/docker/config.json\n"
    for tag in ("2", "10", "1"):
        name = f"{guarded.host}/team/app:{tag}"
        context = write(tmp_path / "ctx", Dockerfile=f"FROM scratch\nLABEL tag={tag}\n")
        pybuild("build", "-t", name, "--push", context, env=env)
    listed = pybuild("tags", f"{guarded.host}/team/app", env=env).out.split()
    assert sorted(listed) == ["1", "10", "2"]
    shown = json.loads(pybuild("tags", "--format", "json", f"{guarded.host}/team/app", env=env).out)
    assert shown == {"name": f"{guarded.host}/team/app", "tags": listed}
    rows = pybuild("search", f"{guarded.host}/APP", env=env).out.splitlines()
    assert [row.split()[0] for row in rows] == ["NAME", f"{guarded.host}/team/app"]
    assert pybuild("logout", guarded.host, env=env).out == (
        f"Removed login credentials for {guarded.host}\n"
    )
    assert pybuild("logout", guarded.host, env=env).out == f"Not logged in to {guarded.host}\n"
    done = pybuild("tags", f"{guarded.host}/team/app", env=env, code=3)
    assert f"hint: log in: pybuild login {guarded.host}" in done.err


def test_who_sits_at_a_terminal_is_asked_and_not_shown(
    guarded: RegistryProcess, pybuild: Pybuild, env: dict[str, str]
) -> None:
    main, other = pty.openpty()
    process = subprocess.Popen(
        pybuild.command("login", guarded.host),
        stdin=other,
        stdout=other,
        stderr=other,
        env={**pybuild.environment, **env},
        start_new_session=True,
    )
    os.close(other)
    said = b""
    try:
        for prompt, answer in ((b"Username", USER), (b"Password", PASSWORD)):
            while prompt not in said:
                said += os.read(main, 1024)
            os.write(main, f"{answer}\n".encode())
        while b"Login Succeeded" not in said:
            said += os.read(main, 1024)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert PASSWORD.encode() not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["login", "r.example"], "nobody to ask: standard input is no terminal"),
        (["login", "--password-stdin", "r.example"], "--password-stdin needs --username"),
        (["login", "-u", "a", "--password-stdin", "r.example"], "must not be empty"),
        (["login", "-u", "a", "-p", "b", "--password-stdin"], "mutually exclusive"),
        (["logout", "not a host"], 'invalid registry "not a host"'),
        (["search", "--limit", "0", "x"], 'invalid limit "0": expected 1 to 100'),
        (["tags", "UPPER"], "must be lowercase"),
    ],
)
def test_what_cannot_be_meant_is_said(
    pybuild: Pybuild, env: dict[str, str], words: list[str], message: str
) -> None:
    assert message in pybuild(*words, env=env, code=2).err


def test_the_search_of_a_registry_that_has_one(pybuild: Pybuild, env: dict[str, str]) -> None:
    """Docker Hub's, as its documentation describes the answer."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(str(request.rel_url))
        star = {"name": "a/one", "description": "first\x1b[31m\nline " + "x" * 60, "star_count": 7}
        plain = {"name": "two", "description": None, "star_count": 0, "is_official": True}
        return web.json_response({"num_results": 2, "results": [star, plain]})

    application = web.Application()
    application.router.add_get("/v1/search", answer)
    with serving(application) as url:
        host = url.removeprefix("http://")
        lines = pybuild("search", "--limit", "5", f"{host}/word", env=env).out.splitlines()
        listed = pybuild("search", "--format", "json", f"{host}/word", env=env).out
    assert asked[0] == "/v1/search?q=word&n=5"
    assert "\x1b" not in "".join(lines)
    assert lines[1].startswith(f"{host}/a/one") and lines[1].endswith("…   7")
    assert lines[2].split() == [f"{host}/two", "0", "[OK]"]
    assert [json.loads(line)["stars"] for line in listed.splitlines()] == [7, 0]
