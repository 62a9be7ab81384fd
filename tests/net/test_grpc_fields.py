"""Header fields: status, messages, details, metadata, timeouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pybuild.net.grpc import timeouts
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import (
    Code,
    RpcError,
    from_base64,
    from_fields,
    of_http,
    of_reset,
    quote,
    to_base64,
    to_fields,
)

ROOM = 1 << 20


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        ("", b""),
        ("plain text ~!", b"plain text ~!"),
        ("100 %", b"100 %25"),
        ("a\nb\x7f", b"a%0Ab%7F"),
        ("é", b"%C3%A9"),
        (" x ", b"%20x%20"),
        ("\udcff", b"?"),
    ],
)
def test_messages_are_percent_encoded(message: str, quoted: bytes) -> None:
    assert quote(message) == quoted


@given(some.text(max_size=50), some.binary(max_size=50), some.sampled_from(list(Code)[1:]))
@pytest.mark.slow
def test_errors_come_back_as_they_went(message: str, details: bytes, code: Code) -> None:
    message = message.encode(errors="replace").decode()
    back = from_fields(to_fields(RpcError(code, message, details), ROOM))
    assert back is not None
    assert (back.code, back.message, back.details) == (code, message, details)


@pytest.mark.slow
@given(some.text(alphabet=" %aé\n", max_size=80), some.integers(0, 900))
def test_fields_fit_into_the_room_that_there_is(message: str, room: int) -> None:
    fields = to_fields(RpcError(Code.UNKNOWN, message * 9, b"x" * 200), room + 512)
    long = [value for name, value in fields if name != b"grpc-status"]
    assert sum(map(len, long)) <= room
    for value in long[:1]:
        assert value == value.strip()
        assert b"%" not in value[-2:].replace(b"%25", b"")


def test_peers_that_take_little_get_the_brief_details() -> None:
    error = RpcError(Code.UNKNOWN, "no", b"x" * 900, b"y" * 90)
    name = b"grpc-status-details-bin"
    assert dict(to_fields(error, 4096))[name] == to_base64(b"x" * 900)
    assert dict(to_fields(error, 1024))[name] == to_base64(b"y" * 90)
    assert name not in dict(to_fields(error, 512))


def test_unknown_codes_and_broken_details_are_unknown_errors() -> None:
    for status in (b"17", b"-1", b"x", b"", b"1" * 99):
        error = from_fields([(b"grpc-status", status), (b"grpc-status-details-bin", b"!")])
        assert error is not None
        assert (error.code, error.details) == (Code.UNKNOWN, b"")
    with pytest.raises(LookupError):
        from_fields([(b"grpc-message", b"x")])


def test_ends_of_streams_have_codes() -> None:
    table = {0: 13, 1: 13, 2: 13, 7: 14, 8: 1, 11: 8, 12: 7, 99: 13}
    assert {code: of_reset(code).code for code in table} == table
    assert str(of_reset(8, "why")) == "cancelled: stream ended: CANCEL (why)"
    assert of_reset(99).message == "stream ended: error code 99"
    assert {code: of_http(code).code for code in (401, 404, 503, 500)} == {
        401: 16,
        404: 12,
        503: 14,
        500: 2,
    }


@given(some.binary())
def test_base64_is_read_with_and_without_padding(data: bytes) -> None:
    text = to_base64(data)
    assert not text.endswith(b"=")
    assert from_base64(text) == from_base64(text + b"=" * (-len(text) % 4)) == data


@pytest.mark.parametrize("text", [b"a", b"a===", b"!!!!", b"ab\ncd", b"YQ=Y"])
def test_other_text_is_no_base64(text: bytes) -> None:
    with pytest.raises(ValueError, match="is not base64"):
        from_base64(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"15S", 15), (b"2M", 120), (b"1H", 3600), (b"100m", 0.1), (b"5u", 5e-6), (b"0n", 0)],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert timeouts.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b"1\xff"])
def test_other_text_is_no_timeout(text: bytes) -> None:
    with pytest.raises(ValueError, match="malformed grpc-timeout"):
        timeouts.parse(text)


@given(some.floats(1e-9, 1e8))
def test_timeouts_are_told_in_eight_digits_and_never_too_short(seconds: float) -> None:
    told = timeouts.format_s(seconds)
    assert len(told) <= 9
    assert seconds * 0.999999 <= timeouts.parse(told) <= seconds * 1.0001 + 1e-9


def test_timeouts_without_end_or_time() -> None:
    assert timeouts.format_s(-3) == b"1n"
    assert timeouts.format_s(1e300) == b"99999999S"


def test_metadata_keeps_order_and_repetition() -> None:
    metadata = Metadata([("One", "1"), ("two", "2"), ("one", "3"), ("x-bin", b"\0\xff")])
    assert metadata.get("ONE") == "1"
    assert metadata.get_all("one") == ["1", "3"]
    assert metadata.get("none") is None
    assert metadata.get_binary("x-bin") == [b"\0\xff"]
    fields = metadata.to_fields()
    assert fields == [(b"one", b"1"), (b"two", b"2"), (b"one", b"3"), (b"x-bin", b"AP8")]
    assert list(Metadata.from_fields(fields)) == list(metadata)


def test_metadata_leaves_out_what_belongs_to_the_protocol() -> None:
    fields = [
        (b":path", b"/"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"x"),
        (b"grpc-timeout", b"1S"),
        (b"a", b"\xff"),
        (b"b-bin", b"AA==, AQ"),
    ]
    assert list(Metadata.from_fields(fields)) == [
        ("a", "\ufffd"),
        ("b-bin", b"\0"),
        ("b-bin", b"\1"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        (":path", "x"),
        ("grpc-status", "0"),
        ("a", "x\n"),
        ("a", " x"),
        ("a", "é"),
        ("a", b"x"),
        ("a-bin", "x"),
    ],
)
def test_metadata_that_cannot_be_sent(name: str, value: str | bytes) -> None:
    with pytest.raises(ValueError, match="metadata"):
        Metadata([(name, value)])
