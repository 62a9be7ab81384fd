"""Values between machines: what was written is read again, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pybuild.cluster import wire
from pybuild.cluster.messages import DigestQuery
from pybuild.cluster.ticket import DeltaPlaces, Said, StepFault, StepFaultKind, StepOutcome, Ticket
from pybuild.executor.fetch import LayerGone
from pybuild.model.contents import ContentDigest, MissingSource
from pybuild.model.digest import Digest
from pybuild.model.errors import (
    EnvironmentFault,
    InternalError,
    PybuildError,
    StepError,
    UsageError,
    UserError,
)
from pybuild.model.events import BuildWarning, LogStream, VertexLog
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    Mkdir,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    Owner,
    Rm,
    StepSettings,
    Symlink,
)
from pybuild.model.platform import Platform
from pybuild.model.resources import Resources
from pybuild.model.selection import Selection
from pybuild.model.span import Span

STEP = ExecOp(
    args=("sh", "-c", "x"),
    env=("A=ä\udcff", "B="),
    cwd="/",
    mounts=(
        Mount(target="/", input=0, output=True),
        Mount(target="/s", type=MountType.SECRET, id="key", mode=0o400),
    ),
    platform=Platform("linux", "arm64"),
    settings=StepSettings(
        network=NetworkMode.NONE,
        add_hosts=(("a", "10.0.0.1"),),
        ulimits=(("nofile", 1, 2),),
        resources=Resources(memory_bytes=8 << 20, cpuset_cpus="0-1"),
    ),
)
FILES = FileOp(
    actions=(
        Copy(input=1, source="/a", dest="/b/", mode="u+x", owner=Owner(user="1"), exclude=("*.o",)),
        Copy(input=1, source="/a", dest="/b/", mode=0o644),
        Mkfile(path="/f", data=b"\0\xff"),
        Mkdir(path="/d"),
        Symlink(path="/l", target="f"),
        Rm(path="/r"),
    )
)
TICKET = Ticket(
    run="r",
    op=STEP,
    inputs=(("base", "x"), ()),
    scratch=(1,),
    deltas=(DeltaPlaces(name="base", places=("unix:///a",)), DeltaPlaces(name="x")),
    name="[1/2] RUN x",
)
DIGEST = Digest.of(b"")
VALUES: list[Any] = [
    TICKET,
    replace(TICKET, op=FILES),
    StepOutcome(deltas=("a",), created=1.5),
    StepOutcome(
        fault=StepFault(kind=StepFaultKind.STEP, message="m", status=3, log_tail=("a", "b"))
    ),
    Said(event=VertexLog(vertex=DIGEST, time=1.0, stream=LogStream.STDERR, data=b"\xff"), own=True),
    Said(event=BuildWarning(message="m", spans=(Span("Dockerfile", 1, 2),))),
    DigestQuery(deltas=("a",), selection=Selection(path="/x", exclude=("y",), parents_pivot=1)),
    ContentDigest(DIGEST, (("/a", "100644 0:0 3 x"),)),
]


@pytest.mark.parametrize("value", VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    kind: type[Any] = value.__class__
    data = wire.write(value)
    assert wire.read(kind, data) == value
    assert wire.write(wire.read(kind, data)) == data


def test_what_does_not_count_in_a_key_crosses_as_well() -> None:
    """Equality alone would not tell: such fields are left out of it."""
    step = replace(STEP, proxy_env=("HTTP_PROXY=x",))
    read = wire.read(Ticket, wire.write(replace(TICKET, op=step)))
    assert isinstance(read.op, ExecOp)
    assert read.op.proxy_env == ("HTTP_PROXY=x",)
    assert read.op.settings.resources == STEP.settings.resources


def loads(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data.decode(errors="surrogateescape"))
    return value


def changed(**fields: object) -> bytes:
    return json.dumps(loads(wire.write(TICKET)) | fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{}",
        changed(**{"is": "StepOutcome"}),
        changed(more=1),
        changed(run=1),
        changed(name=None),
        changed(format=True),
        changed(inputs=[["a", 1]]),
        changed(inputs="ab"),
        changed(op={"is": "Popen", "args": ["sh"]}),
        changed(op={"is": "VertexLog"}),
        changed(op=loads(wire.write(STEP)) | {"platform": {"os": "linux"}}),
        changed(op=loads(wire.write(STEP)) | {"security": "any"}),
        changed(
            op=loads(wire.write(FILES)) | {"actions": [{"is": "Mkfile", "path": "/", "data": "?"}]}
        ),
    ],
)
def test_whatever_else_is_refused(data: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.read(Ticket, data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (changed(**{"is": "StepOutcome"}), "expected Ticket"),
        (changed(zeta=1, more=1), "Ticket has no 'more'"),
        (changed(run=1), "expected str, got int"),
        (changed(ignore_cache=1), "expected bool, got int"),
        (changed(format=True), "expected int, got bool"),
        (changed(inputs="ab"), "expected a list"),
        (changed(op={"is": "Popen"}), "unexpected 'Popen'"),
        (changed(op=1), "it fits none of 2 types"),
        (b"[]", "expected an object, got list"),
    ],
)
def test_a_refusal_says_what_was_expected(data: bytes, text: str) -> None:
    with pytest.raises(wire.Unreadable) as caught:
        wire.read(Ticket, data)
    assert str(caught.value) == text


def test_a_list_of_fixed_length_has_that_length() -> None:
    value = loads(wire.write(STEP.settings)) | {"add_hosts": [["a", "b", "c"]]}
    with pytest.raises(wire.Unreadable, match=r"^expected 2 values, got 3$"):
        wire.read(StepSettings, json.dumps(value).encode())


def test_numbers_cross_as_their_type() -> None:
    outcome = wire.read(StepOutcome, b'{"is": "StepOutcome", "created": 2}')
    assert outcome == StepOutcome(created=2.0)
    assert isinstance(outcome.created, float)
    with pytest.raises(wire.Unreadable, match=r"^expected float, got bool$"):
        wire.read(StepOutcome, b'{"created": true}')


def test_what_has_no_form_is_not_written() -> None:
    with pytest.raises(TypeError, match=r"^set does not cross between machines$"):
        wire.write({1, 2})


def test_limits_of_a_step_are_checked_where_they_arrive() -> None:
    settings = loads(wire.write(STEP.settings))
    settings["resources"]["memory_bytes"] = 1
    op = loads(wire.write(STEP)) | {"settings": settings}
    with pytest.raises(wire.Unreadable, match="at least 4 MiB"):
        wire.read(Ticket, changed(op=op))


ERRORS: list[tuple[PybuildError, type[PybuildError]]] = [
    (StepError("it failed", status=7, log_tail=("a",), step="x", hints=("h",)), StepError),
    (MissingSource("ref", "/a/b", ("h",)), MissingSource),
    (LayerGone("delta", "it is gone"), LayerGone),
    (UsageError("wrong", hints=("h",)), UserError),
    (EnvironmentFault("full"), EnvironmentFault),
    (InternalError("bug"), InternalError),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda one: getattr(one, "__name__", ""))
def test_errors_cross_as_data(error: PybuildError, kind: type[PybuildError]) -> None:
    fault = wire.read(StepFault, wire.write(StepFault.of(error)))
    raised = fault.error("x")
    assert type(raised) is kind
    assert (raised.message, raised.peer) == (error.message, error.peer)
    for name in ("status", "log_tail", "step", "path", "delta"):
        assert getattr(raised, name, None) == getattr(error, name, None)


def test_an_error_that_is_none_of_ours_is_a_bug() -> None:
    raised = StepFault.of(KeyError("x")).error("")
    assert isinstance(raised, InternalError)
    assert raised.message == "KeyError: 'x'"
