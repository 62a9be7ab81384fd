"""The Authorization header of each request, from a token server and a clock by hand [REG-5, REG-6]."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.auth import Authenticator, lifetime_of, refuse_clear_text
from pybuild.registry.client.challenge import Scopes, pull_scope, push_scope
from pybuild.registry.client.credentials import Credential
from pybuild.registry.client.hosts import Endpoint

HOST = Endpoint("r.example", "r.example")
PULL, PUSH = pull_scope("a"), push_scope("a")
REALM = "https://t.example/token"
BEARER = f'Bearer realm="{REALM}",service="s"'
LOGIN = Credential("mona", "secret")


def basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


class Logins:
    """One login, which may become another."""

    problems: Sequence[str] = ()

    def __init__(self, credential: Credential | None) -> None:
        self.login = credential

    async def find(self, host: str, path: str = "") -> Credential | None:
        return self.login if host == "r.example" else None


class Site:
    """An authenticator with a token server that gives numbered tokens, and statuses as they are set."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.time = 1000.0
        self.statuses: list[int] = []
        self.body: dict[str, Any] = {}
        self.value = ""
        self.asked: list[tuple[str, list[tuple[str, str]], str | None]] = []
        self.logins = Logins(credential)
        self.auth = Authenticator(self.logins, self, self)

    def now(self) -> float:
        return self.time

    async def fetch_token(
        self,
        endpoint: Endpoint,
        method: str,
        realm: str,
        *,
        query: Sequence[tuple[str, str]],
        form: Sequence[tuple[str, str]],
        authorization: str | None,
    ) -> tuple[int, bytes]:
        assert realm == REALM
        self.asked.append((method, [*query, *form], authorization))
        status = self.statuses.pop(0) if self.statuses else 200
        value = self.value or f"t{len(self.asked)}"
        return status, json.dumps({"token": value, **self.body}).encode()

    def header(self, scopes: Scopes = PULL) -> str | None:
        return asyncio.run(self.auth.header(HOST, "a", scopes))

    def answer(
        self, *challenges: str, scopes: Scopes = PULL, sent: str | None = None
    ) -> str | None:
        return asyncio.run(self.auth.answer(HOST, "a", scopes, challenges, sent))


# --- Basic ----------------------------------------------------------------------------------------


def test_nothing_is_sent_before_a_registry_asks() -> None:
    site = Site(LOGIN)
    assert site.header() is None
    assert site.auth.user("r.example") == ""
    assert site.answer("Negotiate") is None
    assert site.header() is None
    assert site.answer("Basic realm=x") == basic(LOGIN)
    assert site.header() == site.header(PUSH) == basic(LOGIN)
    assert site.auth.user("r.example") == "mona"
    elsewhere = Endpoint("r.example", "mirror.example")
    assert asyncio.run(site.auth.header(elsewhere, "a", PULL)) is None


def test_a_password_that_was_refused_is_not_sent_again() -> None:
    site = Site(LOGIN)
    sent = site.answer("Basic realm=x")
    assert site.answer("Basic realm=x", sent=sent) is None
    assert site.answer("Basic realm=x", sent="Basic other") == sent
    for credential in (None, Credential("mona"), Credential(identity_token="i")):
        assert Site(credential).answer("Basic realm=x") is None


def test_a_way_out_of_a_refusal_names_whose_password_was_sent() -> None:
    site = Site(LOGIN)
    assert site.auth.hints("r.example") == ["log in: pybuild login r.example"]
    site.answer("Basic realm=x")
    assert site.auth.hints("r.example") == [
        "log in: pybuild login r.example, again or as somebody else: it does not accept what mona sent"
    ]
    assert site.auth.hints("other.example") == ["log in: pybuild login other.example"]


