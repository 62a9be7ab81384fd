"""Attacks on the daemon's page: other sites' pages, names that mean loopback, links used twice, texts that would be markup."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import urlsplit

import pytest

from pybuild.cache.content.buildhistory import Builds
from pybuild.model.digest import Digest
from pybuild.model.events import (
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexStarted,
)
from pybuild.model.printable import without_controls
from tests.history.pastbuilds import AT
from tests.history.test_page import read
from tests.web.sites import PageSite, PageStage, keep_build, page_stage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[PageStage]:
    with page_stage(tmp_path_factory.mktemp("page")) as found:
        yield found


SCRIPTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></head><body onload=alert(1)>",
    "</pre></details></main><iframe src='//evil.example'></iframe>",
    "<!--><svg/onload=alert(1)>-->",
    "javascript:alert(1)",
    "\x1b[31m<b onclick=alert(1)>\x1b[0m",
    "\u202e<base href='//evil.example/'>",
    '<meta http-equiv="refresh" content="0;url=//evil.example">',
    "\udcff<script>\udcfe</script>",
    "<link rel=stylesheet href=//evil.example/x.css>",
)
PLACES = ("name", "context", "dockerfile", "target", "args", "tags", "error", "step", "output")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_text_of_a_build_becomes_markup(stage: PageStage, script: str, place: str) -> None:
    """The pages have the elements and attributes that they have without it, and the text stands in one of them."""
    shown = without_controls(script)

    async def work(site: PageSite) -> None:
        text = ""
        for ours, attacked in zip(
            await _pages(site, "plain", place), await _pages(site, script, place), strict=True
        ):
            assert _shape(ours) == _shape(attacked)
            text += read(attacked).text
        assert shown in text.replace("\ufffd", "")

    stage.play(work)


async def _pages(site: PageSite, text: str, place: str) -> list[str]:
    """Return the list with a build that has *text* in one place, and that build's page."""
    facts: dict[str, object] = {"status": "error"}
    if place in ("args", "tags"):
        facts[place] = [text]
    elif place not in ("error", "step", "output"):
        facts[place] = text
    facts["error"] = {"message": text if place == "error" else "exit code: 1"}
    name = text if place == "step" else "[1/1] RUN make"
    said: list[Event] = [
        VertexAdded(vertex=_STEP, name=name),
        VertexStarted(vertex=_STEP, time=AT + 1.0),
        VertexLog(
            vertex=_STEP,
            time=AT + 1.0,
            stream=LogStream.STDOUT,
            data=(text if place == "output" else "x").encode("utf-8", "surrogateescape") + b"\n",
        ),
        VertexCompleted(vertex=_STEP, time=AT + 2.0),
        VertexAdded(vertex=_FAILED, name="[2/2] RUN false"),
        VertexStarted(vertex=_FAILED, time=AT + 2.0),
        VertexFailed(vertex=_FAILED, time=AT + 3.0, error=text if place == "error" else "no"),
    ]
    id = keep_build(site.store, said, **facts)  # type: ignore[arg-type]
    answers = [await site.ask("/"), await site.ask(f"/builds/{id}")]
    assert {answer.status for answer in answers} == {200}
    builds = Builds(site.store)
    stored = builds.find(id)
    assert stored is not None
    builds.remove(stored)
    return [answer.body.replace(id, "id") for answer in answers]


_STEP, _FAILED = Digest.of(b"step"), Digest.of(b"failed")


def _shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(attrs)) for tag, attrs in read(page).elements]


ELSEWHERE = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "https://{name}"},
    {"Origin": "http://{name}.evil.example"},
    {"Origin": "http://user@{name}"},
    {"Origin": "http://{name}/"},
    {"Origin": ""},
    {"Sec_Fetch_Site": "cross-site", "Origin": "http://{name}"},
    {"Sec_Fetch_Site": "same-site", "Origin": "http://{name}"},
    {"Origin": "http://{name}\r\nOrigin: http://evil.example"},
    {"Origin": "http://{name}\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site"},
)


@pytest.mark.parametrize("fields", ELSEWHERE)
def test_a_page_of_another_site_changes_nothing(stage: PageStage, fields: dict[str, str]) -> None:
    """With the cookie, which a browser would not even send."""

    async def work(site: PageSite) -> None:
        filled = {key: value.format(name=site.name) for key, value in fields.items()}
        answer = await site.ask("/leave", "POST", **filled)
        assert answer.status == 403
        assert "set-cookie" not in answer.head
        assert (await site.ask("/")).status == 200

    stage.play(work)


@pytest.mark.parametrize("site_is", ["cross-site", "same-site", "nonsense"])
@pytest.mark.parametrize("target", ["/", "/builds/01234567", "/style.css"])
def test_a_page_of_another_site_reads_nothing(stage: PageStage, target: str, site_is: str) -> None:
    async def work(site: PageSite) -> None:
        answer = await site.ask(target, Sec_Fetch_Site=site_is)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.head

    stage.play(work)


