"""``pybuild login`` and ``logout``: what is read, asked and kept."""

from __future__ import annotations

import base64
import getpass
import json
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.cli import main
from tests.webservers import serving


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that logins are kept in."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))
    return tmp_path / "config.json"


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) in (1, 2, 3)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "key", "shown"),
    [
        ((), "https://index.docker.io/v1/", "docker.io"),
        (("index.docker.io",), "https://index.docker.io/v1/", "docker.io"),
        (("https://registry-1.docker.io/v2/",), "https://index.docker.io/v1/", "docker.io"),
        (("r.example:5000",), "r.example:5000", "r.example:5000"),
        (("https://r.example/v1/",), "r.example", "r.example"),
        (("localhost",), "localhost", "localhost"),
    ],
)
def test_a_login_is_forgotten(
    config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], key: str, shown: str
) -> None:
    config.write_text(json.dumps({"auths": {key: {"auth": "x"}, "other": {"auth": "y"}}}))
    assert main(["logout", *words]) == 0
    assert capsys.readouterr().out == f"Removed login credentials for {shown}\n"
    assert json.loads(config.read_text())["auths"] == {"other": {"auth": "y"}}
    assert main(["logout", *words]) == 0
    assert capsys.readouterr().out == f"Not logged in to {shown}\n"


@pytest.mark.parametrize("text", ["team", "a b.c", "r.example:port", "https://"])
def test_what_is_no_registry(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert refused(capsys, "logout", text) == (
        f'error: invalid registry "{text}"\nhint: a host, perhaps with a port\n'
    )


_HINT = "hint: pass the password: pybuild login -u NAME --password-stdin HOST < FILE\n"


@pytest.mark.parametrize(
    ("words", "data", "message"),
    [
        (
            ("-u=a", "-p=b", "--password-stdin"), b"",
            "error: --password and --password-stdin are mutually exclusive\n",
        ),
        (("--password-stdin",), b"x", "error: --password-stdin needs --username\n"),
        (
            ("-u=a", "--password-stdin"), b"\r\n",
            "error: user name and password must not be empty\n",
        ),
        (("-u=a", "--password-stdin"), b"\xff", "error: the password is not UTF-8\n"),
        (
            ("-u=a", "--password-stdin"), b"x" * 65_537,
            "error: a password of more than 65536 bytes\n",
        ),
        (
            ("-u=a",), b"",
            "error: nobody to ask: standard input is no terminal, and no --password-stdin was given\n"
            + _HINT,
        ),
        (
            (), b"",
            "error: nobody to ask: standard input is no terminal, and no --username was given\n" + _HINT,
        ),
        (
            ("-p=b",), b"",
            ("warning: a password on the command line is seen by others\n"
            "hint: use --password-stdin\n"
            "error: nobody to ask: standard input is no terminal, and no --username was given\n" + _HINT),
        ),
    ],
)  # fmt: skip
def test_user_and_password_are_both_needed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    data: bytes,
    message: str,
) -> None:
    type_in(monkeypatch, data)
    assert refused(capsys, "login", *words, "r.example") == message


def registry(status: int) -> web.Application:
    """A registry that lets in only a@pass with the word b."""
    good = "Basic " + base64.b64encode(b"a:b").decode()

    async def base(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == good:
            return web.Response(text="{}")
        return web.Response(status=status, headers={"WWW-Authenticate": 'Basic realm="r"'})

    application = web.Application()
    application.router.add_get("/v2/", base)
    return application


def test_a_login_that_is_accepted_is_kept(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(registry(401)) as url:
        host = url.rstrip("/").rpartition("/")[2]
        type_in(monkeypatch, b"b\n")
        assert main(["login", "-u", "a", "--password-stdin", host]) == 0
        assert capsys.readouterr().out == f"Login Succeeded: {host}, kept in {config}\n"
        before = config.read_text()
        assert json.loads(before) == {"auths": {host: {"auth": base64.b64encode(b"a:b").decode()}}}
        type_in(monkeypatch, b"c")
        message = f"error: {host} does not accept user name and password of a\n"
        assert message in refused(capsys, "login", "-u", "a", "--password-stdin", host)
        assert config.read_text() == before


def test_who_sits_at_a_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answering(text: str) -> object:
        def answer(prompt: str) -> str:
            asked.append(prompt)
            return text

        return answer

    def gone(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answering(" a "))
    monkeypatch.setattr(getpass, "getpass", answering("b"))
    with serving(registry(401)) as url:
        host = url.rstrip("/").rpartition("/")[2]
        assert main(["login", host]) == 0
    assert asked == [f"Username for {host}: ", "Password: "]
    monkeypatch.setattr(getpass, "getpass", gone)
    capsys.readouterr()
    assert main(["login", "-u", "a", "r.example"]) == 130
    assert capsys.readouterr().err == "error: canceled\n"