def test_a_password_that_ended_is_renewed_if_there_is_another() -> None:
    site = Site(LOGIN)

    def renewed(sent: str | None) -> str | None:
        return asyncio.run(site.auth.renewed(HOST, "a", sent))

    assert renewed(basic(LOGIN)) is None
    site.answer("Basic realm=x")
    assert renewed(None) is None
    assert renewed(basic(LOGIN)) is None
    fresh = Credential("mona", "fresh")
    site.logins.login = fresh
    assert renewed(basic(LOGIN)) == basic(fresh)
    assert site.header() == basic(fresh)
    bearer = Site(LOGIN)
    bearer.answer(BEARER)
    assert asyncio.run(bearer.auth.renewed(HOST, "a", "Bearer t1")) is None


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_fetched_without_a_login_and_shared_by_what_it_covers() -> None:
    site = Site()
    assert site.answer(BEARER) == "Bearer t1"
    assert site.asked == [("GET", [("service", "s"), ("scope", "repository:a:pull")], None)]
    assert site.header() == "Bearer t1"
    assert site.header(PUSH) == "Bearer t2"
    assert site.asked[1][1] == [("service", "s"), ("scope", "repository:a:pull,push")]
    assert site.header() == site.header(PUSH) == "Bearer t2"
    assert len(site.asked) == 2


def test_bearer_is_taken_where_both_are_offered_and_only_with_a_realm() -> None:
    assert Site(LOGIN).answer("Basic realm=x", BEARER) == "Bearer t1"
    assert Site(LOGIN).answer("Bearer service=s", "Basic realm=x") == basic(LOGIN)
    assert Site(LOGIN).answer("Bearer service=s") is None
    site = Site()
    site.answer(f'Bearer realm="{REALM}"')
    assert site.asked == [("GET", [("scope", "repository:a:pull")], None)]


def test_the_scope_of_a_challenge_is_asked_for_too_but_at_the_root() -> None:
    challenge = BEARER + ',scope="repository:b:pull"'
    site = Site()
    site.answer(challenge)
    assert site.asked[0][1][1:] == [
        ("scope", "repository:a:pull"),
        ("scope", "repository:b:pull"),
    ]
    root = Site()
    root.answer(challenge, scopes=Scopes())
    assert root.asked[0][1] == [("service", "s")]


def test_a_token_that_was_refused_is_dropped_and_the_same_is_not_sent_again() -> None:
    site = Site()
    sent = site.answer(BEARER)
    assert site.answer(BEARER, sent=sent) == "Bearer t2"
    site.value = "t2"
    assert site.answer(BEARER, sent="Bearer t2") is None


@pytest.mark.parametrize(
    ("expires_in", "good_until"),
    [(300, 290.0), (50, 40.0), (40, 32.0), (60, 50.0), (None, 50.0)],
)
def test_a_token_is_renewed_shortly_before_it_ends(
    expires_in: int | None, good_until: float
) -> None:
    site = Site()
    site.body = {} if expires_in is None else {"expires_in": expires_in}
    site.answer(BEARER)
    site.time = 1000.0 + good_until - 0.5
    assert site.header() == "Bearer t1"
    site.time = 1000.0 + good_until
    assert site.header() == "Bearer t2"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_password_goes_in_a_form_and_else_as_basic(status: int) -> None:
    site = Site(LOGIN)
    site.statuses = [status]
    assert site.answer(BEARER) == "Bearer t2"
    form = [
        *(("scope", "repository:a:pull"), ("service", "s"), ("client_id", "pybuild")),
        *(("grant_type", "password"), ("username", "mona"), ("password", "secret")),
    ]
    query = [("service", "s"), ("scope", "repository:a:pull"), ("account", "mona")]
    assert site.asked == [("POST", form, None), ("GET", query, basic(LOGIN))]
    assert site.auth.user("r.example") == "mona"


def test_other_failures_of_the_form_are_told() -> None:
    site = Site(LOGIN)
    site.statuses = [500]
    with pytest.raises(HttpFault, match=f"^token server {REALM}: 500 INTERNAL SERVER ERROR$") as e:
        site.answer(BEARER)
    assert (e.value.status, len(site.asked)) == (500, 1)