NAMES = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.2:{port}",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "2130706433:{port}",
    "127.1:{port}",
    "localhost.:{port}",
    "pybuild-0000000000000000.localhost:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.1:{port}\r\nHost: evil.example",
    "evil.example\r\nHost: 127.0.0.1:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}, evil.example",
)


@pytest.mark.parametrize("host", NAMES)
def test_no_other_name_is_ours(stage: PageStage, host: str) -> None:
    """A name of somebody's that means 127.0.0.1 makes us that one's site, and lets its pages read us."""

    async def work(site: PageSite) -> None:
        before = len(site.links)
        for target in ("/", urlsplit(site.links[-1]).path):
            answer = await site.ask(target, host=host.format(port=site.port))
            assert answer.status in (400, 421)
            assert "set-cookie" not in answer.head
        assert len(site.links) == before

    stage.play(work)


def test_a_request_without_a_name_is_refused(stage: PageStage) -> None:
    async def work(site: PageSite) -> None:
        for line in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"):
            assert (await site.send(line)).status in (400, 421)

    stage.play(work)


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/", "http://{name}/", "*", "//evil.example/..", "/\\evil.example"],
)
def test_a_target_that_is_no_path_of_ours(stage: PageStage, target: str) -> None:
    async def work(site: PageSite) -> None:
        answer = await site.ask(target.format(name=site.name))
        assert answer.status in (400, 404)
        assert "location" not in answer.head

    stage.play(work)


@pytest.mark.parametrize(
    "tries", ["again", "shorter", "longer", "cased", "earlier", "empty", "query", "encoded"]
)
def test_a_link_opens_for_nobody_else(stage: PageStage, tries: str) -> None:
    async def work(site: PageSite) -> None:
        before = len(site.links)
        used, unused = (urlsplit(link).path for link in site.links[-2:])
        attempt = {
            "again": used,
            "shorter": unused[:-1],
            "longer": unused + "A",
            "cased": unused.swapcase().replace("/ENTER/", "/enter/"),
            "earlier": used + "/../" + unused.rpartition("/")[2],
            "empty": "/enter/",
            "query": "/enter/?" + unused.rpartition("/")[2],
            "encoded": "/enter/%2e%2e" + unused,
        }[tries]
        site.cookie = ""
        answer = await site.ask(attempt)
        assert answer.status == 403
        assert "set-cookie" not in answer.head
        assert len(site.links) == before

    stage.play(work)


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "PUT"])
def test_who_looks_at_a_link_does_not_spend_it(stage: PageStage, method: str) -> None:
    async def work(site: PageSite) -> None:
        path = urlsplit(site.links[-1]).path
        assert (await site.ask(path, method)).status in (401, 403, 405)
        assert (await site.enter()).status == 200

    stage.play(work)


COOKIES = (
    "",
    "pybuild-{port}=",
    "pybuild-{port}=AAAA",
    "pybuild-1={value}",
    "PYBUILD-{port}={value}",
    "pybuild-{port}={value}x",
    "x=pybuild-{port}={value}",
    'pybuild-{port}="{value}"',
)


@pytest.mark.parametrize("cookie", COOKIES)
@pytest.mark.parametrize("target", ["/", "/builds/{id}"])
def test_nothing_is_shown_without_the_cookie(stage: PageStage, target: str, cookie: str) -> None:
    async def work(site: PageSite) -> None:
        id = keep_build(site.store, name="confidential")
        value = site.cookie.partition("=")[2]
        answer = await site.ask(
            target.format(id=id), Cookie=cookie.format(port=site.port, value=value)
        )
        assert answer.status == 401
        assert "confidential" not in answer.body

    stage.play(work)


PATHS = (
    "/../../../../etc/passwd",
    "/builds/../../../../etc/passwd",
    "/builds/..%2f..%2f..%2fetc%2fpasswd",
    "/builds/%2e%2e/oci-layout",
    "/builds/{id}/../../oci-layout",
    "/builds/{id}.log",
    "/builds/{id}%00",
    "/builds/{id}/",
    "//builds/{id}",
    "/style.css/../../frame.py",
    "/style.css%00.py",
    "/builds/....//....//oci-layout",
    "/builds/" + "A" * 4000,
    "/./builds/{id}",
)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_file(stage: PageStage, path: str) -> None:
    async def work(site: PageSite) -> None:
        id = keep_build(site.store)
        answer = await site.ask(path.format(id=id))
        assert answer.status in (400, 404)
        for words in ("imageLayoutVersion", "root:", "import", '"added"'):
            assert words not in answer.body

    stage.play(work)
