"""Where answers lead, and what goes along: one rule for everybody who asks by HTTP [REG-6, ADD-6]."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pybuild.net.http1.client import Origin, Response, origin_of
from pybuild.net.http1.faults import BadRedirect, printable, shown_url

if TYPE_CHECKING:
    from yarl import URL

REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_HOPS = 10

Ask = Callable[["URL", bool], Awaitable[Response]]
"""Sends a request to a URL; the flag says whether secrets for home may go along."""


async def follow(
    ask: Ask, url: URL, home: Origin, method: str, *, may_leave_tls: bool = False
) -> tuple[Response, bool]:
    """Ask at *url*, and go on where redirects lead; also returns whether the answer comes from home.

    Once away, it stays away: a detour must not choose paths to ask with our name. A request that
    changes something goes on only where the redirect says that it keeps its method.

    Raises:
        BadRedirect: to no URL, out of TLS, or round and round. What *ask* raises.
    """
    at_home = origin_of(url) == home
    for _ in range(_MOST_HOPS + 1):
        response = await ask(url, at_home)
        response.left = None if at_home else home
        location = response.headers.get("Location", "")
        if response.status not in REDIRECTS or not location:
            return response, at_home
        if method not in ("GET", "HEAD") and response.status not in (307, 308):
            return response, at_home
        response.close()
        target = joined(url, location)
        if target.scheme == "http" and url.scheme == "https" and not may_leave_tls:
            raise BadRedirect(f"redirect to plain HTTP at {target.host}")
        url = target
        at_home = at_home and origin_of(url) == home
    raise BadRedirect(f"more than {_MOST_HOPS} redirects")


def onward(response: Response, location: str) -> URL:
    """Return where an answer says to go on with another request.

    Raises:
        BadRedirect: to no URL, or a stranger leads us back to where we are known.
    """
    target = joined(response.url, location)
    if origin_of(target) == response.left:
        raise BadRedirect(f"{response.url.host} leads back to {target.host}")
    return target


def joined(base: URL, location: str) -> URL:
    """Return *location*, perhaps relative, as seen from *base*; left as it is quoted, if it is.

    Raises:
        BadRedirect: it is not an http or https URL.
    """
    from yarl import URL

    if location.isprintable() and "\\" not in location:
        is_quoted = location.isascii() and " " not in location
        try:
            url = base.join(URL(location, encoded=is_quoted))
            if url.scheme in ("http", "https") and url.host:
                return url
        except ValueError:
            pass
    raise BadRedirect(f'redirect to "{printable(shown_url(location), 100)}": not a URL')
