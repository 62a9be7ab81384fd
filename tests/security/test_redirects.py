"""Credentials stay with whom they are for, wherever servers send us [ADD-6, REG-11, SEC-3]."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pybuild.executor.sources.download import Downloader, Validators
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.ops import GitSource
from pybuild.model.reference import Reference
from pybuild.net.http1.tlsfiles import Tls
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.client.hosts import Hosts
from tests.executor.sourcesites import SourceSite, on_site
from tests.registry.conftest import client
from tests.registry.fakes import DirectoryBlobs
from tests.registry.servers import Authority
from tests.security.web import Answer, Web, answering, moved

SECRET = "s3cr3t"
KNOWN = (None, Validators(etag='"old"', last_modified=""))
BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A file that is fetched, and where its servers send us.

    Attributes:
        start: of which server the path ``/0`` is asked: ``a`` and ``b`` speak http, ``s`` and
            ``t`` https; ``alias`` is ``a`` by another name.
        hops: what follows, as ``Location`` of the answers to ``/0``, ``/1``…; ``{a}`` is a server's
            URL, ``{a.netloc}`` its host and port. The last place has the file.
        told: the numbers of the requests that may have the credentials.
        error: how it ends instead.
        way: ``header``, or ``url``: how they are given.
    """

    name: str
    hops: tuple[str, ...]
    told: Mapping[str, tuple[int, ...]]
    start: str = "a"
    error: str = ""
    way: str = "header"
    status: int = 302


def _detour(status: int) -> Journey:
    return Journey(
        name=f"home after a detour, {status}",
        hops=("{b}/1", "{a}/2"),
        told={"a": (0,)},
        status=status,
    )


_PLAIN = "redirect to plain HTTP"
JOURNEYS = (
    Journey(name="nowhere", hops=(), told={"a": (0,)}),
    Journey(name="at home", hops=("{a}/1", "/2", "3"), told={"a": (0, 1, 2, 3)}),
    Journey(name="to a stranger", hops=("{b}/1",), told={"a": (0,)}),
    Journey(name="to a stranger, later", hops=("/1", "{b}/2"), told={"a": (0, 1)}),
    *map(_detour, (301, 302, 303, 307, 308)),
    Journey(
        name="home after a detour, given in the URL",
        hops=("{b}/1", "{a}/2"),
        told={"a": (0,)},
        way="url",
    ),
    Journey(
        name="home after a long detour",
        hops=("{b}/1", "/2", "{b}/3", "{a}/4"),
        told={"a": (0,)},
    ),
    Journey(name="home twice", hops=("{b}/1", "{a}/2", "{b}/3", "{a}/4", "/5"), told={"a": (0,)}),
    Journey(
        name="home after two strangers", hops=("{b}/1", "{alias}/2", "{a}/3"), told={"a": (0,)}
    ),
    Journey(name="by another name", hops=("{alias}/1",), told={"a": (0,)}),
    Journey(name="by another name and back", hops=("{alias}/1", "{a}/2"), told={"a": (0,)}),
    Journey(
        name="by the name in capitals",
        start="alias",
        hops=("HTTP://LOCALHOST:{a.port}/1",),
        told={"a": (0, 1)},
    ),
    Journey(name="no scheme", hops=("//{b.netloc}/1",), told={"a": (0,)}),
    Journey(name="home as a user name", hops=("http://{a.netloc}@{b.netloc}/1",), told={"a": (0,)}),
    Journey(
        name="home as a user name, with a password",
        hops=("http://me:" + SECRET + "@{a.netloc}@{b.netloc}/1",),
        told={"a": (0,)},
    ),
    Journey(
        name="a backslash for a slash",
        hops=("http://{a.netloc}\\@{b.netloc}/1",),
        told={"a": (0,)},
        error="redirect to",
    ),
    Journey(name="home in the fragment", hops=("{b}/1#@{a.netloc}/",), told={"a": (0,)}),
    Journey(name="home in the query", hops=("{b}/1?@{a.netloc}/",), told={"a": (0,)}),
    Journey(
        name="a stranger names a password for home",
        hops=("{b}/1", "http://me:" + SECRET + "@{a.netloc}/2"),
        told={"a": (0,)},
    ),
    Journey(name="to https", hops=("{s}/1",), told={"a": (0,)}),
    Journey(name="https, at home", start="s", hops=("/1",), told={"s": (0, 1)}),
    Journey(name="https, to a stranger", start="s", hops=("{t}/1",), told={"s": (0,)}),
    Journey(
        name="https, home after a detour", start="s", hops=("{t}/1", "{s}/2"), told={"s": (0,)}
    ),
    Journey(
        name="https to http", start="s", hops=("{a}/1",), told={"s": (0,)}, error=_PLAIN
    ),
    Journey(
        name="https to http at the same port",
        start="s",
        hops=("http://{s.netloc}/1",),
        told={"s": (0,)},
        error=_PLAIN,
    ),
    Journey(
        name="https to http over another https",
        start="s",
        hops=("{t}/1", "{a}/2"),
        told={"s": (0,)},
        error=_PLAIN,
    ),
    Journey(
        name="http to https to http",
        hops=("{s}/1", "{a}/2"),
        told={"a": (0,)},
        error=_PLAIN,
    ),
    Journey(name="to a file", hops=("file:///etc/passwd",), told={"a": (0,)}, error="redirect to"),
    Journey(name="to a file, after a detour", hops=("{b}/1", "file:///etc/passwd"), told={"a": (0,)},
            error="redirect to"),
    Journey(name="to ftp", hops=("ftp://me:x@127.0.0.1/",), told={"a": (0,)}, error="redirect to"),
    Journey(name="to data", hops=("data:,x",), told={"a": (0,)}, error="redirect to"),
    Journey(name="to nothing", hops=("",), told={"a": (0,)}, error="status 302"),
    Journey(name="in a circle", hops=("{a}/0",), told={}, error="more than 10 redirects"),
    Journey(
        name="in a circle over a stranger", hops=("{b}/1", "{a}/0"), told={}, error="more than 10"
    ),
)  # fmt: skip


