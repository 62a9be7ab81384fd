"""Proving who we are: Basic and the Bearer token flow [REG-5, REG-6].

Nothing is sent before a registry asks. After it asked, its answer is remembered, so that a
request costs a second round trip only once, and tokens are shared by everything they cover.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from pybuild.model.clock import Clock
from pybuild.model.dataclass import dataclass
from pybuild.net.http1.faults import HttpFault, printable
from pybuild.registry.client.challenge import Challenge, Scopes, parse_challenges
from pybuild.registry.client.credentials import Credential, Credentials, TokenSource
from pybuild.registry.client.faults import status_text
from pybuild.registry.client.hosts import Endpoint, is_loopback

CLIENT_ID = "pybuild"
_DEFAULT_LIFETIME_S = 60.0
_EARLY_S = 10.0
_BEARER = re.compile(r"[\x21-\x7e]+\Z")
_KEPT_TOKENS = 256


class TokenFetcher(Protocol):
    """The way to a token server; the transport offers it."""

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
        """Ask *realm*; return status and (bounded) body."""
        ...


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    scopes: Scopes
    lifetime_s: float
    expires: float

    def serves(self, scopes: Scopes, now: float) -> bool:
        early = min(_EARLY_S, self.lifetime_s / 5)
        return now < self.expires - early and self.scopes.covers(scopes)


@dataclass(slots=True)
class _Known:
    """The challenges and tokens of one registry so far."""

    basic: str | None = field(default=None, repr=False)
    bearer: Challenge | None = None
    tokens: list[_Token] = field(default_factory=list[_Token], repr=False)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Authenticator:
    """Makes ``Authorization`` headers; one for all registries of a client."""

    def __init__(self, credentials: Credentials, fetcher: TokenFetcher, clock: Clock) -> None:
        self._credentials = credentials
        self._fetcher = fetcher
        self._clock = clock
        self._known: dict[tuple[str, str], _Known] = {}
        self._shown: dict[str, str] = {}  # by registry, the user whose password was sent

    def through(self, fetcher: TokenFetcher) -> Authenticator:
        """Return an authorizer with the same knowledge that reaches token servers by *fetcher*."""
        twin = copy(self)
        twin._fetcher = fetcher
        return twin

    def hints(self, registry: str) -> list[str]:
        """The ways out of a refusal by *registry*, as hints."""
        user = self._shown.get(registry)
        way = f"log in: pybuild login {registry}"
        if user:
            way += f", again or as somebody else: it does not accept what {user} sent"
        return [way, *self.problems]

    def user(self, registry: str) -> str:
        """Whose password *registry* was shown; empty: nobody's."""
        return self._shown.get(registry, "")

    @property
    def problems(self) -> Sequence[str]:
        """Why credentials may be missing; for hints."""
        return self._credentials.problems

    async def header(self, endpoint: Endpoint, path: str, scopes: Scopes) -> str | None:
        """Return the Authorization header for requests that need *scopes*; None: not challenged.

        Raises:
            HttpFault: the token server refuses or makes no sense.
        """
        known = self._known.get((endpoint.registry, endpoint.netloc))
        if known is None:
            return None
        if known.basic is not None:
            return known.basic
        if known.bearer is None:
            return None
        return await self._bearer(endpoint, path, known, known.bearer, scopes)

    async def answer(
        self,
        endpoint: Endpoint,
        path: str,
        scopes: Scopes,
        headers: Sequence[str],
        sent: str | None,
    ) -> str | None:
        """Take a 401 with its challenge *headers*; return another header to try, or None.

        *sent* is the header that was refused; the same one is never returned again.
        """
        key = (endpoint.registry, endpoint.netloc)
        known = self._known.setdefault(key, _Known())
        if sent is not None:
            known.tokens = [t for t in known.tokens if f"Bearer {t.value}" != sent]
        challenges = parse_challenges(headers)
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                known.bearer, known.basic = challenge, None
                needed = scopes
                if scopes.grants:
                    # At its root a registry has nothing to ask for but an example: ghcr.io does.
                    needed |= Scopes.parse(challenge.parameters.get("scope", ""))
                header = await self._bearer(endpoint, path, known, challenge, needed)
                return header if header != sent else None
        for challenge in challenges:
            if challenge.scheme == "basic":
                return await self._other_basic(endpoint, path, known, sent)
        return None

    async def renewed(self, endpoint: Endpoint, path: str, sent: str | None) -> str | None:
        """Return another header after a 403 to the Basic one that was *sent*; None: there is none.

        ECR's passwords are good for twelve hours, and that one has ended it says by 403; whoever keeps
        them may have another by now.
        """
        known = self._known.get((endpoint.registry, endpoint.netloc))
        if known is None or known.basic is None or sent is None:
            return None
        return await self._other_basic(endpoint, path, known, sent)

    async def _other_basic(
        self, endpoint: Endpoint, path: str, known: _Known, sent: str | None
    ) -> str | None:
        """The Basic header that is known by now, if it is another one than was *sent*."""
        async with known.lock:  # so that many requests ask a helper once
            if known.basic is not None and known.basic != sent:
                return known.basic
            credential = await self._credentials.find(endpoint.registry, path)
            if credential is None or not credential.password or _basic(credential) == sent:
                return None
            known.basic = _basic(credential)
            self._shown[endpoint.registry] = printable(credential.username)
            return known.basic

    async def _bearer(
        self, endpoint: Endpoint, path: str, known: _Known, challenge: Challenge, scopes: Scopes
    ) -> str:
        async with known.lock:  # so that many requests for one scope fetch one token
            now = self._clock.now()
            for token in known.tokens:
                if token.serves(scopes, now):
                    return f"Bearer {token.value}"
            known.tokens = [token for token in known.tokens if now < token.expires]
            token = await self._fetch(endpoint, path, challenge.parameters, scopes)
            known.tokens = [token, *known.tokens[: _KEPT_TOKENS - 1]]
            return f"Bearer {token.value}"

    async def _fetch(
        self, endpoint: Endpoint, path: str, parameters: Mapping[str, str], scopes: Scopes
    ) -> _Token:
        realm = parameters["realm"]
        service = parameters.get("service", "")
        source = self._credentials
        if isinstance(source, TokenSource) and not _is_clear_text(endpoint, realm):
            fetched = await source.fetch_token(endpoint.registry, realm, service, scopes.texts())
            if fetched is not None and _BEARER.match(fetched.token):
                facts: dict[str, object] = {"expires_in": fetched.expires_in}
                if fetched.issued_at > 0:
                    facts["issued_at"] = _date(fetched.issued_at)
                now = self._clock.now()
                lifetime = lifetime_of(facts, now)
                return _Token(fetched.token, scopes, lifetime, now + lifetime)
        credential = await self._credentials.find(endpoint.registry, path)
        now = self._clock.now()
        if credential is not None and credential.registry_token:
            return _Token(credential.registry_token, scopes, _DEFAULT_LIFETIME_S, now + 86400.0)
        if credential is not None:
            refuse_clear_text(endpoint, realm)
            self._shown[endpoint.registry] = printable(credential.username)
        status, body = 0, b""
        if credential is not None:
            form = [("scope", " ".join(scopes.texts())), ("service", service)]
            form += [("client_id", CLIENT_ID)]
            if credential.identity_token:
                form += [("grant_type", "refresh_token")]
                form += [("refresh_token", credential.identity_token)]
            else:
                form += [("grant_type", "password"), ("username", credential.username)]
                form += [("password", credential.password)]
            status, body = await self._fetcher.fetch_token(
                endpoint, "POST", realm, query=(), form=form, authorization=None
            )
        # Servers without the form say so in many ways [REG-5]; a wrong login fails once more.
        if credential is None or status in (400, 401, 403, 404, 405):
            query = [("service", service)] if service else []
            query += [("scope", text) for text in scopes.texts()]
            basic = _basic(credential) if credential and credential.password else None
            if basic is not None and credential is not None:
                query += [("account", credential.username)]
            if credential is None or basic is not None:
                status, body = await self._fetcher.fetch_token(
                    endpoint, "GET", realm, query=query, form=(), authorization=basic
                )
        return self._read(realm, status, body, scopes)

    def _read(self, realm: str, status: int, body: bytes, scopes: Scopes) -> _Token:
        server = printable(realm.partition("?")[0])
        if status != 200:
            raise HttpFault(f"token server {server}: {status_text(status, body)}", status=status)
        try:
            answer: dict[str, Any] = json.loads(body)
            value = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            value = None
            answer = {}
        if not isinstance(value, str) or not _BEARER.match(value):
            raise HttpFault(f"token server {server}: its answer holds no token")
        now = self._clock.now()
        lifetime = lifetime_of(answer, now)
        return _Token(value, scopes, lifetime, now + lifetime)


