"""Tokens: what a caller may do, said and signed by this server [REG-5].

JWTs with the claims that registries agree on, so that other servers' clients need not know whose
they are. They are signed with a secret of the store, HMAC-SHA256: whoever checks them made them.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pybuild.cache.repositories.repositories import is_name
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_list, as_number, as_object, parse
from pybuild.registry.server.access import Access, Caller
from pybuild.registry.server.routes import Permission

LIFETIME_S = 300
_LEEWAY_S = 60.0
_HEADER = {"alg": "HS256", "typ": "JWT"}
_CATALOG = ("registry", "catalog")
_MOST_SCOPES = 64

Grant = tuple[str, str, tuple[str, ...]]
"""Type, name and actions of one scope."""


class BadToken(Exception):
    """The token is not one of ours, or not any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Makes and checks the tokens of one service.

    Attributes:
        secret: only the store's owner has it.
        service: the audience of the tokens, as challenges state it.
    """

    secret: bytes
    service: str

    def issue(self, user: str, access: Sequence[Grant], now: float) -> str:
        """Return a token with *access* for *user*, good until `LIFETIME_S` from *now*."""
        claims = {
            "iss": self.service,
            "aud": self.service,
            "sub": user,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + LIFETIME_S,
            "access": [
                {"type": kind, "name": name, "actions": list(actions)}
                for kind, name, actions in access
            ],
        }
        signed = f"{_packed(_HEADER)}.{_packed(claims)}"
        return f"{signed}.{_encoded(self._signature(signed.encode()))}"

    def terms(self, now: float) -> dict[str, Any]:
        """Return the lifetime of a token of *now*, as its answer states it."""
        issued = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"expires_in": LIFETIME_S, "issued_at": issued}

    def caller(self, token: str, now: float) -> Caller:
        """Return the caller that a token names, with the rights that it gives.

        Raises:
            BadToken: forged, for another service, or not valid now.
        """
        parts = unpacked(token)
        # The algorithm is ours to choose: a token that names another is refused, not obeyed.
        if parts.header.get("alg") != _HEADER["alg"]:
            raise BadToken("it is not one of this registry's")
        if not hmac.compare_digest(self._signature(parts.signed), parts.signature):
            raise BadToken("its signature is wrong")
        return caller_of(parts.claims, self.service, self.service, now)

    def _signature(self, signed: bytes) -> bytes:
        return hmac.digest(self.secret, b"token\0" + signed, "sha256")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The parts of a token, none of which is to be believed before *signature* was checked."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def unpacked(token: str) -> Unpacked:
    """Take a token apart; what is no JSON becomes empty."""
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    return Unpacked(
        header=as_object(parse(_decoded(head))),
        claims=as_object(parse(_decoded(body))),
        signed=signed.encode(),
        signature=_decoded(signature),
    )


def caller_of(claims: Mapping[str, Any], issuer: str, service: str, now: float) -> Caller:
    """Return the caller whom verified claims describe.

    Raises:
        BadToken: for another service, or not valid now.
    """
    audience = claims.get("aud")
    if claims.get("iss") != issuer or service not in (audience, *as_list(audience)):
        raise BadToken("it is for another service")
    if as_number(claims.get("exp")) < now - _LEEWAY_S:
        raise BadToken("it has expired")
    if as_number(claims.get("nbf")) > now + _LEEWAY_S:
        raise BadToken("it is not valid yet")
    granted: set[tuple[str, Permission]] = set()
    catalog = False
    for item in as_list(claims.get("access")):
        one = as_object(item)
        kind, name = one.get("type"), one.get("name")
        actions = as_list(one.get("actions"))
        catalog |= (kind, name) == _CATALOG and "*" in actions
        if kind == "repository" and isinstance(name, str):
            granted.update(
                (name, action) for action in Permission if {action, "*"} & set(map(str, actions))
            )
    return Caller(str(claims.get("sub") or ""), frozenset(granted), catalog)


def requested_grants(scopes: Iterable[str]) -> list[Grant]:
    """Read the scopes of a request for a token; what cannot be one is passed over."""
    grants: list[Grant] = []
    for text in " ".join(scopes).split()[:_MOST_SCOPES]:
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        kind = kind.partition("(")[0]
        if (kind, name) == _CATALOG or (kind == "repository" and is_name(name)):
            grants.append((kind, name, tuple(dict.fromkeys(actions.split(",")))))
    return grants


def granted(access: Access, user: str, scopes: Sequence[Grant]) -> list[Grant]:
    """Return those actions of *scopes* that *user* may do; less than was asked for is no error."""
    grants: list[Grant] = []
    for kind, name, actions in scopes:
        if kind == "registry":
            kept = tuple(action for action in actions if action == "*" and access.lists(user))
        else:
            kept = tuple(
                action
                for action in Permission
                if ({action, "*"} & set(actions)) and access.allows(user, name, action)
            )
        grants.append((kind, name, kept))
    return grants


def _packed(value: object) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
