"""A build's log gives back its events, without secrets; what is cut short, killed or too much is still a build."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from pybuild.cache.content import buildhistory, buildlog
from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.content.buildlog import read_events, read_header
from pybuild.cache.disk.atomic import Disk
from pybuild.cache.space.oldbuilds import prune_builds
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    Event,
    LogStream,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.span import Span
from tests import watchdog
from tests.clocks import FakeClock

A, B = Digest.of(b"a"), Digest.of(b"b")
EVENTS: list[Event] = [
    VertexAdded(vertex=A, name="[1/2] FROM base", inputs=(), stage="one"),
    VertexCached(vertex=A, time=1.0),
    VertexAdded(vertex=B, name="[2/2] RUN make", inputs=(A,)),
    VertexStarted(vertex=B, time=1.5),
    VertexLog(vertex=B, time=2.0, stream=LogStream.STDOUT, data=b"caf\xc3\xa9 \xff\n"),
    VertexLog(vertex=B, time=2.5, stream=LogStream.STDERR, data=b"oh\r\n"),
    VertexProgress(vertex=B, id="moving", current=7, total=9, done=True, time=2.75),
    BuildWarning(message="m", rule="R", url="u", spans=(Span("D", 1, 2),), detail=("more",)),
    VertexFailed(vertex=B, time=3.0, error="it broke", peer="theirs", cancelled=False),
    VertexCompleted(vertex=B, time=4.0),
]


def said(text: bytes, stream: LogStream = LogStream.STDOUT) -> VertexLog:
    return VertexLog(vertex=B, time=2.0, stream=stream, data=text)


def text_of(events: list[Event]) -> str:
    return b"".join(e.data for e in events if isinstance(e, VertexLog)).decode(errors="replace")


def kept(store: Store, events: list[Event], *secrets: str) -> list[Event]:
    record = Builds(store).begin(1.0, {"name": "n"}, secrets)
    for event in events:
        record.emit(event)
    record.end("completed")
    [build] = Builds(store).all()
    return list(read_events(build.log))


def test_every_kind_of_event_comes_back(store: Store) -> None:
    assert kept(store, EVENTS) == EVENTS
    [build] = Builds(store).all()
    assert (build.facts["status"], build.facts["name"]) == ("completed", "n")
    assert build.facts["steps"] == {"total": 2, "completed": 2, "cached": 1}


def test_a_line_without_an_end_comes_when_its_step_has_ended(store: Store) -> None:
    events = kept(store, [EVENTS[2], said(b"half"), EVENTS[-1]])
    assert [type(event) for event in events] == [VertexAdded, VertexLog, VertexCompleted]
    assert text_of(events) == "half"


def test_no_secret_is_in_a_log_however_it_is_cut_into_pieces(store: Store) -> None:
    token = "ghp_" + "a" * 36
    secret, key = "hunter2-hunter2", "MIIEvQIBADANBgkqhkiG9w0BAQ"
    pieces = [
        b"the secret is hunter2-",
        b"hunter2, again\n",
        f"token {token[:9]}".encode(),
        f"{token[9:]}\n-----BEGIN PRIVATE KEY-----\n{key}\n".encode(),
        f"{key}\n-----END PRIVATE KEY-----\nhttps://me:pass@there/\n".encode(),
        b"the end, without a line's end",
    ]
    events = [*EVENTS[:4], *map(said, pieces)]
    events += [VertexFailed(vertex=B, time=3.0, error=f"used {secret}"), *EVENTS[-1:]]
    events.append(VertexAdded(vertex=Digest.of(b"c"), name=f"RUN use {secret}"))
    text = text_of(kept(store, events, secret + "\n"))
    data = b"".join(file.read_bytes() for file in Path(store.root, "builds").iterdir())
    for known in (secret, token, key, "me:pass"):
        assert known.encode() not in data
    assert text.startswith("the secret is [redacted], again\ntoken [redacted")
    assert text.endswith("the end, without a line's end")


def test_a_secret_that_is_read_during_the_build_is_kept_out_from_then_on(store: Store) -> None:
    record = Builds(store).begin(1.0, {}, ())
    record.log.add_secrets(["first-line\nsecond-line\nab\n"])
    for event in (*EVENTS[:4], said(b"second-line, first-line, ab\n")):
        record.emit(event)
    record.end("completed")
    [build] = Builds(store).all()
    assert text_of(list(read_events(build.log))) == "[redacted], [redacted], ab\n"


def test_a_log_is_cut_where_a_step_says_too_much(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildlog, "MOST_STEP_BYTES", 100)
    events = kept(store, [*EVENTS[:4], *[said(b"x" * 39 + b"\n")] * 50, EVENTS[-1]])
    text = text_of(events)
    assert text.count("x" * 39) == 3
    assert text.endswith("[output clipped: the build's history keeps no more]\n")
    assert events[-1] == EVENTS[-1]


def test_a_killed_build_is_a_cancelled_one_with_what_it_had_said(tmp_path: Path) -> None:
    root = tmp_path / "s"
    Store.open(root, FakeClock(100.0)).close()
    ready, tell = os.pipe()
    with watchdog.ends():
        pid = os.fork()
        if not pid:
            try:
                record = Builds(Store.open(root, FakeClock(100.0))).begin(50.0, {"name": "n"}, ())
                for event in EVENTS[:6]:
                    record.emit(event)
                record.emit(VertexLog(vertex=B, time=9.0, stream=LogStream.STDOUT, data=b"later\n"))
                os.write(tell, b"x")
                signal.pause()
            finally:
                os._exit(1)
        try:
            assert os.read(ready, 1) == b"x"
            with Store.open(root, FakeClock(100.0)) as store:
                [running] = Builds(store).all()
                assert running.is_running
                Builds(store).trim()  # never what still goes on
                assert len(list(Builds(store).all())) == 1
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(ready)
            os.close(tell)
    with Store.open(root, FakeClock(100.0)) as store:
        [build] = Builds(store).all()
        assert (build.facts["status"], build.facts["name"]) == ("canceled", "n")
        assert text_of(list(read_events(build.log))).endswith("later\n")
        with open(build.log, "ab") as file:
            file.write(b'["log",1,3.0,1,"cut of')
        assert text_of(list(read_events(build.log))).endswith("later\n")
        Builds(store).remove(build)
        assert not list(Builds(store).all())


class Full(Disk):
    def write(self, fd: int, data: bytes | memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    with Store.open(tmp_path / "s", FakeClock(1.0), warn=warnings.append) as store:
        store.disk = Full()
        assert Builds(store).begin(1.0, {}, ()).log.fault is not None
        record = Builds(store).begin(2.0, {}, ())
        for event in EVENTS * 3:
            record.emit(event)
        record.end("completed")
    assert warnings == [
        "this build is not in the history: cannot write it: no space left on device"
    ]


def test_two_builds_at_once_keep_apart(store: Store) -> None:
    one, two = (Builds(store).begin(float(at), {"name": str(at)}, ()) for at in (1, 2))
    for event in EVENTS:
        one.emit(event)
        two.emit(event)
    two.end("error")
    assert [b.facts["status"] for b in Builds(store).all()] == ["error", "running"]
    one.end("completed")
    logs = [list(read_events(build.log)) for build in Builds(store).all()]
    assert logs == [EVENTS, EVENTS]


def test_the_oldest_go_when_they_are_too_many_or_too_large(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildhistory, "MAX_BUILDS", 3)
    for at in range(6):
        record = Builds(store).begin(float(at), {}, ())
        record.emit(EVENTS[0])
        record.end("completed")
    builds = Builds(store)
    assert [build.facts["at"] for build in builds.all()] == [5.0, 4.0, 3.0]
    monkeypatch.setattr(buildhistory, "MAX_BYTES", 2)
    builds.trim()
    assert [build.facts["at"] for build in builds.all()] == [5.0]


def test_pruning_takes_old_builds_by_the_words_it_is_told(tmp_path: Path) -> None:
    clock = FakeClock(1_000_000.0)
    with Store.open(tmp_path / "s", clock) as store:

        def left(policy: Policy) -> list[float]:
            for at in (1.0, 900_000.0, 999_000.0):
                Builds(store).begin(at, {}, ()).end("error")
            running = Builds(store).begin(2.0, {}, ())
            freed: list[UsageRecord] = []
            assert prune_builds(store, policy, freed.append) == sum(one.size for one in freed)
            ats = [build.facts["at"] for build in Builds(store).all()]
            running.end("completed")
            for build in Builds(store).all():
                Builds(store).remove(build)
            return ats

        assert left(Policy()) == [999_000.0, 900_000.0, 2.0]
        assert left(Policy(filters=("until=1h",))) == [999_000.0, 2.0]
        assert left(Policy(all=True)) == [2.0]
        assert len(left(Policy(max_used_space=0))) == 4
        assert len(left(Policy(filters=("type=regular",)))) == 4


def test_a_log_that_is_not_there_has_an_empty_header(tmp_path: Path) -> None:
    assert read_header(str(tmp_path / "absent")) == {}
    (tmp_path / "log").write_text('{"a": 1}\n{"b": 2}\n')
    assert read_header(str(tmp_path / "log")) == {"a": 1}
