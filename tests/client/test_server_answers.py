"""A server's answers and what becomes of them here: progress, errors, checks, facts, space."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import pytest

from pybuild.buildkit.methods import EXPLAIN_REPORTS
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.errors import VertexDetail, status_of
from pybuild.buildkit.pb.ops import Platform, Position, Range, SourceInfo
from pybuild.buildkit.pb.times import timestamp
from pybuild.buildkit.pb.worker import BuildkitVersion, WorkerRecord
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import UsageRecord
from pybuild.client import disk
from pybuild.client.build import SERVICE
from pybuild.client.builders import BuilderRecord
from pybuild.client.checks import answer_of
from pybuild.client.connect import connected
from pybuild.client.events import StatusReader, spans_of
from pybuild.client.explain import reports
from pybuild.client.failures import failure
from pybuild.frontend.question import Question
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, StepError, UsageError, UserError
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
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import serving

T = TypeVar("T")
A, B = Digest.of(b"a"), Digest.of(b"b")

# --- progress -------------------------------------------------------------------------------------


def vertex(digest: str = A, name: str = "n", **more: object) -> pb.StatusResponse:
    times = {
        key: timestamp(float(str(more.pop(key)))) for key in ("started", "completed") if key in more
    }
    return pb.StatusResponse(vertexes=[pb.Vertex(digest=digest, name=name, **times, **more)])  # type: ignore[arg-type]


def fed(reader: StatusReader, *messages: pb.StatusResponse) -> list[Event]:
    return [event for message in messages for event in reader.feed(message)]


def test_the_end_of_a_step_is_held_back_until_something_else_happens() -> None:
    reader = StatusReader()
    assert not reader.holds
    assert fed(reader, vertex(started=1.0, completed=2.0)) == [
        VertexAdded(vertex=A, name="n"),
        VertexStarted(vertex=A, time=1.0),
    ]
    assert reader.holds
    log = pb.StatusResponse(logs=[pb.VertexLog(vertex=A, stream=1, msg=b"x")])
    assert fed(reader, log) == [VertexLog(vertex=A, time=0.0, stream=LogStream.STDOUT, data=b"x")]
    assert reader.holds
    assert fed(reader, vertex(B)) == [
        VertexCompleted(vertex=A, time=2.0),
        VertexAdded(vertex=B, name="n"),
    ]
    assert not reader.holds and reader.release() == []
    assert fed(reader, vertex(B, started=3.0, completed=3.0, cached=True)) == []
    assert reader.release() == [VertexCached(vertex=B, time=3.0)] and not reader.holds


def test_a_step_that_runs_again_counts_by_its_last_end() -> None:
    reader = StatusReader()
    fed(reader, vertex(started=1.0, completed=2.0, error="no"), vertex(B, name="two", started=1.0))
    assert reader.steps() == () and reader.failed == A
    fed(reader, vertex(started=3.0))
    assert fed(reader, vertex(started=3.0, completed=4.0, cached=True)) == []
    assert reader.steps() == (("n", "CACHED"),)
    assert fed(reader, vertex(started=3.0, completed=9.0)) == []
    assert reader.release() == [VertexCached(vertex=A, time=4.0)]


def test_only_steps_of_the_build_are_counted() -> None:
    reader = StatusReader()
    names = ("[internal] load", "exporting to image", "[1/1] RUN x", "broken")
    for number, name in enumerate(names):
        more = {"error": "x: context canceled"} if name == "broken" else {}
        fed(
            reader,
            vertex(Digest.of(name.encode()), name, started=1.0, completed=2.0 + number, **more),
        )
    assert reader.steps() == (("[1/1] RUN x", "DONE"),)
    assert reader.failed is None


def test_the_first_failure_is_remembered() -> None:
    reader = StatusReader()
    events = fed(
        reader,
        vertex(started=1.0, completed=2.0, error="one"),
        vertex(B, started=1.0, completed=2.0, error="two"),
        vertex(Digest.of(b"c")),
    )
    failed = [event for event in events if isinstance(event, VertexFailed)]
    assert [(event.vertex, event.error, event.cancelled) for event in failed] == [
        (A, "one", False),
        (B, "two", False),
    ]
    assert reader.failed == A


def test_the_last_lines_of_a_step_are_kept() -> None:
    def log(data: bytes) -> pb.StatusResponse:
        return pb.StatusResponse(logs=[pb.VertexLog(vertex=A, stream=2, msg=data)])

    reader = StatusReader()
    assert reader.tail(A) == []
    (heard,) = fed(reader, log(b"".join(b"%d\n" % number for number in range(30))))
    assert isinstance(heard, VertexLog) and heard.stream is LogStream.STDERR
    assert reader.tail(A) == [str(number) for number in range(10, 30)]
    fed(reader, log(b"x" * (64 << 10)), log(b"\nlast"))
    lines = reader.tail(A)
    assert lines[-1] == "last" and len(lines[0]) == (16 << 10) - 5 and len(lines) == 2


def test_progress_without_amounts_is_news_only_at_its_end() -> None:
    def status(**more: object) -> list[Event]:
        message = pb.VertexStatus(ID="i", vertex=A, timestamp=timestamp(3.0), **more)  # type: ignore[arg-type]
        return fed(StatusReader(), pb.StatusResponse(statuses=[message]))

    assert status() == []
    progress = VertexProgress(vertex=A, id="i", time=3.0, current=1, total=0)
    assert status(current=1) == [progress]
    assert status(total=2) == [replace(progress, current=0, total=2)]
    (event,) = status(completed=timestamp(4.0))
    assert isinstance(event, VertexProgress) and event.done


@pytest.mark.parametrize(
    ("short", "rule", "message"),
    [
        (b"Rule: text (line 12)", "Rule", "text"),
        (b"two words: text", "", "two words: text"),
        (b"text (line x)", "", "text (line x)"),
        (b"a\nb", "", "a\nb"),
        (b"\xff", "", "\ufffd"),
    ],
)
def test_a_warning_has_its_rule_in_front(short: bytes, rule: str, message: str) -> None:
    reader = StatusReader({"D": "sub/D"})
    given = pb.VertexWarning(short=short, info=SourceInfo(filename="E"))
    assert fed(reader, pb.StatusResponse(warnings=[given])) == [
        BuildWarning(message=message, rule=rule)
    ]
    assert [one.message for one in reader.warnings] == [message]


def test_ranges_are_joined_where_they_touch() -> None:
    def ranges(*pairs: tuple[int, int]) -> list[Range]:
        return [Range(start=Position(line=a), end=Position(line=b)) for a, b in pairs]

    assert spans_of("f", ranges((1, 2), (3, 4), (6, 6))) == (Span("f", 1, 4), Span("f", 6, 6))
    assert spans_of("f", ranges((3, 1), (4, 4))) == (Span("f", 3, 4),)
    assert spans_of("f", ranges((-1, 2), (0, 0))) == ()
    assert spans_of("f", ranges((5, 5), (5, 5))) == (Span("f", 5, 5), Span("f", 5, 5))


@pytest.mark.parametrize(
    ("theirs", "now", "time"),
    [
        ("1970-01-01T00:01:40Z", 100.5, 110.0),
        ("1970-01-01T00:01:40Z", 101.0, 110.0),
        ("1970-01-01T00:01:40Z", 102.0, 112.0),
        ("1970-01-01T00:01:40+00:00", 90.0, 100.0),
        ("", 90.0, 110.0),
    ],
)
def test_clocks_that_differ_by_more_than_a_second_are_corrected(
    theirs: str, now: float, time: float
) -> None:
    reader = StatusReader()
    reader.server_time(theirs, now)
    (_, started) = fed(reader, vertex(started=110.0))
    assert isinstance(started, VertexStarted) and started.time == time


# --- errors ---------------------------------------------------------------------------------------


def test_an_error_brings_the_last_lines_of_its_step() -> None:
    reader = StatusReader()
    logs = [pb.VertexLog(vertex=digest, msg=digest[7:9].encode()) for digest in (A, B)]
    fed(reader, pb.StatusResponse(logs=logs), vertex(B, started=1.0, completed=2.0, error="x"))
    error = StepError("exit code: 3", status=3)

    def found(*details: VertexDetail, code: Code = Code.UNKNOWN) -> PybuildError:
        data = status_of(error, details=details).SerializeToString()
        return failure(RpcError(code, "exit code: 3", data), reader)

    named, guessed = found(VertexDetail(A)), found()
    assert isinstance(named, StepError) and named.log_tail == (A[7:9],)
    assert isinstance(guessed, StepError) and guessed.log_tail == (B[7:9],)
    plain = failure(
        RpcError(Code.UNKNOWN, "no", status_of(UserError("no")).SerializeToString()), reader
    )
    assert type(plain) is UserError
    lost = failure(RpcError(Code.UNAVAILABLE, "reset"))
    assert lost.message == "lost the build server: reset"


# --- checks ---------------------------------------------------------------------------------------


def check(**document: object) -> Mapping[str, bytes]:
    return {"result.json": json.dumps(document).encode()}


def test_lines_of_a_warning_may_be_half_said() -> None:
    data = base64.b64encode(b"FROM scratch\nRUN x\n").decode()
    sources = [{"filename": "D", "data": data}, {"data": None}]
    places = [
        {"ranges": [{"start": {"line": 2}}]},
        {"sourceIndex": 1, "ranges": [{"start": {"line": 1}, "end": {"line": 2}}]},
        {"ranges": [{"start": {"line": 2}, "end": {"line": 1}}]},
        None,
    ]
    warnings = [{"ruleName": "Own", "detail": f"d{n}", "location": p} for n, p in enumerate(places)]
    answer = answer_of(Question.CHECK, check(sources=sources, warnings=warnings), {"D": "sub/D"})
    assert "sub/D:2" in answer.text and "RUN x" in answer.text
    assert [one["detail"] for one in json.loads(answer.json)["warnings"]] == [
        "d0",
        "d1",
        "d2",
        "d3",
    ]


def test_a_file_without_faults_is_clean() -> None:
    clean = answer_of(Question.CHECK, check(warnings=None, sources=None, buildError=None), {})
    assert clean.is_clean and clean.error is None
    broken = answer_of(Question.CHECK, check(buildError={"message": "no"}), {})
    assert not broken.is_clean and broken.error is not None and broken.error.hints == ()
    assert not answer_of(Question.CHECK, check(warnings=[{"ruleName": "x"}]), {}).is_clean


def test_other_answers_are_texts() -> None:
    given = {"result.txt": b"a\n", "result.json": b""}
    answer = answer_of(Question.OUTLINE, given, {})
    assert (answer.text, answer.json, answer.is_clean) == ("a\n", "", True)
    assert answer_of(Question.OUTLINE, {}, {}).text == ""


@pytest.mark.parametrize(
    "text",
    [
        '{"warnings": [{"location": {"ranges": []}}]}',
        '{"buildError": {"hints": []}}',
        '{"buildError": 3}',
    ],
)
def test_an_answer_that_contradicts_itself_is_a_fault(text: str) -> None:
    with pytest.raises(EnvironmentFault, match="the server's answer to a check: "):
        answer_of(Question.CHECK, {"result.json": text.encode()}, {})


# --- the server's facts and its space -------------------------------------------------------------


def asked(handlers: Mapping[str, Handler], ask: Callable[[BuilderRecord], Awaitable[T]]) -> T:
    async def run() -> T:
        async with serving(handlers) as path:
            return await ask(BuilderRecord("", f"unix://{path}"))

    return asyncio.run(run())


def says(message: bytes) -> Handler:
    async def answer(data: bytes, call: IncomingCall) -> bytes:
        return message

    return unary(answer)


def refuses(code: Code) -> Handler:
    async def answer(data: bytes, call: IncomingCall) -> bytes:
        raise RpcError(code, "why")

    return unary(answer)


WORKER = WorkerRecord(
    Labels={"b": "2", "a": "1"},
    platforms=[
        Platform(OS="linux", Architecture="amd64"),
        Platform(OS="linux", Architecture="arm", Variant="v7"),
        Platform(OS="linux", Architecture="amd64"),
    ],
)


def test_a_server_is_described_by_its_first_worker() -> None:
    version = BuildkitVersion(version="v1", package="p")
    workers = pb.ListWorkersResponse(record=[WORKER, WorkerRecord(Labels={"c": "3"})])
    handlers = {
        SERVICE + "Info": says(pb.InfoResponse(buildkitVersion=version).SerializeToString()),
        SERVICE + "ListWorkers": says(workers.SerializeToString()),
    }
    found = asked(handlers, disk.facts)
    assert (found.version, found.platforms) == ("v1 p", ("linux/amd64", "linux/arm/v7"))
    assert found.labels == (("a", "1"), ("b", "2"))


def test_an_old_server_has_no_version_and_a_bare_one_no_worker() -> None:
    nothing = says(pb.ListWorkersResponse().SerializeToString())
    found = asked({SERVICE + "ListWorkers": nothing}, disk.facts)
    assert (found.version, found.platforms, found.labels) == ("", (), ())
    handlers = {SERVICE + "Info": refuses(Code.UNKNOWN), SERVICE + "ListWorkers": nothing}
    with pytest.raises(UserError, match="why"):
        asked(handlers, disk.facts)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (says(pb.InfoResponse(buildkitVersion=BuildkitVersion(revision="f00")).SerializeToString()), "--max-age"),
        (refuses(Code.UNIMPLEMENTED), "--max-age is not known to this build server"),
        (refuses(Code.UNKNOWN), "why"),
    ],
)  # fmt: skip
def test_an_age_is_refused_where_a_server_would_drop_it(answer: Handler, cause: str) -> None:
    async def ask(record: BuilderRecord) -> None:
        async with connected(record) as channel:
            await disk.require_ours(channel, "--max-age")

    with pytest.raises(UserError, match=cause):
        asked({SERVICE + "Info": answer}, ask)


USED = pb.UsageRecord(
    ID="i", RecordType="regular", Size=5, CreatedAt=timestamp(1.0), LastUsedAt=timestamp(2.0),
    UsageCount=3, InUse=True, Parents=["p", "q"], Parent="r", Description="d",
)  # fmt: skip
RECORD = UsageRecord(
    id="i", kind="", type="regular", size=5, created=1.0, last_used=2.0, use_count=3, in_use=True,
    shared=False, mutable=False, parents=("p", "q"), description="d",
)  # fmt: skip


def test_space_is_told_record_by_record() -> None:
    heard: list[pb.DiskUsageRequest] = []

    async def usage(data: bytes, call: IncomingCall) -> bytes:
        heard.append(pb.DiskUsageRequest.FromString(data))
        old = pb.UsageRecord(ID="o", Parent="r", Shared=True, Mutable=True)
        return pb.DiskUsageResponse(record=[USED, old, pb.UsageRecord()]).SerializeToString()

    handlers = {SERVICE + "DiskUsage": unary(usage)}
    found = asked(handlers, lambda builder: disk.usage(builder, ["type==x"]))
    assert list(heard[0].filter) == ["type==x"] and found[0] == RECORD
    assert (found[1].parents, found[1].shared, found[1].mutable) == (("r",), True, True)
    assert found[2].parents == ()


def test_freed_space_is_counted() -> None:
    heard: list[pb.PruneRequest] = []

    async def prune(call: IncomingCall) -> None:
        heard.append(pb.PruneRequest.FromString(await call.receive() or b""))
        for _ in range(2):
            await call.send(USED.SerializeToString())

    told: list[UsageRecord] = []
    policy = Policy(all=True, filters=("a",), reserved_space=1, max_used_space=2, min_free_space=3)
    handlers: dict[str, Handler] = {SERVICE + "Prune": prune}
    assert asked(handlers, lambda one: disk.prune(one, policy, told.append)) == 10
    assert asked(handlers, lambda one: disk.prune(one, Policy(), told.append)) == 10
    assert told == [RECORD] * 4
    full = pb.PruneRequest(filter=["a"], all=True, reservedSpace=1, maxUsedSpace=2, minFreeSpace=3)
    assert heard == [full, pb.PruneRequest()]


def test_a_server_that_keeps_no_reports_says_so() -> None:
    async def ask(builder: BuilderRecord) -> object:
        async with connected(builder) as channel:
            return await reports(channel)

    with pytest.raises(UserError, match="does not say why steps ran") as caught:
        asked({}, ask)
    assert caught.value.hints == ("servers that pybuild daemon runs do",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"ref": "r"}, {"ref": "r"}),
        ({"everything": True, "ref": "r"}, {"all": True}),
    ],
)
def test_reports_are_asked_for_by_request_or_all(
    options: dict[str, object], expected: dict[str, object]
) -> None:
    heard: list[object] = []

    async def answer(call: IncomingCall) -> None:
        heard.append(json.loads(await call.receive() or b""))
        await call.send(b"{}")  # of a pybuild of another time: left out

    async def ask(builder: BuilderRecord) -> object:
        async with connected(builder) as channel:
            return await reports(channel, **options)  # type: ignore[arg-type]

    assert asked({EXPLAIN_REPORTS: answer}, ask) == []
    assert heard == [expected]


@pytest.mark.parametrize("address", ["", "host:1", "http://x", "unix:/x"])
def test_an_address_says_how_to_get_there(address: str) -> None:
    async def run() -> None:
        async with connected(BuilderRecord("", address)):
            raise AssertionError

    with pytest.raises(UsageError, match="expected unix://PATH or tcp://HOST:PORT"):
        asyncio.run(run())


def test_nobody_at_an_address_is_a_fault_with_a_way_out() -> None:
    async def run() -> None:
        async with connected(BuilderRecord("b", "unix:///nonexistent/s")):
            raise AssertionError

    with pytest.raises(EnvironmentFault) as caught:
        asyncio.run(run())
    assert caught.value.message == (
        "cannot connect to b (unix:///nonexistent/s): no such file or directory"
    )
    assert caught.value.hints == ("start a server there: pybuild daemon --addr ADDR",)
