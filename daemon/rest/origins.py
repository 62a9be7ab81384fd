"""Requests that a web page made a browser send: refused where a browser could reach us; pure.

A page of anywhere may have requests sent to this machine's own addresses, and by a name of its own
that it lets mean 127.0.0.1 it may read the answers, too. Docker's clients name the host that they
were given, and are no browsers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

_OWN_SITE = ("", "none", "same-origin")
_RESERVED = (".localhost", ".internal")
"""Names that no server of names of the world answers for."""


def refusal_of_browser(
    headers: Mapping[str, str], own_names: Collection[str], *, has_certificate: bool
) -> str:
    """Return the reason to refuse a request that came over TCP, empty where there is none.

    Args:
        headers: case of their names does not matter.
        own_names: of this machine, and those that it was told to listen on.
        has_certificate: the client has shown one, and had to be shown one for its name of us.
    """
    host = headers.get("Host", "")
    if headers.get("Sec-Fetch-Site", "") not in _OWN_SITE:
        return "requests of web pages are not answered"
    origin = headers.get("Origin", "")
    if origin and urlsplit(origin).netloc.lower() != host.lower():
        return f'requests of web pages are not answered: origin "{origin[:100]}"'
    if not has_certificate and not _may_be_ours(host, own_names):
        return f'host "{host[:100]}" is none of this machine\'s names'
    return ""


def _may_be_ours(host: str, own_names: Collection[str]) -> bool:
    """Whether no page of somebody else's can have this name: numbers, one word, and our own names."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if not name:
        return host == ""  # HTTP/1.0 has none, and browsers speak 1.1
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return "." not in name or name.endswith(_RESERVED) or name in own_names
    return True
