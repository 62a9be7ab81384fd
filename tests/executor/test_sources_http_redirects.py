"""Files by http: redirects, and credentials, which go to their host alone [ADD-4, SEC-3]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.executor.sources.download import USER_AGENT
from pybuild.model.errors import UserError
from pybuild.model.ops import HttpSource
from pybuild.net.http1.faults import shown_url
from tests.executor.fileservers import fixed, serving, source
from tests.executor.sourcesites import SourceSite, on_site


@pytest.mark.parametrize(
    ("secret", "sent"),
    [("HTTP_AUTH_TOKEN_127.0.0.1", "Bearer s3"), ("HTTP_AUTH_HEADER_127.0.0.1", "s3")],
)
def test_secrets_are_credentials_of_their_host_alone(
    tmp_path: Path, secret: str, sent: str
) -> None:
    """[ADD-6, SEC-3]: a redirect to another place, even another port, does not get them."""

    async def body(site: SourceSite) -> None:
        site.secrets[secret] = lambda: b"s3\n"
        site.secrets["HTTP_AUTH_TOKEN_other"] = lambda: b"no"
        async with serving(fixed()) as far:

            async def redirect(request: web.BaseRequest) -> web.StreamResponse:
                place = {"/f.txt": "/second", "/second": far.url + "/third"}[request.path]
                return web.Response(status=302, headers={"Location": place})

            async with serving(redirect) as near:
                tree = await site.tree(source(near))
        assert (tree / "f.txt").read_bytes() == b"hello"
        assert [r.headers.get("Authorization") for r in near.requests] == [sent, sent]
        assert [r.headers.get("Authorization") for r in far.requests] == [None]
        for path in Path(site.store.root).rglob("*"):
            assert not path.is_file() or b"s3\n" not in path.read_bytes()

    on_site(tmp_path, body)


def test_credentials_of_the_url_are_sent_but_not_kept(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(ETag='"x"')) as server:
            url = f"http://me:hunter22@127.0.0.1:{server.port}/f"
            await site.tree(HttpSource(url=url, filename="f.txt"))
        assert server.requests[0].headers["Authorization"].startswith("Basic ")
        site.store.records.close()
        for path in Path(site.store.root).rglob("*"):
            assert not path.is_file() or b"hunter22" not in path.read_bytes()

    on_site(tmp_path, body)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://x/y", "http://:80/x", "/a\\b"])
def test_redirects_to_what_is_no_web_page(tmp_path: Path, place: str) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(status=302, Location=place)) as server:
            with pytest.raises(UserError, match="redirect to .*: not a URL"):
                await site.tree(source(server))

    on_site(tmp_path, body)


def test_a_redirect_to_nowhere_is_no_file(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(status=302)) as server:
            with pytest.raises(UserError, match="invalid response status 302"):
                await site.tree(source(server))

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("place", "path"), [("/a b", "/a%20b"), ("/ä", "/%C3%A4"), ("/a%2Fb?c=d%20e", "/a%2Fb?c=d%20e")]
)
def test_a_redirect_is_quoted_where_the_server_did_not(
    tmp_path: Path, place: str, path: str
) -> None:
    """Quoted characters stay as they are: places may be signed."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/f.txt":
            return web.Response(status=302, headers={"Location": place})
        return web.Response(body=b"hello")

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            await site.tree(source(server))
        assert server.requests[-1].raw_path == path

    on_site(tmp_path, body)


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(status=301, Location="/f.txt")) as server:
            with pytest.raises(UserError, match="more than 10 redirects"):
                await site.tree(source(server))

    on_site(tmp_path, body)


def test_headers_and_a_secret_of_a_source_are_sent(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        site.secrets["mine"] = lambda: b"Token x"
        site.secrets["HTTP_AUTH_TOKEN_127.0.0.1"] = lambda: b"host"
        async with serving(fixed()) as server, site.sources() as sources:
            plain = source(server)
            await sources.http.file(plain)
            dressed = replace(plain, auth_secret="mine", accept="a/b", user_agent="me")
            await sources.http.file(dressed)
            with pytest.raises(UserError, match="secret none: not found"):
                await sources.http.file(replace(plain, auth_secret="none"))
        first, second = (request.headers for request in server.requests)
        assert (first["Authorization"], first["User-Agent"]) == ("Bearer host", USER_AGENT)
        assert (second["Authorization"], second["Accept"], second["User-Agent"]) == (
            "Token x",
            "a/b",
            "me",
        )

    on_site(tmp_path, body)


def test_what_is_shown_of_a_url() -> None:
    assert shown_url("https://u:p@h:1/a@b?token=1#f") == "https://h:1/a@b"
