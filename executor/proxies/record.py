"""The requests that a step made through the proxy, for its log and for provenance. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.secrets import without_secrets

META = "proxied"
"""The name of a record among the facts that are kept with a step's result."""

UPSTREAM_ERROR = "upstream_error"
_DEFAULT_PORTS = {"http": 80, "https": 443}
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
    """Return *url* without the port that goes without saying."""
    try:
        parts = urlsplit(url)
        if parts.port is None or parts.port != _DEFAULT_PORTS.get(parts.scheme):
            return url
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0]))
