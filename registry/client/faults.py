"""The errors that a registry's refusals become [DST-1].

Nothing here holds a query string, a header or a token: messages are made of the method, the path,
the status and the server's own error codes.
"""

from __future__ import annotations

from typing import Any, cast

from pybuild.model import jsontext
from pybuild.model.errors import UserError
from pybuild.net.http1.faults import HttpFault, HungUp, PlainAnswer, Untrusted, printable

_PHRASES = {
    400: "BAD REQUEST",
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "NOT FOUND",
    405: "UNSUPPORTED",
    408: "REQUEST TIMEOUT",
    413: "TOO LARGE",
    416: "RANGE NOT SATISFIABLE",
    429: "TOOMANYREQUESTS",
    500: "INTERNAL SERVER ERROR",
    502: "BAD GATEWAY",
    503: "SERVICE UNAVAILABLE",
    504: "GATEWAY TIMEOUT",
}


class ContentFault(HttpFault):
    """Content that its digest, size or media type contradicts."""


class UnresolvedImage(UserError):
    """No registry knows the image, or it does not tell us."""


def hints_of(error: HttpFault, file: str) -> list[str]:
    """Return the settings in *file* that would change what went wrong below HTTP."""
    match error:
        case Untrusted():
            return [f'trust its authority: ca = ["FILE"] {_where(error, file)}']
        case PlainAnswer():
            return [f"if it speaks plain HTTP: http = true {_where(error, file)}"]
        case HungUp():
            return [f"if {error.authority} wants a certificate of yours, keep it in certs.d"]
        case _:
            return []


def _where(error: HttpFault, file: str) -> str:
    return f'under [registry."{error.authority}"] in {file}'


def error_codes(body: bytes) -> list[tuple[str, str]]:
    """The (code, message) pairs of a distribution error body; empty when it is something else."""
    try:
        value = jsontext.loads(body)
    except (ValueError, RecursionError):
        return []
    errors: object = (
        cast("dict[str, Any]", value).get("errors") if isinstance(value, dict) else None
    )
    if not isinstance(errors, list):
        return []
    pairs: list[tuple[str, str]] = []
    for item in cast("list[object]", errors):
        error = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        code, message = error.get("code"), error.get("message")
        if isinstance(code, str):
            text = message if isinstance(message, str) else ""
            pairs.append((printable(code, 60), printable(text)))
    return pairs


def status_text(status: int, body: bytes) -> str:
    """``401 UNAUTHORIZED``, with the server's own words when they add something."""
    pairs = error_codes(body)
    if not pairs:
        return f"{status} {_PHRASES.get(status, '')}".rstrip()
    code, message = pairs[0]
    words = message.lower().replace(" ", "").replace("_", "")
    if not message or words == code.lower().replace("_", ""):
        return f"{status} {code}"
    return f"{status} {code}: {message}"
