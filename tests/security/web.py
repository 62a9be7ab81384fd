"""Web servers that send whoever asks elsewhere, and keep what they were sent."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.webservers import serving

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Web:
    """A server.

    Attributes:
        answer: what it says to a request; may be set once its address is known.
        requests: the method and path of each request, and its headers in one text; a client's
            certificate counts as one.
    """

    answer: Callable[[web.Request], Answer]
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def netloc(self) -> str:
        return self.url.partition("://")[2]

    def saw(self, *secrets: str) -> list[str]:
        """Return the paths of the requests that had one of *secrets* in their headers."""
        return [path for path, headers in self.requests if any(s in headers for s in secrets)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        headers += ["certificate"] if request.get_extra_info("peercert") else []
        self.requests.append((request.path_qs, "\n".join(headers)))
        status, fields, data = self.answer(request)
        return web.Response(status=status, headers=fields, body=data)


def moved(url: str, status: int = 302, **headers: str) -> Answer:
    return status, {"Location": url, **headers}, b""


@contextmanager
def answering(
    answer: Callable[[web.Request], Answer], tls: ssl.SSLContext | None = None
) -> Generator[Web]:
    """Yield a server on this machine."""
    site = Web(answer)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", site.handle)
    with serving(application, tls) as site.url:
        yield site
