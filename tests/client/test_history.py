"""The builds that a server remembers, as records of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import timestamp
from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.client.build import SERVICE
from pybuild.client.builders import BuilderRecord
from pybuild.client.history import builds, forget, replay
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.model.events import Event, VertexAdded, VertexCompleted, VertexStarted
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import serving

T = TypeVar("T")
A = Digest.of(b"a")


def asked(handlers: Mapping[str, Handler], ask: Callable[[BuilderRecord], Awaitable[T]]) -> T:
    async def run() -> T:
        async with serving({SERVICE + name: one for name, one in handlers.items()}) as path:
            return await ask(BuilderRecord("", f"unix://{path}"))

    return asyncio.run(run())


def known(*events: pb.BuildHistoryEvent | bytes) -> list[BuildRecord]:
    async def listen(call: IncomingCall) -> None:
        request = pb.BuildHistoryRequest.FromString(await call.receive() or b"")
        assert request.EarlyExit
        for event in events:
            await call.send(event if isinstance(event, bytes) else event.SerializeToString())

    return asked({"ListenBuildHistory": listen}, builds)


def event(ref: str, at: float, **more: object) -> pb.BuildHistoryEvent:
    record = pb.BuildHistoryRecord(Ref=ref, CreatedAt=timestamp(at), **more)  # type: ignore[arg-type]
    return pb.BuildHistoryEvent(type=pb.COMPLETE, record=record)


def test_the_latest_build_comes_first_and_what_was_removed_not_at_all() -> None:
    removed = event("gone", 9.0)
    removed.type = pb.DELETED
    found = known(event("old", 1.0), event("new", 5.0), removed)
    assert [record.id for record in found] == ["new", "old"]


def test_a_record_is_read() -> None:
    attrs = {
        "frontend.caps": "x", "build-arg:B": "2", "build-arg:A": "1", "build-arg:TOKEN": "secret", "context": "/src",
        "filename": "D", "target": "t", "no-cache": "",
    }  # fmt: skip
    one = event("r", 1.0, FrontendAttrs=attrs, CompletedAt=timestamp(3.5), numTotalSteps=4)
    one.record.numCompletedSteps, one.record.numCachedSteps, one.record.numWarnings = 3, 2, 1
    one.record.Results["linux/amd64"].Results[0].digest = "sha256:i"
    one.record.Results["linux/arm64"].Results[0].digest = "sha256:i"
    [record] = known(one)
    assert (record.status, record.at, record.seconds) == (BuildStatus.COMPLETED, 1.0, 2.5)
    assert (record.context, record.dockerfile, record.target) == ("/src", "D", "t")
    assert record.args[:2] == ("A=1", "B=2")
    assert "secret" not in " ".join(record.args)
    assert dict(record.attrs) == {"no-cache": ""}
    assert (record.total, record.completed, record.cached, record.warnings) == (4, 3, 2, 1)
    assert record.images == ("sha256:i",)
    one.record.Result.Results[0].digest = "sha256:whole"
    assert known(one)[0].images == ("sha256:whole",)


def test_a_build_has_the_name_that_it_was_given() -> None:
    local = {"vcs:localdir:context": "/home/src"}
    named = {**local, "build-arg:BUILDKIT_BUILD_NAME": "mine"}
    first, second = known(
        event("a", 2.0, FrontendAttrs=local), event("b", 1.0, FrontendAttrs=named)
    )
    assert (first.context, first.dockerfile, second.name) == ("/home/src", "Dockerfile", "mine")
    assert first.name.startswith("/home/src") or first.name == "src"


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        (Code.CANCELLED, "x", BuildStatus.CANCELED),
        (Code.UNKNOWN, "solve: context canceled", BuildStatus.CANCELED),
        (Code.UNKNOWN, "it broke", BuildStatus.ERROR),
    ],
)
def test_how_a_build_ended(code: Code, message: str, status: BuildStatus) -> None:
    one = event("r", 5.0, CompletedAt=timestamp(1.0))
    one.record.error.code, one.record.error.message = code, message
    [record] = known(one)
    assert (record.status, record.error, record.seconds) == (status, message, 0.0)
    [running] = known(event("r", 5.0))
    assert (running.status, running.seconds) == (BuildStatus.RUNNING, None)


def test_the_events_of_a_build_come_again_to_its_end() -> None:
    async def status(call: IncomingCall) -> None:
        assert pb.StatusRequest.FromString(await call.receive() or b"").Ref == "r"
        vertex = pb.Vertex(digest=A, name="n", started=timestamp(1.0), completed=timestamp(2.0))
        await call.send(pb.StatusResponse(vertexes=[vertex]).SerializeToString())

    events: list[Event] = []
    record = BuildRecord(id="r", status=BuildStatus.COMPLETED, at=1.0)
    asked({"Status": status}, lambda builder: replay(builder, record, events.append))
    assert events == [
        VertexAdded(vertex=A, name="n"),
        VertexStarted(vertex=A, time=1.0),
        VertexCompleted(vertex=A, time=2.0),
    ]


def test_builds_are_forgotten_one_by_one() -> None:
    forgotten: list[tuple[str, bool]] = []

    async def update(request: bytes, call: IncomingCall) -> bytes:
        del call
        asked = pb.UpdateBuildHistoryRequest.FromString(request)
        forgotten.append((asked.Ref, asked.Delete))
        return b""

    records = [BuildRecord(id=id, status=BuildStatus.COMPLETED, at=1.0) for id in "ab"]
    asked({"UpdateBuildHistory": unary(update)}, lambda builder: forget(builder, records))
    assert forgotten == [("a", True), ("b", True)]


def test_a_server_that_cannot_be_understood_is_named() -> None:
    async def broken(call: IncomingCall) -> None:
        await call.send(b"\xff")

    record = BuildRecord(id="r", status=BuildStatus.COMPLETED, at=1.0)
    with pytest.raises(EnvironmentFault, match="history cannot be read"):
        known(b"\xff")
    with pytest.raises(EnvironmentFault, match="log cannot be read"):
        asked({"Status": broken}, lambda builder: replay(builder, record, lambda _: None))


def test_what_a_server_refuses_is_an_error() -> None:
    async def refused(call: IncomingCall) -> None:
        raise RpcError(Code.NOT_FOUND, "no such build")

    handlers = {name: refused for name in ("ListenBuildHistory", "Status", "UpdateBuildHistory")}
    record = BuildRecord(id="r", status=BuildStatus.COMPLETED, at=1.0)
    with pytest.raises(PybuildError, match="no such build"):
        asked(handlers, builds)
    with pytest.raises(PybuildError, match="no such build"):
        asked(handlers, lambda builder: replay(builder, record, lambda _: None))
    with pytest.raises(PybuildError, match="no such build"):
        asked(handlers, lambda builder: forget(builder, [record]))