def test_an_identity_token_is_exchanged_and_has_no_other_way() -> None:
    site = Site(Credential("mona", identity_token="refresh"))
    assert site.answer(BEARER) == "Bearer t1"
    [(method, form, authorization)] = site.asked
    assert (method, authorization) == ("POST", None)
    assert form[3:] == [("grant_type", "refresh_token"), ("refresh_token", "refresh")]
    site = Site(Credential("mona", identity_token="refresh"))
    site.statuses = [401]
    with pytest.raises(HttpFault, match="401"):
        site.answer(BEARER)
    assert len(site.asked) == 1


def test_a_token_that_was_given_is_used_as_it_is() -> None:
    site = Site(Credential(registry_token="given"))
    assert site.answer(BEARER) == "Bearer given"
    assert site.asked == []
    site.time += 86400 - 11
    assert site.header() == "Bearer given"


@pytest.mark.parametrize(
    "body", [{"token": ""}, {"token": 3}, {"token": "a b"}, {"token": "a\n"}, {"token": None}]
)
def test_an_answer_without_a_token_is_refused(body: dict[str, object]) -> None:
    site = Site()
    site.body = body
    with pytest.raises(HttpFault, match="its answer holds no token$"):
        site.answer(BEARER)


def test_a_token_may_have_its_other_name() -> None:
    site = Site()
    site.body = {"token": None, "access_token": "other"}
    assert site.answer(BEARER) == "Bearer other"


def test_what_is_known_is_shared_with_who_goes_another_way() -> None:
    one, other = Site(), Site()
    one.answer(BEARER)
    twin = one.auth.through(other)
    assert asyncio.run(twin.header(HOST, "a", PULL)) == "Bearer t1"
    asyncio.run(twin.header(HOST, "a", PUSH))
    assert (len(one.asked), len(other.asked)) == (1, 1)


def test_many_requests_for_one_scope_fetch_one_token() -> None:
    site = Site()

    async def work() -> list[str | None]:
        answers = [site.auth.answer(HOST, "a", PULL, [BEARER], None) for _ in range(5)]
        return list(await asyncio.gather(*answers))

    assert asyncio.run(work()) == ["Bearer t1"] * 5


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("realm", "schemes", "is_refused"),
    [
        ("https://t.example/", ("https",), False),
        ("HTTPS://t.example/", ("https",), False),
        ("http://t.example/?a=b", ("https",), True),
        ("http://t.example/", ("https", "http"), False),
        ("http://localhost:5000/", ("https",), False),
        ("http://127.0.0.1/", ("https",), False),
        ("http://[::1]:5000/", ("https",), False),
        ("http://localhost:x@t.example/", ("https",), True),
        ("http://[x/", ("https",), True),
    ],
)
def test_passwords_are_not_sent_in_the_clear(
    realm: str, schemes: tuple[str, ...], is_refused: bool
) -> None:
    endpoint = Endpoint("r.example", "r.example", schemes=schemes)
    if not is_refused:
        refuse_clear_text(endpoint, realm)
        return
    with pytest.raises(HttpFault, match=": credentials are not sent over plain HTTP$") as caught:
        refuse_clear_text(endpoint, realm)
    assert "a=b" not in caught.value.message


@pytest.mark.parametrize(
    ("answer", "lifetime"),
    [
        ({}, 60.0),
        ({"expires_in": 300}, 300.0),
        ({"expires_in": 0.5}, 0.5),
        ({"expires_in": 0}, 60.0),
        ({"expires_in": -1}, 60.0),
        ({"expires_in": True}, 60.0),
        ({"expires_in": "300"}, 60.0),
        ({"expires_in": 1e9}, 86400.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:15:00Z"}, 200.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:16:40Z"}, 300.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:11:40Z"}, 300.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:11:41Z"}, 1.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:20:00Z"}, 300.0),
        ({"expires_in": 300, "issued_at": "1970-01-01T00:15:00"}, 300.0),
        ({"expires_in": 300, "issued_at": "yesterday"}, 300.0),
        ({"expires_in": 300, "issued_at": 900}, 300.0),
    ],
)
def test_the_lifetime_of_a_token_is_never_more_than_was_said(
    answer: dict[str, Any], lifetime: float
) -> None:
    assert lifetime_of(answer, 1000.0) == lifetime