def lifetime_of(answer: Mapping[str, Any], now: float) -> float:
    """Seconds a token is good for from *now*; both clocks may be wrong, so never more than said."""
    seconds = answer.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        seconds = _DEFAULT_LIFETIME_S
    lifetime = float(min(seconds, 86400))
    issued = answer.get("issued_at")
    if isinstance(issued, str):
        try:
            moment = datetime.fromisoformat(issued)
        except ValueError:
            return lifetime
        if moment.tzinfo is not None:
            left = moment.timestamp() + lifetime - now
            if 0 < left < lifetime:  # outside of that one of the clocks is off: use ours
                return left
    return lifetime


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def refuse_clear_text(endpoint: Endpoint, realm: str) -> None:
    """A registry reached by TLS must not make us send a password in the clear."""
    if _is_clear_text(endpoint, realm):
        raise HttpFault(
            f"token server {printable(realm.partition('?')[0])}: "
            "credentials are not sent over plain HTTP",
        )


def _is_clear_text(endpoint: Endpoint, realm: str) -> bool:
    if realm.lower().startswith("https://") or "http" in endpoint.schemes:
        return False
    try:
        host = urlsplit(realm).hostname or ""  # not the text: "http://localhost:x@elsewhere/"
    except ValueError:
        host = ""
    return not is_loopback(f"[{host}]" if ":" in host else host)


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return ""
