"""Files and helpers that hold logins [REG-3, REG-4]."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.registry.client.credentials import Credential, DockerCredentials, credential_files
from tests.registry.conftest import run


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class Home:
    """A home directory with files and helper programs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path), "PATH": f"{path}/bin:/usr/bin:/bin"}
        (path / "bin").mkdir()

    def config(self, value: object, name: str = ".docker/config.json") -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value))

    def helper(self, name: str, script: str) -> None:
        file = self.path / "bin" / f"docker-credential-{name}"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def find(
        self, host: str, path: str = "", timeout_s: float = 15.0
    ) -> tuple[Credential | None, tuple[str, ...]]:
        credentials = DockerCredentials(self.environ, helper_timeout_s=timeout_s)
        return run(credentials.find(host, path)), tuple(credentials.problems)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("key", "entry", "host", "expected"),
    [
        ("r.example", {"auth": auth("u", "p:q")}, "r.example", Credential("u", "p:q")),
        ("https://r.example", {"auth": auth("u", "p")}, "r.example", Credential("u", "p")),
        ("r.example", {"username": "u", "password": "p"}, "r.example", Credential("u", "p")),
        ("r.example", {"identitytoken": "t"}, "r.example", Credential(identity_token="t")),
        ("r.example", {"registrytoken": "t"}, "r.example", Credential(registry_token="t")),
        (
            "https://index.docker.io/v1/",
            {"auth": auth("u", "p")},
            "docker.io",
            Credential("u", "p"),
        ),
        ("r.example", {"auth": auth("u", "p")}, "other.example", None),
        ("r.example", {}, "r.example", None),
    ],
)
def test_login_is_found_under_its_host(
    home: Home, key: str, entry: dict[str, Any], host: str, expected: Credential | None
) -> None:
    home.config({"auths": {key: entry}})
    assert home.find(host) == (expected, ())


def test_podman_keeps_logins_by_namespace(home: Home) -> None:
    logins = {"r.example/team": auth("team", "1"), "r.example": auth("all", "2")}
    auths = {key: {"auth": value} for key, value in logins.items()}
    home.config({"auths": auths}, ".config/containers/auth.json")
    assert home.find("r.example", "team/app")[0] == Credential("team", "1")
    assert home.find("r.example", "teamwork/app")[0] == Credential("all", "2")


def test_helper_is_asked_and_secrets_are_in_no_repr(home: Home) -> None:
    home.config({"credHelpers": {"r.example": "own"}, "auths": {"r.example": {}}})
    answer = '{"ServerURL":"x","Username":"u","Secret":"hush"}'
    home.helper("own", f"[ \"$1 $(cat)\" = 'get r.example' ] && echo '{answer}'")
    found, problems = home.find("r.example")
    assert found == Credential("u", "hush") and problems == ()
    assert "hush" not in repr(found)


def test_store_is_asked_for_docker_hub_by_its_old_name(home: Home) -> None:
    home.config({"credsStore": "own"})
    script = (
        '[ "$(cat)" = https://index.docker.io/v1/ ] && '
        'echo \'{"Username":"<token>","Secret":"refresh"}\''
    )
    home.helper("own", script)
    assert home.find("docker.io")[0] == Credential(identity_token="refresh")


def test_a_host_is_found_by_the_name_in_the_helpers_own_list(home: Home) -> None:
    """A login by a URL serves for its host; other hosts' names are none of ours."""
    home.config({"credsStore": "own"})
    home.helper(
        "own",
        """
        at=$(cat)
        echo "$1 $at" >> "$HOME/calls"
        case "$1 $at" in
            "list "*) echo '{"https://other.example": "o", "https://r.example/v2/": "u"}' ;;
            "get https://r.example/v2/") echo '{"Username":"u","Secret":"hush"}' ;;
            *) echo credentials not found in native keychain; exit 1 ;;
        esac
        """,
    )
    assert home.find("r.example") == (Credential("u", "hush"), ())
    calls = (home.path / "calls").read_text().splitlines()
    assert [call.strip() for call in calls] == [
        "get r.example",
        "list",
        "get https://r.example/v2/",
    ]
    assert home.find("s.example") == (None, ())


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("cat >/dev/null; echo credentials not found in native keychain; exit 1", None),
        ("cat >/dev/null; echo hush >&2; exit 3", "docker-credential-own: exit status 3"),
        ("echo '{\"Secret\": hush'", "docker-credential-own: its answer cannot be read"),
        ("exec sleep 60", "docker-credential-own: no answer within 0.1 s"),
        ("exec yes", "docker-credential-own: answers without end"),
        (None, "docker-credential-own: not found on PATH"),
    ],
)
def test_helper_in_trouble_is_noted_and_not_fatal(
    home: Home, script: str | None, problem: str | None
) -> None:
    """[REG-4] "credentials not found" is no trouble."""
    home.config({"credsStore": "own"})
    if script is not None:
        home.helper("own", script)
    timeout_s = 0.1 if script == "exec sleep 60" else 15.0
    assert home.find("r.example", "", timeout_s) == (None, (problem,) if problem else ())


def test_helper_name_is_not_a_path(home: Home) -> None:
    home.config({"credsStore": "../../evil"})
    assert home.find("r.example")[1] == ("credential helper '../../evil': not a program name",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"auths": {"r.example": hush}}', "not JSON: line 1 column 25"),
        ("[]", "not a JSON object"),
        ('{"auths": {"r.example": {"auth": "%%hush"}}}', "the auth of r.example cannot be decoded"),
    ],
)
def test_broken_file_is_noted_without_its_content(home: Home, text: str, problem: str) -> None:
    home.config(text)
    found, [noted] = home.find("r.example")
    assert found is None and noted.endswith(f".docker/config.json: {problem}")


def test_files_in_order() -> None:
    environ = {
        "HOME": "/h",
        "DOCKER_CONFIG": "/d",
        "REGISTRY_AUTH_FILE": "/a.json",
        "XDG_RUNTIME_DIR": "/run/1",
    }
    assert credential_files(environ) == [
        "/a.json",
        "/d/config.json",
        "/run/1/containers/auth.json",
        "/h/.config/containers/auth.json",
    ]
    assert credential_files({}) == []


@pytest.mark.parametrize("answer", ['{"Username": "u"}', '{"Username": 1, "Secret": "s"}'])
def test_a_helpers_answer_without_a_login_is_noted(home: Home, answer: str) -> None:
    home.config({"credHelpers": {"r.example": "odd"}})
    home.helper("odd", f"echo '{answer}'")
    found, problems = home.find("r.example")
    assert found is None
    assert problems == ("docker-credential-odd: its answer cannot be read",)


def test_a_helpers_empty_secret_is_no_login(home: Home) -> None:
    home.config({"credHelpers": {"r.example": "odd"}})
    home.helper("odd", """echo '{"Username": "u", "Secret": ""}'""")
    assert home.find("r.example") == (None, ())
