"""Values of ``--ssh`` [SEC-4]."""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.executor.sources.sshoptions import parse_ssh
from pybuild.model.errors import PybuildError, UsageError
from tests.gitservers import make_key


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A socket, by a path that is short enough."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        yield "s"


def test_the_users_agent_is_the_default(agent: str, tmp_path: Path) -> None:
    (found,) = parse_ssh(["default"], {"SSH_AUTH_SOCK": agent})
    assert (found.id, found.socket, found.keys, found.raw) == (
        "default",
        str(tmp_path / "s"),
        (),
        False,
    )
    assert parse_ssh(["x="], {"SSH_AUTH_SOCK": agent})[0].id == "x"
    assert parse_ssh([], {}) == ()


def test_sockets_and_keys_by_id(agent: str, tmp_path: Path) -> None:
    one, two = make_key(tmp_path / "one"), make_key(tmp_path / "two")
    sock, raw, keys = parse_ssh([f"a={agent}", f"b={agent},raw=true", f"c={one},{two}"], {})
    assert (sock.id, sock.raw, raw.raw) == ("a", False, True)
    assert [name for name, _ in keys.keys] == ["one", "two"]
    assert b"PRIVATE KEY" in keys.keys[0][1]
    assert keys.socket == ""
    assert "PRIVATE" not in repr(keys)  # SEC-2: wherever it may be shown


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["default"], "invalid empty ssh agent socket"),
        (["a=s", "a=s"], 'duplicate agent ID "a"'),
        (["a=raw=true"], 'raw mode must supply exactly one socket path for "a"'),
        (["a=s,s,raw=1"], "raw mode must supply exactly one socket path"),
        (["a=s,raw=maybe"], "invalid value for raw: maybe"),
        (["a=s,s"], "only a single socket is allowed"),
        (["a=s,text"], "invalid combination of keys and sockets"),
        (["a=text,raw=true"], "raw mode is for sockets only"),
        (["a=text"], "is neither a private key nor a socket"),
        (["a=nothing"], 'ssh "a": cannot use nothing: no such file'),
    ],
)
def test_what_cannot_be(agent: str, tmp_path: Path, items: list[str], message: str) -> None:
    (tmp_path / "text").write_text("words\n")
    with pytest.raises(PybuildError, match=message):
        parse_ssh(items, {})


def test_an_unset_agent_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_ssh(["default"], {})
    assert caught.value.hints