@pytest.fixture
def servers(authority: Authority) -> Generator[dict[str, Web]]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.cert, authority.key)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(authority.ca)

    def nothing(request: web.Request) -> Answer:
        return 404, {}, b""

    with ExitStack() as stack:
        found = {name: stack.enter_context(answering(nothing)) for name in "ab"}
        for name in "st":
            found[name] = stack.enter_context(answering(nothing, tls))
        yield found


def _words(servers: Mapping[str, Web]) -> Callable[[str], str]:
    """Return what puts the servers' addresses into a text."""

    def put(text: str) -> str:
        for name, server in servers.items():
            text = text.replace(f"{{{name}}}", server.url).replace(
                f"{{{name}.netloc}}", server.netloc
            )
            text = text.replace(f"{{{name}.port}}", server.netloc.rpartition(":")[2])
        alias = "http://localhost:" + servers["a"].netloc.rpartition(":")[2]
        return text.replace("{alias}", alias)

    return put


def test_names_are_unique() -> None:
    names = [journey.name for journey in JOURNEYS]
    assert len(names) == len(set(names)) >= 35


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN, ids=["", "known"])
@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
def test_a_file_is_fetched_with_credentials_for_its_host_alone(
    servers: dict[str, Web],
    authority: Authority,
    tmp_path: Path,
    journey: Journey,
    known: Validators | None,
) -> None:
    put = _words(servers)

    def answer(request: web.Request) -> Answer:
        number = int(request.path.strip("/") or "99")
        cookie = {"Set-Cookie": f"session={SECRET}"}
        if number < len(journey.hops):
            return moved(put(journey.hops[number]), journey.status, **cookie)
        return 200, cookie, b"content"

    for server in servers.values():
        server.answer = answer
    url = put(f"{{{journey.start}}}/0")
    header = f"Bearer {SECRET}" if journey.way == "header" else ""
    if journey.way == "url":
        url = url.replace("://", f"://me:{SECRET}@")
    path = tmp_path / "f"

    async def fetch() -> None:
        downloader = Downloader({}, tls=Tls(ca=(str(authority.ca),)))
        try:
            await downloader.fetch(url, str(path), authorization=header, known=known)
        finally:
            await downloader.close()

    if journey.error:
        with pytest.raises(PybuildError, match=journey.error) as caught:
            asyncio.run(fetch())
        assert SECRET not in caught.value.message
        assert not path.exists()
    else:
        asyncio.run(fetch())
        assert path.read_bytes() == b"content"
    if not journey.told:
        return
    told = {name: sorted(set(server.saw(SECRET, BASIC))) for name, server in servers.items()}
    expected = {name: [f"/{n}" for n in journey.told.get(name, ())] for name in servers}
    assert told == expected


# --- registries -----------------------------------------------------------------------------------

