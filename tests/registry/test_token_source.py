"""Credentials that fetch tokens themselves, such as those of a build server's client [REG-6]."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.auth import Authenticator
from pybuild.registry.client.challenge import Scopes
from pybuild.registry.client.credentials import Credential, FetchedToken, StaticCredentials
from pybuild.registry.client.hosts import Endpoint
from tests.registry.conftest import run
from tests.registry.fakes import WallClock

TLS = Endpoint(registry="r.example", netloc="r.example", schemes=("https",))
CHALLENGE = ['Bearer realm="https://auth.example/token",service="reg"']


class Source(StaticCredentials):
    """Fetches tokens, or cannot."""

    def __init__(self, token: FetchedToken | None) -> None:
        super().__init__({"r.example": Credential("me", "pw")})
        self._token = token
        self.asked: list[tuple[str, str, str, tuple[str, ...]]] = []

    async def fetch_token(
        self, host: str, realm: str, service: str, scopes: Sequence[str]
    ) -> FetchedToken | None:
        self.asked.append((host, realm, service, tuple(scopes)))
        return self._token


class Wire:
    """Notes what is sent to token servers."""

    def __init__(self) -> None:
        self.sent: list[str] = []

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
        del endpoint, query, form, authorization
        self.sent.append(f"{method} {realm}")
        return 200, b'{"token":"ours"}'


async def _header(source: Source, wire: Wire, challenge: list[str]) -> str | None:
    authenticator = Authenticator(source, wire, WallClock())
    return await authenticator.answer(TLS, "a", Scopes.parse("repository:a:pull"), challenge, None)


@pytest.mark.parametrize("issued_at", [0, 1, 1 << 62])
def test_a_token_is_fetched_by_who_can_and_no_password_is_asked_for(issued_at: int) -> None:
    source = Source(FetchedToken(token="theirs", expires_in=300, issued_at=issued_at))
    wire = Wire()
    assert run(_header(source, wire, CHALLENGE)) == "Bearer theirs"
    assert source.asked == [
        ("r.example", "https://auth.example/token", "reg", ("repository:a:pull",))
    ]
    assert wire.sent == []


@pytest.mark.parametrize("token", [None, FetchedToken(token=""), FetchedToken(token="a\r\nb: c")])
def test_we_fetch_it_when_they_cannot(token: FetchedToken | None) -> None:
    wire = Wire()
    assert run(_header(Source(token), wire, CHALLENGE)) == "Bearer ours"
    assert wire.sent == ["POST https://auth.example/token"]


def test_nobody_is_made_to_fetch_over_plain_http() -> None:
    source = Source(FetchedToken(token="theirs"))
    with pytest.raises(HttpFault, match="not sent over plain HTTP"):
        run(_header(source, Wire(), ['Bearer realm="http://auth.example/token"']))
    assert source.asked == []
