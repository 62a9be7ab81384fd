"""Rules, passwords and tokens; each alone."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from pybuild.model.errors import UsageError
from pybuild.registry.server.access import ALL, MEMBERS, Access, Caller, Rule
from pybuild.registry.server.htpasswd import Htpasswd, parse
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.tokens import BadToken, Issuer, granted, requested_grants

PULL, PUSH, DELETE = Permission.PULL, Permission.PUSH, Permission.DELETE
TEAM = Access(
    (
        Rule(users=("anonymous",), repositories=("public/*",), actions=frozenset({PULL})),
        Rule(users=("*",), repositories=("home/$user/*",), actions=frozenset({PULL, PUSH})),
        Rule(users=("ann", "bob"), repositories=("team/*", "one"), actions=frozenset(Permission)),
    )
)


@pytest.mark.parametrize(
    ("user", "repository", "action", "allowed"),
    [
        ("", "public/a/b", PULL, True),
        ("", "public/a", PUSH, False),
        ("", "public", PULL, False),
        ("", "xpublic/a", PULL, False),
        ("cat", "public/a", PULL, True),
        ("cat", "home/cat/x", PUSH, True),
        ("cat", "home/cat/x", DELETE, False),
        ("cat", "home/ann/x", PULL, False),
        ("", "home//x", PULL, False),
        ("ann", "team/x", DELETE, True),
        ("ann", "one", PUSH, True),
        ("ann", "one/two", PUSH, False),
        ("cat", "team/x", PULL, False),
    ],
)
def test_rules_say_who_may(user: str, repository: str, action: Permission, allowed: bool) -> None:
    assert TEAM.allows(user, repository, action) is allowed
    assert TEAM.permits(Caller(user), repository, action) is allowed


def test_a_user_called_like_a_pattern_gets_no_more_than_others() -> None:
    assert not TEAM.allows("*", "team/x", PULL)
    assert not TEAM.allows("a/../ann", "home/ann/x", PULL)
    for user in ("*", "a*", "ann/x", "$user", "..", "Ann", "ann\n"):
        for repository in ("home/ann/x", "home/ann/x/y", "home/*/x", f"home/{user}/x"):
            assert not TEAM.allows(user, repository, PULL), (user, repository)


def test_without_rules_all_who_can_come_in_may_all() -> None:
    assert Access((ALL,)).allows("", "a", DELETE)
    assert Access((MEMBERS,)).allows("ann", "a", DELETE)
    assert not Access((MEMBERS,)).allows("", "a", PULL)


# --- passwords ------------------------------------------------------------------------------------


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def test_passwords_are_checked_and_a_changed_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(f"# people\nann:{hashed(b'secret')}\n\nbob:{hashed('gürtel'.encode())}\n")

    async def work() -> None:
        users = Htpasswd(str(path))
        for _ in range(2):  # the second time from memory
            assert await users.check("ann", "secret")
        assert await users.check("bob", "gürtel")
        for user, password in (("ann", "Secret"), ("ann", ""), ("eve", "secret"), ("bob", "x\0y")):
            assert not await users.check(user, password)
        path.write_text(f"ann:{hashed(b'other')}\n")
        assert not await users.check("ann", "secret")
        assert await users.check("ann", "other")
        path.unlink()
        assert await users.check("ann", "other"), "what was read counts until the file is back"

    asyncio.run(work())


def test_a_remembered_password_is_forgotten_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(f"ann:{hashed(b'secret')}\n")
    time = [0.0]

    async def work() -> None:
        users = Htpasswd(str(path), lambda: time[0])
        assert await users.check("ann", "secret")
        time[0] = 1000.0
        assert await users.check("ann", "secret")
        assert not await users.check("ann", "guess")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann\n", "line 1: expected user:hash"),
        ("ann:$apr1$x$y\n", 'line 1: the hash of "ann" is not bcrypt'),
        ("\nann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", 'line 2: the hash of "ann" is not bcrypt'),
        ("ann:secret", 'line 1: the hash of "ann" is not bcrypt'),
        ("ann:$2y$31$" + "a" * 53, 'line 1: the hash of "ann" is not bcrypt'),
    ],
)
def test_other_hashes_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("users", text)
    assert caught.value.message == f"htpasswd file users, {message}"


def test_a_missing_password_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Htpasswd(str(tmp_path / "nothing"))


# --- tokens ---------------------------------------------------------------------------------------

ISSUER = Issuer(b"k" * 32, "registry.test")


def test_a_token_says_what_it_was_given_for() -> None:
    token = ISSUER.issue("ann", [("repository", "a/b", ("pull", "push"))], 1000.0)
    caller = ISSUER.caller(token, 1200.0)
    assert caller == Caller("ann", frozenset({("a/b", PULL), ("a/b", PUSH)}), catalog=False)
    access = Access((ALL,))
    assert access.permits(caller, "a/b", PUSH)
    assert not access.permits(caller, "a/b", DELETE)
    assert not access.permits(caller, "a", PULL)


def test_a_token_of_the_catalog() -> None:
    token = ISSUER.issue("ann", [("registry", "catalog", ("*",))], 1000.0)
    assert ISSUER.caller(token, 1000.0).catalog


@pytest.mark.parametrize("now", [900.0, 1400.0])
def test_a_token_holds_for_its_time_only(now: float) -> None:
    with pytest.raises(BadToken):
        ISSUER.caller(ISSUER.issue("ann", [], 1000.0), now)


def forged(header: dict[str, Any], signature: bytes = b"") -> str:
    claims = {"iss": "registry.test", "aud": "registry.test", "exp": 9e9, "sub": "root"}
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "...",
        "a.b.c",
        "\u00fc.\u00fc.\u00fc",
        forged({"alg": "none"}),
        forged({"alg": "HS256"}),
        forged({"alg": "HS256"}, b"x" * 32),
        Issuer(b"x" * 32, "registry.test").issue("root", [], 1000.0),
        Issuer(b"k" * 32, "other.test").issue("root", [], 1000.0),
    ],
)
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        ISSUER.caller(token, 1000.0)


def test_scopes_are_read_and_what_is_none_is_passed_over() -> None:
    assert requested_grants(
        ["repository:a/b:pull,push registry:catalog:*", "repository:../x:pull", "x", "repository:a"]
    ) == [("repository", "a/b", ("pull", "push")), ("registry", "catalog", ("*",))]


def test_of_what_is_asked_for_is_granted_what_may_be() -> None:
    scopes = requested_grants(
        ["repository:public/a:pull,push repository:team/x:* registry:catalog:*"]
    )
    assert granted(TEAM, "", scopes) == [
        ("repository", "public/a", ("pull",)),
        ("repository", "team/x", ()),
        ("registry", "catalog", ("*",)),
    ]
    assert granted(TEAM, "ann", scopes)[1] == ("repository", "team/x", ("pull", "push", "delete"))
