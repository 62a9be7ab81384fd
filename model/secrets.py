"""Variables and values that are likely secrets, so that nothing of ours repeats them.

A guess by name or by look, as people and scanners make it. What it takes for a secret is never
shown or kept in the clear; whether it changed still shows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_NAME = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_NO_NAME = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
# The prefixes by which issuers let their tokens be found, a key in PEM, a token in three parts.
_VALUE = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|sk-[\w-]{20,}|npm_\w{30,}|pypi-[\w-]{30,}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
# One of these is in whatever the pattern matches: looking for them first is much faster.
_MARKS = re.compile(
    r"gh[pousr]_|github_pat_|glpat-|xox|A[KS]IA|sk-|npm_|pypi-|AIza|eyJ|-----BEGIN "
)
_USERINFO = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")
_MARK = "[redacted"
_TELLING = 6
_MASK = "xxxxx"
_USER = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)@")


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name should not be shown."""
    return bool(_NAME.search(name)) and not _NO_NAME.search(name)


def redacted(value: str) -> str:
    """Return *value* without the parts that look like secrets."""
    if _MARKS.search(value):
        value = _VALUE.sub(_stand_in, value)
    return _USERINFO.sub(_stand_in, value) if "@" in value and "://" in value else value


def without_secrets(url: str) -> str:
    """Mask the user and password of a URL; the user of ssh is no secret."""

    def mask(match: re.Match[str]) -> str:
        scheme, user = match.groups()
        if ":" in user:
            return f"{scheme}://{_MASK}:{_MASK}@"
        return match[0] if scheme.lower() == "ssh" else f"{scheme}://{_MASK}@"

    return _USER.sub(mask, url, count=1)


def secret_values(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables that should not be shown, wherever they are repeated.

    The longest first, as one may be part of another; short ones are parts of anything.
    """
    values = {
        value
        for name, value in variables.items()
        if len(value) >= _TELLING and is_secret_name(name)
    }
    return tuple(sorted(sorted(values), key=len, reverse=True))


def without(value: Any, secrets: Iterable[str]) -> Any:
    """Return a JSON value without what looks secret in its texts, and without *secrets*."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _hidden(secret))
        return redacted(value)
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [without(item, secrets) for item in items]
    if isinstance(value, dict):
        fields: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {name: without(item, secrets) for name, item in fields.items()}
    return value


def redacted_variables(assignments: Iterable[str]) -> list[str]:
    """Return each ``NAME=value`` without what is secret about it, or about another of them."""
    split = [assignment.partition("=") for assignment in assignments]
    repeated = [value for pair in split for value in secret_values({pair[0]: pair[2]})]
    repeated.sort(key=len, reverse=True)
    shown: list[str] = []
    for name, equals, value in split:
        if value and is_secret_name(name):
            value = _hidden(value)
        else:
            for secret in repeated:
                value = value.replace(secret, _hidden(secret))
            value = redacted(value)
        shown.append(f"{name}{equals}{value}")
    return shown


def _stand_in(match: re.Match[str]) -> str:
    return _hidden(match.group())


def _hidden(value: str) -> str:
    # Twelve bits tell a change and cannot be turned back into even a short password.
    return f"{_MARK} {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:3]}]"
