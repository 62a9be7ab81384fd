"""The history of one owner takes so much of the disk and no more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.daemon.control.history import History
from pybuild.model.digest import Digest
from pybuild.net.grpc.status import RpcError
from tests.daemon.test_control_parts import record

V = Digest.of(b"v")


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
