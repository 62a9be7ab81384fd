"""The logins at registries that a request brings in its headers [ENG-15]."""

from __future__ import annotations

import base64
import binascii

from pybuild.daemon.rest.exchange import ApiExchange
from pybuild.daemon.rest.fields import Fields, read_object
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.errors import PybuildError
from pybuild.registry.client.credentials import Credential
from pybuild.registry.client.logins import parse_host


def login_of(exchange: ApiExchange) -> Credential | None:
    """Return the login of ``X-Registry-Auth``; None for none, and what cannot be read [ENG-15]."""
    try:
        return credential_of(_header(exchange, "X-Registry-Auth"))
    except ApiRefusal:
        return None


def logins_of(exchange: ApiExchange) -> dict[str, Credential]:
    """Return the logins of ``X-Registry-Config``, by host."""
    logins: dict[str, Credential] = {}
    try:
        fields = _header(exchange, "X-Registry-Config")
        for host, one in Fields({"hosts": fields.whole()}).maps("hosts").items():
            if login := credential_of(one):
                logins[parse_host(host)] = login
    except (ApiRefusal, PybuildError):
        return {}
    return logins


def _header(exchange: ApiExchange, name: str) -> Fields:
    """Return the object of a header in base64 of either alphabet, its padding or not; empty where it cannot be read."""
    text = exchange.request.headers.get(name, "").rstrip("=")
    text = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    try:
        return read_object(base64.b64decode(text))
    except (ValueError, binascii.Error):
        return Fields({})


def credential_of(fields: Fields) -> Credential | None:
    """Return the login that Docker's AuthConfig is; None: it is empty."""
    known = Credential(
        username=fields.text("username"),
        password=fields.text("password"),
        identity_token=fields.text("identitytoken"),
        registry_token=fields.text("registrytoken"),
    )
    return known if known != Credential() else None
