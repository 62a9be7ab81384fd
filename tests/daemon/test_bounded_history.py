"""Logs and history of one owner take so much of the disk and no more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pybuild.buildkit.journal import Journal, LogRoom, Teller
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.gateway import WarnRequest
from pybuild.daemon.control.history import History
from pybuild.model.digest import Digest
from pybuild.model.events import BuildWarning, LogStream, VertexCompleted, VertexLog
from pybuild.model.span import Span
from pybuild.net.grpc.status import RpcError
from tests.clocks import FakeClock
from tests.daemon.test_control_parts import record

V = Digest.of(b"v")


def test_builds_of_one_owner_share_the_room_for_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress without room is left out; the messages of how steps end are not."""
    room = LogRoom(1 << 20)
    journals = [Journal.temporary(room) for _ in range(3)]
    tellers = [Teller(journal, FakeClock(1.0)) for journal in journals]
    for number in range(60):
        piece = VertexLog(vertex=V, time=1.0, stream=LogStream.STDOUT, data=b"x" * 100_000)
        tellers[number % 3].emit(piece)
        tellers[number % 3].forward_warning(WarnRequest(short=b"w" * 100_000))
    assert room.taken < 1_500_000
    for journal, teller in zip(journals, tellers, strict=True):
        teller.emit(VertexCompleted(vertex=V, time=2.0))
        data = b"".join(journal.pieces())
        assert data.count(b"output clipped, the log limit of all builds") == 1
        assert V.encode() in data[-200:]
        journal.close()
        journal.discard()
    assert room.taken == 0


@pytest.mark.slow
def test_warnings_that_bring_a_large_file_along_are_bounded() -> None:
    """A Dockerfile of megabytes with as many faults would be written once for each of them."""
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    warning = BuildWarning(rule="R", message="m", url="", spans=(Span("D", 1, 1),))
    for _ in range(1_000):
        teller.warn(warning, V, "D", bytes(4 << 20))
    written = sum(map(len, journal.pieces()))
    journal.close()
    journal.discard()
    assert written < 40 << 20 and teller.warnings == 1_000


def test_what_records_name_is_bounded_and_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.daemon.control.history.MAX_BYTES", 1 << 20)
    history = History(str(tmp_path))
    for number in range(20):
        built = record(f"r{number:02}", number)
        built.logs.CopyFrom(history.add_blob(os.urandom(300_000), "text/plain"))
        history.end(built)
    assert [found.Ref for found in history.records()] == ["r17", "r18", "r19"]
    assert len(list((tmp_path / "history/blobs").iterdir())) == 3
    assert history.pin("r17", True)
    with pytest.raises(RpcError, match="too much of the history is pinned"):
        history.pin("r18", True)
    large = record("large", 30)
    large.logs.CopyFrom(history.add_blob(os.urandom(2 << 20), "text/plain"))
    history.end(large)
    assert [found.Ref for found in history.records()] == ["r17"]
    assert len(list((tmp_path / "history/blobs").iterdir())) == 1


def test_a_listener_that_does_not_read_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.daemon.control.history.MAX_UNREAD", 10)
    history = History(str(tmp_path))

    async def run() -> list[str]:
        events = history.listen(pb.BuildHistoryRequest())
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        for number in range(100):
            history.begin(record(f"r{number:02}", number))
        heard = [(await first).record.Ref]
        return heard + [event.record.Ref async for event in events]

    heard = asyncio.run(asyncio.wait_for(run(), 30))
    assert heard == [f"r{number:02}" for number in range(len(heard))] and len(heard) <= 11
