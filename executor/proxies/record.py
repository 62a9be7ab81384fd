"""The requests that a step made through the proxy, for its log and for provenance. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.secrets import without_secrets

META = "proxied"
"""The name of a record among the facts that are kept with a step's result."""

UPSTREAM_ERROR = "upstream_error"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_MOST = 10_000  # so many requests of one step are kept
_MANY = "too_many_requests"


@dataclass(frozen=True, slots=True)
class Uncaptured:
    """A request whose answer cannot be named by a URL and a digest, and why.

    Attributes:
        reason: a word of BuildKit's provenance.
    """

    method: str
    url: str
    reason: str


class ProxyRecord:
    """The requests of one step, in the order of their answers.

    Attributes:
        uncaptured: those that are no materials.
    """

    def __init__(self) -> None:
        self.uncaptured: list[Uncaptured] = []
        self._lines: list[str] = []
        self._digests: dict[str, str] = {}
        self._leads_to: dict[str, str] = {}

    def add_request(
        self, method: str, url: str, status: int, location: str = "", why: str = ""
    ) -> None:
        """Note a request and the status of its answer, 0 for none.

        Args:
            location: of a redirect, as the server wrote it.
            why: the answer is the proxy's own, for this reason.
        """
        shown = shown_url(url)
        if len(self._lines) >= _MOST:
            return
        ending = f" -> {status}" if status else ""
        self._lines.append(f"- {method} {shown}{ending}{f' ({why})' if why else ''}")
        if location:
            target = shown_url(urljoin(url, location))
            if target != shown:
                self._leads_to[shown] = target

    def add_material(self, url: str, sha256: str) -> None:
        """Note the content that was got from *url*, whole."""
        if len(self._digests) < _MOST:
            self._digests[shown_url(url)] = sha256
        else:
            self.add_uncaptured("GET", url, _MANY)

    def add_uncaptured(self, method: str, url: str, reason: str) -> None:
        """Note that the answer to a request is no material."""
        if len(self.uncaptured) < _MOST:
            self.uncaptured.append(Uncaptured(method, shown_url(url), reason))

    def lines(self) -> list[str]:
        """Return a line for each request."""
        return list(self._lines)

    def materials(self) -> dict[str, str]:
        """Return the SHA-256 by URL; what led to a URL has the content that was found there."""
        materials = dict(self._digests)
        while True:
            more = {
                source: materials[target]
                for source, target in self._leads_to.items()
                if source not in materials and target in materials
            }
            if not more:
                return materials
            materials |= more

    def facts(self) -> dict[str, Any]:
        """Return the facts that provenance needs, as JSON-able data; `facts_of` reads them."""
        return {
            "materials": self.materials(),
            "uncaptured": [[one.method, one.url, one.reason] for one in self.uncaptured],
        }


def facts_of(meta: Mapping[str, Any]) -> tuple[dict[str, str], list[Uncaptured]] | None:
    """Return the materials by URL and the rest of the requests; None: they are not known."""
    match meta.get(META):
        case {"materials": materials, "uncaptured": uncaptured}:
            try:
                rest = [Uncaptured(*map(str, one)) for one in uncaptured]
                return {str(url): str(sha256) for url, sha256 in materials.items()}, rest
            except (AttributeError, TypeError):
                return None
        case _:
            return None


def shown_url(url: str) -> str:
    """Return *url* as people write it: without a password, and without the port that goes without saying."""
    return without_secrets(plain_url(url))


def plain_url(url: str) -> str:
    """Return *url* with its host in the one spelling, without the port that goes without saying."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    user, mark, _ = parts.netloc.rpartition("@")
    host = f"[{host}]" if ":" in host else host.removesuffix(".")
    shown = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    return urlunsplit(parts._replace(netloc=f"{user}{mark}{host}{shown}"))


def judged_url(url: str) -> str:
    """Return *url* in the one spelling that policies are written for: another one must not get past them.

    What means the same by RFC 3986, 6.2.2, is the same: letters and digits written by their numbers, ``.`` and
    ``..`` in the path. A server may take still others for the same.
    """
    parts = urlsplit(shown_url(url))
    path = _ESCAPE.sub(_plain_escape, parts.path)
    if "/." in path:
        folder = "/" if path.endswith(("/", "/.", "/..")) else ""
        path = f"/{posixpath.normpath(path).lstrip('/')}".rstrip("/") + folder or "/"
    query = _ESCAPE.sub(_plain_escape, parts.query)
    return urlunsplit(parts._replace(path=path or "/", query=query))


def _plain_escape(escape: re.Match[str]) -> str:
    char = chr(int(escape[1], 16))
    return char if char.isascii() and (char.isalnum() or char in "-._~") else escape[0].upper()
