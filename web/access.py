"""Admission of browsers: by a link that opens once, then by a cookie; pure but for its clock and its random numbers.

Any page of the world may have a browser send requests to this machine's loopback, and may read the
answers by a name of its own that it lets mean 127.0.0.1. So a request names us by a name of ours,
was not begun by another site, and brings a cookie that no page and no script can read. Cookies know
no ports: the link has a name of its own below ``localhost``, so that what else listens on this
machine is not sent ours.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence

from pybuild.model.dataclass import dataclass

MOST_SESSIONS = 100
SESSION_S = 24 * 3600.0
"""That a session lasts after its last request."""
ENTRANCE = "/enter/"
_TOKEN_BYTES = 32
_READING = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The facts of a request that tell who sends it; each field of its head as often as it stood there.

    Attributes:
        target: as the request's line has it.
    """

    method: str
    target: str
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    sites: Sequence[str] = ()
    cookies: Sequence[str] = ()


class PageRefusal(Exception):
    """A request is not answered; *message* is for the browser's user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BrowserAccess:
    """Keeps the link that opens next, and the sessions that were opened.

    Args:
        names: of this server, ``host:port`` as browsers send it; the first is the one of its links.
        port: of its cookie's name: servers at other ports have cookies of their own.
        now: seconds of a clock that only goes forward.
        announce: called with each new link.
    """

    def __init__(
        self,
        names: Sequence[str],
        port: int,
        now: Callable[[], float],
        announce: Callable[[str], None],
    ) -> None:
        self._names = tuple(names)
        self._cookie = f"pybuild-{port}"
        self._now = now
        self._announce = announce
        self._sessions: dict[bytes, float] = {}
        self._link = b""

    def make_link(self) -> None:
        """Announce the link that opens next; none that was there before opens any more."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._link = _digest(token)
        self._announce(f"http://{self._names[0]}{ENTRANCE}{token}")

    def check(self, asking: Asking) -> None:
        """Raise `PageRefusal` for a request of another site's page, or under a name that is not ours."""
        if not asking.target.startswith("/"):
            raise PageRefusal(400, "the request names no path of this server")
        if len(asking.hosts) != 1 or asking.hosts[0].lower() not in self._names:
            raise PageRefusal(
                421, "this server has another name: take the link that pybuild printed"
            )
        origins = {f"http://{asking.hosts[0].lower()}"}
        is_entering = asking.method == "GET" and asking.target.startswith(ENTRANCE)
        if asking.method not in _READING and not asking.origins:
            raise PageRefusal(
                403, "a request that changes something comes from a page of this server"
            )
        if any(origin.lower() not in origins for origin in asking.origins):
            raise PageRefusal(403, "requests of other sites' pages are not answered")
        # The link may stand on a page, as in an editor's terminal; who has it may come in from there.
        if not is_entering and any(site not in ("none", "same-origin") for site in asking.sites):
            raise PageRefusal(403, "requests of other sites' pages are not answered")

    def enter(self, token: str) -> str:
        """Open a session with the link's token; return the cookie to set.

        Raises:
            PageRefusal: it is none that opens.
        """
        if not secrets.compare_digest(_digest(token), self._link):
            raise PageRefusal(
                403,
                "this link has been used, or never opened anything. pybuild prints a new one each time that one "
                "is used. If it was not you who used it, stop the server: somebody else has come in.",
            )
        session = secrets.token_urlsafe(_TOKEN_BYTES)
        self._forget_old()
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one])]
        self._sessions[_digest(session)] = self._now()
        self.make_link()
        return f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict"

    def admit(self, cookies: Sequence[str]) -> None:
        """Raise `PageRefusal` for who brings no session; go on with the session of who does."""
        self._forget_old()
        for key in self._keys(cookies):
            if key in self._sessions:
                self._sessions[key] = self._now()
                return
        raise PageRefusal(401, "this page opens by the link that pybuild printed when it began")

    def leave(self, cookies: Sequence[str]) -> str:
        """End a session; return the cookie that takes its cookie away."""
        for key in self._keys(cookies):
            self._sessions.pop(key, None)
        return f"{self._cookie}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"

    def _keys(self, cookies: Sequence[str]) -> Iterator[bytes]:
        """Yield the keys of the sessions that cookies name; another server of this host may have set one of our name."""
        for field in cookies:
            for pair in field.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self._cookie:
                    yield _digest(value)

    def _forget_old(self) -> None:
        latest = self._now() - SESSION_S
        for key in [key for key, used in self._sessions.items() if used < latest]:
            del self._sessions[key]


def own_names(port: int, label: str) -> Sequence[str]:
    """Return the names of a server on loopback; *label* is its own, below ``localhost``."""
    hosts = (f"{label}.localhost", "localhost", "127.0.0.1", "[::1]")
    return tuple(f"{host}{ending}" for host in hosts for ending in _endings(port))


def _endings(port: int) -> Sequence[str]:
    return ("", ":80") if port == 80 else (f":{port}",)


def _digest(token: str) -> bytes:
    """Return the digest that is kept of a secret: looking one up tells nobody how much of it was right."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
