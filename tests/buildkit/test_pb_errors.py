"""Errors with types, as Go clients read them from the status [remote-api 1.1]."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.buildkit.pb import errors
from pybuild.buildkit.pb.ops import Definition, SourceInfo
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.buildkit.pb.wellknown import Any
from pybuild.model.errors import (
    Cancelled,
    EnvironmentFault,
    InternalError,
    PybuildError,
    StepError,
    UsageError,
    UserError,
)
from pybuild.model.span import Span

DETAILS: list[errors.Detail] = [
    errors.SourceDetail("Dockerfile", ((2, 2), (4, 7)), b"FROM x\n\xff"),
    errors.VertexDetail("sha256:" + "a" * 64),
    errors.FrontendDetail("gateway.v0", "docker/dockerfile"),
    errors.FrontendCapDetail("moby.buildkit.frontend.x"),
    errors.SubrequestDetail("frontend.x"),
    errors.ExitDetail(137),
    errors.FaultDetail("environment", ("mount a larger disk",)),
]


def test_a_source_is_json_with_proto_names_and_no_empty_values() -> None:
    error = UserError(
        "unknown instruction: RUNN",
        spans=[Span("Dockerfile", 2, 3)],
        sources={"Dockerfile": ["FROM a", "RUNN \\", " x"]},
    )
    (detail,) = errors.status_of(error).details
    assert detail.type_url == "github.com/moby/buildkit/errdefs.Source+json"
    assert json.loads(detail.value) == {
        "info": {
            "filename": "Dockerfile",
            "data": "RlJPTSBhClJVTk4gXAogeAo=",
            "language": "Dockerfile",
        },
        "ranges": [
            {"start": {"line": 2}, "end": {"line": 2}},
            {"start": {"line": 3}, "end": {"line": 3}},
        ],
    }


def test_places_keep_their_order_and_lines_behind_each_other_are_one() -> None:
    spans = [Span("b", 5, 5, 3), Span("b", 7, 7), Span("a", 1, 1), Span("b", 2, 2)]
    found = errors.source_details(UserError("x", spans=spans), {"a": b"A"})
    assert found == [
        errors.SourceDetail("b", ((5, 5), (7, 7)), column=3),
        errors.SourceDetail("a", ((1, 1),), b"A"),
        errors.SourceDetail("b", ((2, 2),)),
    ]


def test_a_client_says_in_which_language_its_files_are() -> None:
    info = SourceInfo(filename="bar", language="mylang", definition=Definition(defs=[b"x"]))
    error = UserError("x", spans=[Span("bar", 3, 3, 1), Span("other", 1, 1)])
    status = errors.status_of(error, definition=(b"d",), infos={"bar": info})
    bar, other = errors.details_of(status)
    assert isinstance(bar, errors.SourceDetail) and bar.language == "mylang"
    assert isinstance(other, errors.SourceDetail) and other.language == "Dockerfile"
    document = json.loads(status.details[0].value)
    assert document["info"]["definition"] == {"def": ["eA=="]}
    assert document["ranges"][0]["start"] == {"line": 3, "character": 1}


@pytest.mark.parametrize("detail", DETAILS, ids=lambda d: type(d).__name__)
def test_details_come_back_as_they_were(detail: errors.Detail) -> None:
    assert errors.details_of(Status(details=[errors.encode(detail)])) == [detail]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no such stage"), 2),
        (EnvironmentFault("disk full"), 2),
        (Cancelled("context canceled"), 1),
        (InternalError("oops"), 13),
        (RuntimeError("oops"), 13),
    ],
)
def test_codes_that_put_no_word_before_a_build_failure(error: Exception, code: int) -> None:
    status = errors.status_of(error)
    assert (status.code, status.message) == (code, str(error))


def test_the_caller_may_choose_the_code_and_add_details() -> None:
    cap = errors.FrontendCapDetail("x")
    status = errors.status_of(
        UserError("unsupported frontend capability x"), code=12, details=[cap]
    )
    assert status.code == 12
    assert errors.details_of(status) == [cap]


@pytest.mark.parametrize(
    "error",
    [
        UserError("bad", spans=[Span("Dockerfile", 1, 2), Span("Dockerfile", 9, 9)]),
        UserError("bad", hints=["do better"]),
        StepError("exit code: 3", status=3, spans=[Span("f", 4, 4)]),
        StepError("exit code: 127", status=127, hints=["status 127 means: command not found"]),
        EnvironmentFault("disk full", hints=["free some space"]),
        UsageError("no such compression"),
        InternalError("oops"),
        Cancelled("context canceled"),
    ],
)
def test_our_client_gets_the_same_kind_of_error(error: PybuildError) -> None:
    error = error.showing({span.file: ["one", "two"] for span in error.spans})
    status = errors.parse_status(errors.status_of(error).SerializeToString())
    assert status is not None
    again = errors.error_of(status)
    assert type(again) is type(error)
    assert (again.message, again.spans) == (error.message, error.spans)
    assert again.hints == error.hints
    assert again.sources == error.sources
    if isinstance(error, StepError):
        assert isinstance(again, StepError)
        assert again.status == error.status


def test_bytes_that_are_no_text_do_not_break_the_message() -> None:
    error = UserError('no such file "\udcff"', spans=[Span("a\udcff", 1, 1)])
    assert errors.status_of(error).message == 'no such file "\ufffd"'
    error = error.showing({"a\udcff": ["\udcfe"]})
    assert errors.status_of(error).SerializeToString()


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{", b"[]", b"null", b'{"info":[]}', b'{"info":{"data":"?"}}', b'{"ranges":{}}',
        b'{"ranges":[1]}', b'{"ranges":[{"start":{"line":"1"}}]}', b"[" * 100_000, b"\xff",
    ],
)  # fmt: skip
def test_a_garbled_detail_is_left_out(value: bytes) -> None:
    url = "github.com/moby/buildkit/errdefs.Source+json"
    status = Status(code=2, message="m", details=[Any(type_url=url, value=value)])
    assert errors.details_of(status) == []
    assert errors.error_of(status).message == "m"


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_a_status_is_read_or_refused(data: bytes) -> None:
    status = errors.parse_status(data)
    if status is not None:
        errors.error_of(status)