DATA = b"a blob"
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Something asked of registry ``a``, which knows us.

    Attributes:
        ask: ``pull``, ``push`` or ``tags``.
        answers: by server and method with path, the status, and where to go on: ``Location``, or
            ``Link`` for tags; what is not said is answered well.
        told: the paths of ``a`` that had our name; no path of another server may have it.
    """

    name: str
    ask: str
    answers: Mapping[str, tuple[int, str]]
    told: tuple[str, ...]
    error: str = ""


_FIRST = "/v2/x/y/blobs/" + BLOB.digest
_START = "a POST /v2/x/y/blobs/uploads/"
_STARTED = "/v2/x/y/blobs/uploads/"
ERRANDS = (
    Errand(name="pull", ask="pull", answers={}, told=(_FIRST,)),
    Errand(
        name="pull from a stranger",
        ask="pull",
        answers={f"a GET {_FIRST}": (307, "{b}/1")},
        told=(_FIRST,),
    ),
    Errand(
        name="pull from home after a detour",
        ask="pull",
        answers={f"a GET {_FIRST}": (307, "{b}/1"), "b GET /1": (302, "{a}/secret")},
        told=(_FIRST,),
    ),
    Errand(
        name="pull from home by another name",
        ask="pull",
        answers={f"a GET {_FIRST}": (307, "{alias}/1")},
        told=(_FIRST,),
    ),
    Errand(
        name="push at home",
        ask="push",
        answers={_START: (202, "{a}/up?state=1")},
        told=(_FIRST, _STARTED, "/up"),
    ),
    Errand(
        name="push to a stranger",
        ask="push",
        answers={_START: (202, "{b}/up?state=1")},
        told=(_FIRST, _STARTED),
    ),
    Errand(
        name="push, the stranger leads back",
        ask="push",
        answers={_START: (202, "{b}/up"), "b PUT /up": (307, "{a}/secret")},
        told=(_FIRST, _STARTED),
    ),
    Errand(
        name="push, a stranger begins the upload at home",
        ask="push",
        answers={_START: (307, "{b}/1"), "b POST /1": (202, "{a}/secret")},
        told=(_FIRST, _STARTED),
        error="leads back to 127.0.0.1",
    ),
    Errand(
        name="push, a stranger has the upload begun at home",
        ask="push",
        answers={
            _START: (307, "{b}/1"),
            "b POST /1": (307, "{a}/begin"),
            "a POST /begin": (202, "/secret"),
        },
        told=(_FIRST, _STARTED),
        error="leads back to 127.0.0.1",
    ),
    Errand(
        name="push in pieces, the stranger leads back",
        ask="push in pieces",
        answers={_START: (202, "{b}/up"), "b PATCH /up": (202, "{a}/secret")},
        told=(_FIRST, _STARTED),
        error="leads back to 127.0.0.1",
    ),
    Errand(
        name="pages at home",
        ask="tags",
        answers={"a GET /v2/x/y/tags/list": (200, "{a}/more")},
        told=("/v2/x/y/tags/list", "/more"),
    ),
    Errand(
        name="pages at a stranger",
        ask="tags",
        answers={"a GET /v2/x/y/tags/list": (200, "{b}/more")},
        told=("/v2/x/y/tags/list",),
    ),
    Errand(
        name="pages of a stranger at home",
        ask="tags",
        answers={
            "a GET /v2/x/y/tags/list": (302, "{b}/1"),
            "b GET /1": (302, "{a}/2"),
            "a GET /2": (200, "{a}/secret"),
        },
        told=("/v2/x/y/tags/list",),
        error="leads back to 127.0.0.1",
    ),
)


async def _run_errand(c: Client, errand: Errand, blobs: DirectoryBlobs, at: str) -> None:
    reference = Reference.parse(f"{at}/x/y")
    if errand.ask == "tags":
        await c.tags(reference)
    elif errand.ask == "pull":
        await c.pull_blob(reference, BLOB, blobs)
    else:
        await c.push_blob(reference, BLOB, blobs)


@pytest.mark.parametrize("errand", ERRANDS, ids=lambda errand: errand.name)
def test_a_registry_s_login_stays_with_it(
    servers: dict[str, Web], tmp_path: Path, errand: Errand
) -> None:
    put = _words(servers)
    a = servers["a"]

    def answer(name: str, request: web.Request) -> Answer:
        if name == "a" and not a.requests[-1][1].count(BASIC) and "Basic" not in _asked:
            _asked.add("Basic")
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        said = errand.answers.get(f"{name} {request.method} {request.path}")
        if said is not None:
            status, place = said
            if errand.ask == "tags" and status == 200:
                return 200, {"Link": f'<{put(place)}>; rel="next"'}, b'{"tags": ["one"]}'
            return status, {"Location": put(place)}, b""
        match request.method:
            case "HEAD":
                return 404, {}, b""
            case "GET":
                return 200, {}, b'{"tags": []}' if errand.ask == "tags" else DATA
            case "POST":
                return 202, {"Location": "/up"}, b""
            case "PATCH":
                return 202, {"Location": request.path_qs}, b""
            case _:
                return 201, {"Docker-Content-Digest": BLOB.digest}, b""

    _asked: set[str] = set()
    a.answer = lambda request: answer("a", request)
    servers["b"].answer = lambda request: answer("b", request)
    blobs = DirectoryBlobs(tmp_path / "blobs")
    if errand.ask.startswith("push"):
        blobs.put(DATA)

    async def run() -> None:
        login = StaticCredentials({a.netloc: Credential("me", SECRET)})
        hosts = Hosts({a.netloc: {"http": True}})
        pieces = 3 if errand.ask.endswith("pieces") else 0
        async with client(hosts, login, chunk_bytes=pieces) as c:
            await _run_errand(c, errand, blobs, a.netloc)

    if errand.error:
        with pytest.raises(PybuildError, match=errand.error):
            asyncio.run(run())
    else:
        asyncio.run(run())
    told = {path.partition("?")[0] for path in a.saw(BASIC)}
    assert told == set(errand.told)
    assert servers["b"].saw(BASIC) == []


@pytest.mark.slow
def test_a_registry_gets_our_certificate_but_for_what_a_stranger_chose(
    servers: dict[str, Web], authority: Authority
) -> None:
    s, t = servers["s"], servers["t"]
    s.answer = lambda request: (
        moved(f"{t.url}/1") if request.path.startswith("/v2/") else (200, {}, b'{"tags": []}')
    )
    t.answer = lambda _: moved(f"{s.url}/secret")
    table: dict[str, Any] = {"ca": [str(authority.ca)]}
    ours = {"keypair": [{"cert": str(authority.cert), "key": str(authority.key)}]}

    async def run() -> None:
        async with client(Hosts({s.netloc: table | ours, t.netloc: table})) as c:
            await c.tags(Reference.parse(f"{s.netloc}/x/y"))

    asyncio.run(run())
    assert s.saw("certificate") == ["/v2/x/y/tags/list"]
    assert [path for path, _ in s.requests] == ["/v2/x/y/tags/list", "/secret"]
    assert t.saw("certificate") == []


# --- git ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "hops", "secret"),
    [
        ("a", ("{b}/1",), True),
        ("a", ("{b}/1", "{a}/secret"), True),
        ("a", ("{alias}/secret",), True),
        ("s", ("{a}/1",), False),
        ("s", ("{t}/1", "{a}/1"), False),
    ],
)
def test_git_is_followed_nowhere_with_a_token_and_never_from_https_to_http(
    servers: dict[str, Web],
    authority: Authority,
    tmp_path: Path,
    start: str,
    hops: tuple[str, ...],
    secret: bool,
) -> None:
    put = _words(servers)
    left = list(hops)
    for server in servers.values():
        server.answer = lambda _: moved(put(left.pop(0))) if left else (404, {}, b"")
    remote = servers[start].url + "/r"

    async def body(site: SourceSite) -> None:
        program = tmp_path / "bin/git"
        program.parent.mkdir()
        line = f'GIT_SSL_CAINFO={authority.ca} exec /usr/bin/git "$@"'
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        site.environ = {**site.environ, "PATH": f"{program.parent}:/usr/bin:/bin"}
        if secret:
            site.secrets["GIT_AUTH_TOKEN"] = lambda: SECRET.encode()
        with pytest.raises(PybuildError, match="failed to fetch remote") as caught:
            await site.tree(GitSource(remote=remote))
        assert any("final URL" in hint for hint in caught.value.hints), caught.value

    on_site(tmp_path, body)
    token = base64.b64encode(f"x-access-token:{SECRET}".encode()).decode()
    assert len(servers[start].saw(token)) == (1 if secret else 0)
    assert [s.saw(token) for name, s in servers.items() if name != start] == [[], [], []]
    if start == "s":
        assert servers["a"].requests == []
