"""Which variables and values are likely secrets, so that nothing of ours repeats them.

A guess by name or by look, as people and scanners make it. What it takes for a secret is never
shown or kept in the clear; whether it changed still shows.
"""

from __future__ import annotations

import hashlib
import re

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
_USERINFO = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")
_MARK = "[redacted"


def is_secret_name(name: str) -> bool:
    """Tell whether a variable of this name should not be shown."""
    return bool(_NAME.search(name)) and not _NO_NAME.search(name)


def redacted(value: str) -> str:
    """Return *value* without the parts that look like secrets."""
    return _USERINFO.sub(_stand_in, _VALUE.sub(_stand_in, value))


def redacted_variable(assignment: str) -> str:
    """Return ``NAME=value`` without what is secret about it."""
    name, equals, value = assignment.partition("=")
    if equals and value and is_secret_name(name):
        return f"{name}={_hidden(value)}"
    return f"{name}{equals}{redacted(value)}"


def _stand_in(found: re.Match[str]) -> str:
    return _hidden(found.group())


def _hidden(value: str) -> str:
    # Twelve bits tell a change and cannot be turned back into even a short password.
    return f"{_MARK} {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:3]}]"
