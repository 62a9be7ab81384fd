"""A build that goes on: what its page is sent of it, and what a real browser shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content.buildhistory import Builds, OpenRecord
from pybuild.cache.content.buildlog import BuildLogReader
from pybuild.model.events import (
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexLog,
    VertexStarted,
)
from pybuild.web.live import MOST_TEXT, MOST_TEXT_OF_OTHERS, LiveBuild
from tests.history.pastbuilds import AT, SLOW, events, failing
from tests.needs import need
from tests.web.browsers import browsing
from tests.web.sites import ANSWER_S, PageSite, on_site

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def begun(site: PageSite) -> OpenRecord:
    return Builds(site.store).begin(AT + 90.0, {"name": "going"}, ())


def say(record: OpenRecord, text: str, time: float) -> None:
    data = text.encode()
    record.emit(VertexLog(vertex=SLOW, time=time, stream=LogStream.STDOUT, data=data))


class Stream:
    """Server-sent events as they come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> dict[str, Any] | None:
        """Return the next message; None at the end of the build or of the stream."""
        while True:
            async with asyncio.timeout(ANSWER_S):
                line = (await self._reader.readline()).strip()
                if not line and self._reader.at_eof() or line == b"event: end":
                    return None
            if line.startswith(b"data: "):
                return dict(json.loads(line[6:]))


@asynccontextmanager
async def stream_of(site: PageSite, id: str) -> AsyncGenerator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        head = f"GET /builds/{id}/events HTTP/1.0\r\nHost: {site.name}\r\nCookie: {site.cookie}\r\n\r\n"
        writer.write(head.encode())
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.0 200") and b"text/event-stream" in first
        assert b"default-src 'none'" in first
        yield Stream(reader)
    finally:
        writer.close()


def test_steps_come_as_they_begin_and_end_with_what_they_say(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        record = begun(site)
        record.emit(VertexAdded(vertex=SLOW, name="[1/1] RUN make\x1b[0m"))
        record.emit(VertexStarted(vertex=SLOW, time=AT + 91.0))
        async with stream_of(site, record.id) as stream:
            first = await stream.next()
            assert first == {
                "now": 10.0,
                "said": {},
                "steps": [{"number": 1, "name": "[1/1] RUN make", "state": "running", "began": 1.0, "ended": None}],
            }  # fmt: skip
            say(record, "\x1b[31mcompiling\x1b[0m\n", AT + 92.0)
            assert await stream.next() == {"now": 10.0, "said": {"1": "compiling\n"}, "steps": []}
            record.emit(VertexCompleted(vertex=SLOW, time=AT + 93.0))
            record.end("completed")
            last = await stream.next()
            assert last is not None and last["steps"][0]["state"] == "ran"
            assert await stream.next() is None

    on_site(tmp_path, work)


def test_a_build_that_has_ended_has_no_more_to_tell(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        record = begun(site)
        async with stream_of(site, record.id) as stream:
            record.drop()
            assert await stream.next() is None
        async with stream_of(site, record.id) as stream:
            assert await stream.next() is None

    on_site(tmp_path, work)


def test_a_stream_ends_with_its_session(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        record = begun(site)
        async with stream_of(site, record.id) as stream:
            await site.ask("/leave", "POST", Origin=f"http://{site.name}")
            assert await stream.next() is None
        assert (await site.ask(f"/builds/{record.id}/events")).status == 401
        record.drop()

    on_site(tmp_path, work)


def test_of_long_outputs_a_message_has_the_end(tmp_path: Path) -> None:
    live = LiveBuild(AT)
    said: list[Event] = [
        VertexAdded(vertex=SLOW, name="[1/1] RUN make"),
        VertexStarted(vertex=SLOW, time=AT),
        *(
            VertexLog(vertex=SLOW, time=AT, stream=LogStream.STDOUT, data=b"x" * 50_000)
            for _ in range(9)
        ),
    ]
    assert len(live.message(said)["said"][1]) == MOST_TEXT
    over = LiveBuild(AT).message([*said, VertexCompleted(vertex=SLOW, time=AT + 1)])
    assert len(over["said"][1]) == MOST_TEXT_OF_OTHERS


def test_a_message_has_what_changed_since_the_one_before() -> None:
    live = LiveBuild(AT)
    every = events()
    assert [step["number"] for step in live.message(every[:6])["steps"]] == [1, 2, 3, 4]
    assert live.message([])["steps"] == []
    assert [step["number"] for step in live.message(failing()[5:7])["steps"]] == [1, 3]


def test_a_log_is_written_though_nothing_more_comes(tmp_path: Path) -> None:
    """Its last lines were held back until the next event: who followed the build saw them minutes later."""

    async def work(site: PageSite) -> None:
        record = begun(site)
        record.emit(VertexAdded(vertex=SLOW, name="[1/1] RUN make"))
        say(record, "begins, then thinks\n", AT + 90.0)
        with BuildLogReader(record.log.path) as reader:
            async with asyncio.timeout(ANSWER_S):
                while not (found := reader.more()):
                    await asyncio.sleep(0.05)
        assert any(isinstance(one, VertexLog) for one in found)
        record.drop()

    on_site(tmp_path, work)


def test_a_reader_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = json.dumps(["warning", "mind", "", "", [], []])
    path.write_text("{}\n" + line[:10])
    with BuildLogReader(str(path)) as reader:
        assert reader.more() == []
        with path.open("a") as file:
            file.write(line[10:] + "\nbroken\n")
        assert [getattr(event, "message", "") for event in reader.more()] == ["mind"]
        assert reader.more() == []


@pytest.mark.slow
def test_a_browser_shows_a_build_while_it_goes_on_and_its_report_after(tmp_path: Path) -> None:
    """Its output stays text, and neither the policy nor the script has anything to complain of."""
    need("chromium", "bash")

    async def work(site: PageSite) -> None:
        record = begun(site)
        record.emit(VertexAdded(vertex=SLOW, name=f"[1/1] RUN {HOSTILE}"))
        record.emit(VertexStarted(vertex=SLOW, time=AT + 91.0))
        async with browsing(tmp_path / "profile") as browser:
            await browser.open(site.links[-1])
            await browser.until("document.querySelector('table.builds') !== null")
            await browser.call("Page.navigate", url=f"http://{site.name}/builds/{record.id}")
            await browser.until("document.querySelector('#live details[open] summary') !== null")
            say(record, f"{HOSTILE}\n", AT + 92.0)
            await browser.until(
                "document.querySelector('#live pre').textContent.includes('onerror')"
            )
            text = await browser.value("document.querySelector('#live summary').textContent")
            assert text.startswith(f"#1 [1/1] RUN {HOSTILE} running ")
            assert (
                await browser.value("document.getElementById('now').textContent") == "running: #1"
            )
            record.emit(VertexCompleted(vertex=SLOW, time=AT + 99.0))
            record.end("completed")
            await browser.until("document.querySelector('svg.course') !== null")
            assert await browser.value("document.images.length") == 0
            assert "owned" not in await browser.value("document.title")
            assert browser.complaints == []

    on_site(tmp_path, work)
