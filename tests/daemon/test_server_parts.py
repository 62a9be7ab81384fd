"""Outputs, errors, progress, traces and records of a server, as clients read them [7, 8]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.errors import (
    FrontendCapDetail,
    FrontendDetail,
    SubrequestDetail,
    VertexDetail,
    details_of,
    parse_status,
)
from pybuild.buildkit.pb.gateway import WarnRequest
from pybuild.buildkit.pb.ops import SourceInfo
from pybuild.buildkit.pb.times import timestamp
from pybuild.cache.space.prune import Policy
from pybuild.daemon.builds.caches import imports_of
from pybuild.daemon.builds.outputs import outputs_of, response_of
from pybuild.daemon.builds.status import Journal, LogRoom, Teller, ranges_of
from pybuild.daemon.builds.trace import Trace
from pybuild.daemon.builds.trees import ClientTrees, read_all
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.control.history import History
from pybuild.daemon.control.workers import PROTOCOL_VERSION, platform_message, version, worker
from pybuild.daemon.frontend.attrs import UnsupportedCap
from pybuild.daemon.frontend.subrequests import UnknownRequest
from pybuild.daemon.session.copies import Copies, CopyOrigin
from pybuild.daemon.session.filesync import LocalSync
from pybuild.daemon.session.sessions import Session
from pybuild.daemon.session.verdicts import SourceRefused
from pybuild.exporter.built import Exported, Made
from pybuild.exporter.output import Output
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
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
from pybuild.model.ops import LocalSource
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.policy import PolicySource
from pybuild.model.span import Span
from pybuild.net.grpc.status import Code, RpcError
from tests.clocks import FakeClock
from tests.daemon.peers import open_store
from tests.daemon.test_control_parts import listed, record

V, W = Digest.of(b"v"), Digest.of(b"w")

# --- outputs --------------------------------------------------------------------------------------


def exporter(kind: str, **attrs: str) -> list[Output]:
    named = {name.replace("_", "-"): value for name, value in attrs.items()}
    return outputs_of(pb.SolveRequest(Exporters=[pb.Exporter(Type=kind, Attrs=named)]))


def test_outputs_are_those_of_the_exporters_or_of_the_one_that_old_clients_name() -> None:
    both = pb.SolveRequest(
        Exporters=[pb.Exporter(Type="image", Attrs={"name": "a"}), pb.Exporter(Type="cacheonly")],
        ExporterDeprecated="tar",
    )
    assert outputs_of(both) == [Output(type="image", attrs={"name": "a"}), Output(type="cacheonly")]
    old = pb.SolveRequest(ExporterDeprecated="oci", ExporterAttrsDeprecated={"name": "b"})
    assert outputs_of(old) == [Output(type="oci", attrs={"name": "b"})]
    assert outputs_of(pb.SolveRequest()) == []
    exporters = [pb.Exporter(Type="oci"), pb.Exporter(Type="tar")]
    older = pb.SolveRequest(Exporters=exporters, CompatibilityVersion=20)
    assert [one.attrs for one in outputs_of(older)] == [{"compatibility-version": "20"}, {}]
    with pytest.raises(UserError, match='exporter "registry" could not be found'):
        exporter("registry")


def test_trees_take_the_attributes_that_mean_something_to_them() -> None:
    assert exporter("cacheonly", anything="x") == [Output(type="cacheonly")]
    given = {"platform_split": "true", "mode": "copy", "name": "x", "source_date_epoch": "1"}
    (local,) = exporter("local", **given)
    assert local.attrs == {"platform-split": "true", "mode": "copy", "source-date-epoch": "1"}
    (tar,) = exporter("tar", **given)
    assert tar.attrs == {"source-date-epoch": "1"}


def test_a_flag_without_a_value_is_set() -> None:
    (image,) = exporter("image", name="a", push="", store="false", unpack="", danglingname="x")
    assert image.attrs == {"name": "a", "push": "true", "store": "false"}
    with pytest.raises(UsageError, match='has no attribute "nonsense"'):
        exporter("image", nonsense="x")
    with pytest.raises(UsageError, match="tag is needed when pushing"):
        exporter("image", push="true")


@pytest.mark.parametrize(
    ("epoch", "given", "expected"),
    [("7", {}, "7"), ("7", {"source-date-epoch": "8"}, "8"), ("", {}, ""), ("context", {}, None)],
)
def test_the_time_of_a_build_is_that_of_its_images(
    epoch: str, given: dict[str, str], expected: str | None
) -> None:
    request = pb.SolveRequest(
        Exporters=[pb.Exporter(Type="image", Attrs=given)],
        FrontendAttrs={"build-arg:SOURCE_DATE_EPOCH": epoch},
    )
    (output,) = outputs_of(request)
    assert output.attrs.get("source-date-epoch") == expected


def test_an_answer_has_the_facts_of_its_images() -> None:
    assert response_of([]) == response_of([Exported()]) == {}
    descriptor = Descriptor(OCI_MANIFEST, V, 5)
    made = Made(descriptor=descriptor, image_id=W)
    facts = response_of([Exported(made=made, metadata={"image.name": "a", "n": 3}), Exported()])
    document = json.loads(base64.b64decode(facts.pop("containerimage.descriptor")))
    assert document == {"mediaType": OCI_MANIFEST, "digest": V, "size": 5}
    assert facts == {"image.name": "a", "n": "3"}


def test_caches_to_import_are_those_of_the_request_or_of_old_clients() -> None:
    entry = pb.CacheOptionsEntry(Type="local", Attrs={"src": "d"})
    options = pb.CacheOptions(Imports=[entry], ImportRefsDeprecated=["r"])
    assert imports_of(options) == [("local", {"src": "d"})]
    assert imports_of(pb.CacheOptions(ImportRefsDeprecated=["r", "s"])) == [
        ("registry", {"ref": "r"}),
        ("registry", {"ref": "s"}),
    ]
    assert imports_of(pb.CacheOptions()) == []


# --- the server itself ----------------------------------------------------------------------------


def test_a_server_says_what_it_is() -> None:
    policies = [
        Policy(all=True, keep_duration_s=1.5, filters=("type==x",), reserved_space=1),
        Policy(max_used_space=2, min_free_space=3),
    ]
    platforms = (LINUX_AMD64, Platform("linux", "arm", "v7"))
    found = worker(
        "id", "namespaces", {"mine": "x", "pybuild.isolation": "other"}, platforms, policies
    )
    assert (found.ID, found.Labels["mine"]) == ("id", "x")
    assert found.Labels["pybuild.isolation"] == "other"
    assert found.Labels["org.mobyproject.buildkit.worker.hostname"] == os.uname().nodename
    assert [(p.OS, p.Architecture, p.Variant) for p in found.platforms] == [
        ("linux", "amd64", ""),
        ("linux", "arm", "v7"),
    ]
    first, second = found.GCPolicy
    assert (first.all, first.keepDuration, list(first.filters)) == (
        True,
        1_500_000_000,
        ["type==x"],
    )
    assert (first.reservedSpace, first.maxUsedSpace, first.minFreeSpace) == (1, 0, 0)
    assert (second.all, second.keepDuration) == (False, 0)
    assert (second.reservedSpace, second.maxUsedSpace, second.minFreeSpace) == (0, 2, 3)
    assert found.BuildkitVersion == version() and version().version == PROTOCOL_VERSION
    assert worker("i", "none", {}, (), ()).Labels["pybuild.isolation"] == "none"
    assert platform_message(platforms[1]).Variant == "v7"


# --- errors ---------------------------------------------------------------------------------------


def brief(error: RpcError) -> list[object]:
    status = parse_status(error.brief)
    assert status is not None and status.code == error.code
    kinds = (FrontendCapDetail, FrontendDetail, SubrequestDetail, VertexDetail)
    return [detail for detail in details_of(status) if isinstance(detail, kinds)]


def test_errors_tell_what_their_kind_knows() -> None:
    found = rpc_error(UserError("no"), "dockerfile.v0", vertex=V)
    assert (found.code, found.message) == (Code.UNKNOWN, "no")
    assert brief(found) == [VertexDetail(V), FrontendDetail("dockerfile.v0")]
    found = rpc_error(UnsupportedCap("c"))
    assert found.code is Code.UNIMPLEMENTED and brief(found) == [FrontendCapDetail("c")]
    found = rpc_error(UnknownRequest("r"))
    assert found.code is Code.UNIMPLEMENTED and brief(found) == [SubrequestDetail("r")]
    refused = SourceRefused(PolicySource("docker-image://x"), "DENY", ("because",))
    bare = SourceRefused(PolicySource("docker-image://x"), "DENY")
    kinds: list[bool] = []
    for error in (refused, bare):
        status = parse_status(rpc_error(error).brief)
        assert status is not None
        urls = [detail.type_url.rpartition("/")[2] for detail in status.details]
        kinds.append("policysession.DecisionResponse+json" in urls)
    assert kinds == [True, False]
    assert brief(rpc_error(UserError("no"))) == []


def test_faults_of_ours_are_called_so_and_others_pass() -> None:
    found = rpc_error(ZeroDivisionError("oops"))
    assert found.message == "internal error: ZeroDivisionError: oops"
    assert found.code is Code.INTERNAL
    ready = RpcError(Code.NOT_FOUND, "x")
    assert rpc_error(ready) is ready
    cancelled = rpc_error(asyncio.CancelledError())  # type: ignore[arg-type]
    assert (cancelled.code, cancelled.message) == (Code.CANCELLED, "context canceled")


# --- progress -------------------------------------------------------------------------------------


def told(*events: Event, room: LogRoom | None = None, now: float = 50.0) -> list[pb.StatusResponse]:
    journal = Journal.temporary(room)
    teller = Teller(journal, FakeClock(now))
    for event in events:
        teller.emit(event)
    return heard(journal)


def heard(journal: Journal) -> list[pb.StatusResponse]:
    async def run() -> list[pb.StatusResponse]:
        return [pb.StatusResponse.FromString(data) async for data in journal.follow()]

    journal.close()
    messages = asyncio.run(run())
    journal.discard()
    return messages


def test_a_step_is_added_once_and_begins_again_without_an_end() -> None:
    messages = told(
        VertexAdded(vertex=V, name="one"),
        VertexAdded(vertex=V, name="two"),
        VertexStarted(vertex=V, time=1.0),
        VertexCompleted(vertex=V, time=2.0),
        VertexStarted(vertex=V, time=3.0),
    )
    assert [message.vertexes[0].name for message in messages] == ["one"] * 4
    last = messages[-1].vertexes[0]
    assert last.started == timestamp(3.0) and not last.HasField("completed")
    (unknown,) = told(VertexCompleted(vertex=W, time=2.0))
    assert unknown.vertexes[0].started == unknown.vertexes[0].completed == timestamp(2.0)


def test_counts_of_steps_are_those_of_the_history() -> None:
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    for event in (
        VertexAdded(vertex=V, name="v"),
        VertexCached(vertex=V, time=1.0),
        VertexFailed(vertex=W, time=2.0, error="first"),
        VertexFailed(vertex=Digest.of(b"x"), time=2.0, error="second"),
    ):
        teller.emit(event)
    assert (teller.total, teller.completed, teller.cached, teller.failed) == (3, 3, 1, W)
    errors = [message.vertexes[0].error for message in heard(journal)]
    assert errors == ["", "", "first", "second"]


def test_progress_is_told_every_tenth_of_a_second() -> None:
    def at(time: float, current: int, **more: object) -> VertexProgress:
        return VertexProgress(vertex=V, id="copying files", current=current, time=time, **more)  # type: ignore[arg-type]

    messages = told(
        at(1.0, 1), at(1.05, 2), at(1.125, 3, total=9), at(1.2, 4), at(1.21, 5, done=True)
    )
    statuses = [message.statuses[0] for message in messages]
    assert [status.current for status in statuses] == [1, 3, 5]
    assert [status.total for status in statuses] == [0, 9, 0]
    assert {(status.ID, status.name) for status in statuses} == {("copying files", "copying")}
    assert {status.started.seconds for status in statuses} == {1}
    assert [status.HasField("completed") for status in statuses] == [False, False, True]
    (other,) = told(VertexProgress(vertex=V, id="sha256:x", current=1))
    assert (other.statuses[0].name, other.statuses[0].timestamp.seconds) == ("sha256:x", 50)


def test_what_ended_before_is_no_more_under_way() -> None:
    messages = told(
        VertexProgress(vertex=V, id="a", current=1, done=True, time=1.0),
        VertexProgress(vertex=V, id="b", current=1, time=1.0),
        VertexProgress(vertex=W, id="c", current=1, time=1.0),
        VertexCompleted(vertex=V, time=2.0),
    )
    assert [status.ID for status in messages[-1].statuses] == ["b"]


def test_each_stream_has_its_number_and_pieces_of_a_quarter_mebibyte() -> None:
    most = 256 << 10
    streams = (LogStream.STDOUT, LogStream.STDERR)
    messages = told(
        *(
            VertexLog(vertex=V, time=1.5, stream=stream, data=b"x" * (most + 1))
            for stream in streams
        )
    )
    logs = [message.logs[0] for message in messages]
    assert [(log.stream, len(log.msg)) for log in logs] == [(1, most), (1, 1), (2, most), (2, 1)]
    assert {log.timestamp.nanos for log in logs} == {500_000_000}
    assert told(VertexLog(vertex=V, time=1.0, stream=LogStream.STDOUT, data=b"")) == []


def test_the_room_of_all_logs_is_full_when_more_than_that_is_taken() -> None:
    room = LogRoom(12)
    journal = Journal.temporary(room)
    journal.write(b"12345678")
    assert (room.taken, journal.is_full) == (12, False)
    journal.write(b"")
    assert (room.taken, journal.is_full) == (16, True)
    journal.close()
    journal.write(b"late")
    assert room.taken == 16
    journal.discard()
    assert room.taken == 0


def test_a_journal_is_read_again_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_bytes(b"\3\0\0\0one\0\0\0\0\2\0\0\0")  # the last one is cut

    async def run() -> list[bytes]:
        journal = Journal.stored(str(path))
        try:
            return [message async for message in journal.follow()]
        finally:
            journal.discard()

    assert asyncio.run(run()) == [b"one", b""]


def test_warnings_have_the_words_that_every_client_shows() -> None:
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    spans = (Span("D", 3, 4), Span("D", 9, 9))
    teller.warn(
        BuildWarning(rule="R", message="m", url="u", spans=spans, detail=("d",)), V, "D", b"text"
    )
    teller.warn(BuildWarning(message="plain"), V, "D", b"text")
    info = SourceInfo(filename="F")
    teller.forward_warning(WarnRequest(digest=V, level=2, short=b"s", url="w", info=info))
    teller.forward_warning(WarnRequest(digest=V, short=b"t"))
    first, second, third, fourth = (message.warnings[0] for message in heard(journal))
    assert (first.short, first.url, first.level, list(first.detail)) == (
        b"R: m (line 3)", "u", 1, [b"d"]
    )  # fmt: skip
    assert [one.start.line for one in first.ranges] == [3, 4, 9]
    assert (first.info.filename, first.info.data, first.info.language) == (
        "D",
        b"text",
        "Dockerfile",
    )
    assert second.short == b"plain" and not second.HasField("info")
    assert (third.short, third.level, third.url, third.info.filename) == (b"s", 2, "w", "F")
    assert fourth.short == b"t" and not fourth.HasField("info")
    assert teller.warnings == 4


def test_a_span_is_a_range_for_each_of_its_first_lines() -> None:
    lines = [one.start.line for one in ranges_of([Span("D", 5, 1000)])]
    assert lines == list(range(5, 106))
    assert ranges_of([]) == []
    (only,) = ranges_of([Span("D", 7, 7)])
    assert only.start.line == only.end.line == 7


# --- traces ---------------------------------------------------------------------------------------


def test_a_step_has_the_times_that_are_known() -> None:
    trace = Trace("ref", 10.0)
    for digest, name in ((V, "started"), (W, "cached"), (Digest.of(b"x"), "never")):
        trace.watch(VertexAdded(vertex=digest, name=name))
    trace.watch(VertexAdded(vertex=V, name="again"))
    trace.watch(VertexStarted(vertex=V, time=11.0))
    trace.watch(VertexCached(vertex=W, time=12.0))
    trace.watch(VertexStarted(vertex=Digest.of(b"unknown"), time=1.0))
    spans = [json.loads(line) for line in trace.document(13.0).splitlines()]
    assert [(one["Name"], one["StartTime"][17:22], one["EndTime"][17:22]) for one in spans] == [
        ("started", "11.00", "13.00"),
        ("cached", "12.00", "12.00"),
        ("moby.buildkit.v1.Control/Solve", "10.00", "13.00"),
    ]
    assert [(one["SpanKind"], one["ChildSpanCount"]) for one in spans] == [(1, 0), (1, 0), (2, 2)]
    facts = {one["Key"]: one["Value"] for one in spans[-1]["Attributes"]}
    assert facts["ref"] == {"Type": "STRING", "Value": "ref"}
    assert len(spans[0]["SpanContext"]["TraceID"]) == 32 and Trace("ref", 1.0).id == trace.id
    assert Trace("other", 10.0).id != trace.id


def test_no_span_ends_before_it_begins() -> None:
    (span,) = Trace("ref", 10.0).document(9.0).splitlines()
    assert json.loads(span)["EndTime"] == json.loads(span)["StartTime"]


# --- history --------------------------------------------------------------------------------------


def test_records_are_chosen_by_what_they_are(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    failed = record("failed", 1, CompletedAt=timestamp(2))
    failed.error.message = "no"
    history.end(failed)
    history.end(record("done", 2, CompletedAt=timestamp(3)))
    history.begin(record("now", 3))

    def refs(*filters: str, **more: object) -> list[str]:
        return [ref for _, ref in listed(history, Filter=filters, **more)]

    assert refs() == ["now", "failed", "done"]
    assert refs("status==error") == ["failed"] and refs("status=completed") == ["done"]
    assert refs("status==running") == ["now"]
    assert refs("ref==done") == ["done"] and refs("ref==none") == []
    assert refs("status==error", "ref==done") == []
    assert refs("unknown==x") == refs("", "nothing") == refs()
    assert refs(Limit=2) == ["failed", "done"] and refs(Limit=9) == refs()
    assert refs(ActiveOnly=True) == ["now"] and refs(Ref="failed") == ["failed"]
    assert [kind for kind, _ in listed(history)] == [pb.STARTED, pb.COMPLETE, pb.COMPLETE]


def test_a_build_that_goes_on_is_not_deleted_and_pins_are_kept(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    running = record("now", 1)
    history.begin(running)
    assert history.get("now") is running and not history.delete("now")
    assert history.pin("now", True) and running.pinned
    assert list((tmp_path / "history/records").iterdir()) == []
    history.end(running)
    found = History(str(tmp_path)).get("now")
    assert found is not None and found.pinned and history.active() == []
    assert history.pin("now", False)
    found = History(str(tmp_path)).get("now")
    assert found is not None and not found.pinned
    assert not history.pin("none", True) and not history.delete("none")


def test_blobs_are_found_by_their_digests(tmp_path: Path) -> None:
    history = History(str(tmp_path), "owner")
    found = history.add_blob(b"abc", "text/plain")
    assert (found.media_type, found.size, found.digest) == ("text/plain", 3, Digest.of(b"abc"))
    path = history.blob_path(found.digest)
    assert path is not None and Path(path).read_bytes() == b"abc"
    assert path.startswith(str(tmp_path / "history/owner/blobs"))
    assert history.blob_path(Digest.of(b"other")) is None
    assert History(str(tmp_path), "other").blob_path(found.digest) is None
    assert history.blob_path(found.digest.replace("sha256", "sha512")) is None


def test_young_blobs_wait_for_their_record(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    young, old = history.add_blob(b"young", "t"), history.add_blob(b"old", "t")
    old_path = history.blob_path(old.digest)
    assert old_path is not None
    os.utime(old_path, (1, 1))
    history.end(record("a", 1))
    assert history.delete("a")
    assert history.blob_path(young.digest) and history.blob_path(old.digest) is None


def test_the_oldest_records_beyond_the_most_go_but_pinned_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.daemon.control.history.MAX_RECORDS", 2)
    history = History(str(tmp_path))
    for number in range(5):
        history.end(record(f"r{number}", number))
        if number == 0:
            assert history.pin("r0", True)
    assert [one.Ref for one in history.records()] == ["r0", "r3", "r4"]


# --- copies of directories ------------------------------------------------------------------------


def test_copies_are_kept_apart_by_what_they_are_of() -> None:
    origins = [
        CopyOrigin(name="a"),
        CopyOrigin(name="b"),
        CopyOrigin(name="a", owner="o"),
        CopyOrigin(name="a", shared_key="k"),
        CopyOrigin(name="a", hint="h"),
    ]
    assert len({origin.family() for origin in origins}) == 5
    part = CopyOrigin(name="a", patterns=(("x",), (), ()))
    assert part.family() == origins[0].family() and part.part() != origins[0].part()
    assert CopyOrigin(name="a", patterns=(["x"], [], [])).part() == part.part()


def test_a_copy_is_one_holders_and_two_of_a_family_are_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    copies = Copies(store)
    origin = CopyOrigin(name="context", shared_key="k")
    held = [copies.take(origin) for _ in range(3)]
    assert len({copy.id for copy in held}) == 3
    for copy in held:
        assert os.listdir(copy.path) == [] and os.stat(copy.path).st_mode & 0o777 == 0o755
        copy.received()
        copy.give_up()  # nothing: it is complete
        assert os.path.isdir(copy.path)
        facts = store.records.get("context", copy.id)
        assert facts is not None and facts["count"] == 1
        assert facts["description"] == "local source for context"
    for copy in held:
        copy.close()
        copy.close()
    assert len(os.listdir(copies.folder)) == 2
    again = copies.take(origin)
    again.received()
    facts = store.records.get("context", again.id)
    assert facts is not None and facts["count"] == 2
    again.close()
    failed = copies.take(CopyOrigin(name="other"))
    failed.give_up()
    assert not os.path.exists(failed.home) and store.records.get("context", failed.id) is None
    failed.close()


# --- directories of clients -----------------------------------------------------------------------


def silent(id: str, current: int, total: int, done: bool) -> None:
    """Hear of progress and say nothing."""


async def nobody(id: str) -> Session:
    raise AssertionError(id)


def test_a_directory_that_is_read_in_two_ways_has_two_names(tmp_path: Path) -> None:
    trees = ClientTrees(None, nobody, LocalSync(open_store(tmp_path / "store")))
    first, second = LocalQuery(dir_name="c"), LocalQuery(dir_name="c", follow=("a",), session="s")
    other = LocalQuery(dir_name="d")
    names = [trees.name_of(query) for query in (first, second, first, other)]
    assert names == ["c#1", "c#2", "c#1", "d#1"]
    trees.call("context", "ctx")
    trees.will_use({"context": ("a", "b")})
    trees.use_session("ctx", "mine")
    sources = [LocalSource(name=name) for name in ("c#2", "context", "plain")]
    assert [trees.client_name(source) for source in sources] == ["c", "ctx", "plain"]
    given = LocalSource(name="context", exclude=("x",))
    assert trees.queries([LocalSource(name="c#1"), LocalSource(name="c#2"), given]) == {
        "c#1": first,
        "c#2": second,
        "context": LocalQuery(
            dir_name="ctx", exclude=("x",), follow=("a", "b"), shared_key="ctx", session="mine"
        ),
    }


def test_a_directory_of_nobody_is_missing(tmp_path: Path) -> None:
    async def run() -> None:
        trees = ClientTrees(None, nobody, LocalSync(open_store(tmp_path / "store")))
        with pytest.raises(UserError, match='no session has the directory "context"'):
            await trees.tree(LocalSource(name="context"), silent)
        await trees.close()
        await trees.close()

    asyncio.run(run())


def test_files_of_a_directory_are_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"abc")
    (root / "l").symlink_to("a")
    (root / "out").symlink_to("../outside")
    assert read_all(str(root), ["a", "l", "none", "out"], 3) == {"a": b"abc", "l": b"abc"}
    with pytest.raises(UserError, match="failed to read a: larger than 0 MiB"):
        read_all(str(root), ["a"], 2)
