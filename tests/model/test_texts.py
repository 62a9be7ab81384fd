"""Amounts, ages, lists and lines as people write and read them, by tables with their boundaries."""

from __future__ import annotations

import pytest

from pybuild.model.amounts import (
    Duration,
    binary_bytes,
    human_age,
    human_bytes,
    human_duration,
    parse_binary_size,
    parse_duration,
    parse_size,
    short_bytes,
)
from pybuild.model.errors import UsageError
from pybuild.model.listing import cut, list_text, table
from pybuild.model.printable import in_log, printable, with_colours, without_controls
from pybuild.model.suggest import did_you_mean, nearest

# --- amounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "human", "short", "binary"),
    [
        (0, "0B", "0B", "0B"),
        (999, "999B", "999B", "999B"),
        (1000, "1.00kB", "1kB", "1000B"),
        (1023, "1.02kB", "1.02kB", "1023B"),
        (1024, "1.02kB", "1.02kB", "1KiB"),
        (3420, "3.42kB", "3.42kB", "3.34KiB"),
        (999_600, "999.60kB", "1MB", "976.2KiB"),
        (5 << 20, "5.24MB", "5.24MB", "5MiB"),
        (3 << 30, "3.22GB", "3.22GB", "3GiB"),
        (2 << 40, "2.20TB", "2.2TB", "2TiB"),
    ],
)
def test_bytes_for_people(count: float, human: str, short: str, binary: str) -> None:
    assert (human_bytes(count), short_bytes(count), binary_bytes(count)) == (human, short, binary)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400 - 3600, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400 - 3600, "8 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400 - 3600, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_ages(seconds: float, age: str) -> None:
    assert human_age(seconds) == f"{age} ago"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (1.44, "1.4s"), (59.94, "59.9s"), (60, "1m  0s"), (192, "3m 12s")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_000, "1µs"),
        (1_500, "1.5µs"),
        (999_999, "999.999µs"),
        (1_000_000, "1ms"),
        (-1_500_000, "-1.5ms"),
        (1_000_000_000, "1s"),
        (1_050_000_000, "1.05s"),
        (60_000_000_000, "1m0s"),
        (3_599_000_000_000, "59m59s"),
        (3_600_000_000_000, "1h0m0s"),
        (-3_661_000_000_000, "-1h1m1s"),
        (90_000_000_000_000, "25h0m0s"),
    ],
)
def test_durations_as_go_prints_them(ns: int, text: str) -> None:
    assert str(Duration(ns)) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("10", 10),
        ("10b", 10),
        ("1.5k", 1500),
        (" 2 KB ", 2000),
        ("2kib", 2048),
        ("3MiB", 3 << 20),
        ("1gb", 10**9),
        ("1TiB", 1 << 40),
        ("2p", 2 * 10**15),
        ("0%", 0),
        ("20%", 200),
        ("100%", 1000),
        ("0.5%", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, 1000) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "101%", "%", "5k%", "1e3", "1.", "1" * 41])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text, 1000)
    assert caught.value.message == f'invalid size "{text}"'
    assert caught.value.hints == ("write 10GB, 512MiB or 20%",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("48h", 172_800),
        ("1h30m", 5400),
        ("7D", 604_800),
        ("1w", 604_800),
        ("250ms", 0.25),
        (" 1.5s ", 1.5),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "1x", "-1s", "1.h"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert caught.value.message == f'invalid duration "{text}"'
    assert caught.value.hints == ("write 48h, 1h30m or 7d",)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("64m", 64 << 20), (" 10GB ", 10 << 30), ("1.5k", 1536)]
    + [("2kib", 2048), ("1t", 1 << 40), ("7b", 7)],
)
def test_binary_sizes(text: str, size: int) -> None:
    assert parse_binary_size(text, "memory") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "inf", "nan", "1x", "8388608t", "1 0"])
def test_binary_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_binary_size(text, "memory")
    assert caught.value.message == f'invalid memory "{text}": expected a size such as 64m'


# --- texts for people -------------------------------------------------------------------------------


def test_texts_are_cut_with_a_mark() -> None:
    assert [cut(text, 3) for text in ("", "abc", "abcd")] == ["", "abc", "ab…"]


def test_tables_have_columns_three_apart() -> None:
    assert table([["a", "bb"], ["ccc", "d"]]) == "a     bb\nccc   d\n"
    assert table([["a", "b"]], least=4) == "a      b\n"
    assert table([["a\x1b", ""]]) == "a\\x1b\n"
    assert table([]) == ""


TITLES = {"ID": "CONTAINER ID", "Name": "NAMES"}
ROWS = [{"ID": "1", "Name": "x"}, {"ID": "22", "Name": "yy"}]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("", "CONTAINER ID\n1\n22\n"),
        ("table", "CONTAINER ID\n1\n22\n"),
        ("json", '{"ID":"1","Name":"x"}\n{"ID":"22","Name":"yy"}\n'),
        ("{{json .}}", '{"ID":"1","Name":"x"}\n{"ID":"22","Name":"yy"}\n'),
        ("{{.Name}}", "x\nyy\n"),
        ("table {{.Name}}\t{{.ID}}", "NAMES     CONTAINER ID\nx         1\nyy        22\n"),
    ],
)
def test_lists_by_their_format(form: str, text: str) -> None:
    assert list_text(form, ROWS, TITLES, ["ID"]) == text


def test_json_has_what_is_ours_beside_dockers_fields() -> None:
    more = [{"Ours": 1}, {}]
    assert list_text("json", ROWS, TITLES, ["ID"], more) == (
        '{"ID":"1","Name":"x","Ours":1}\n{"ID":"22","Name":"yy"}\n'
    )
    assert list_text("{{json .}}", ROWS, TITLES, ["ID"], more).count("Ours") == 0
    with pytest.raises(ValueError, match="shorter|longer"):
        list_text("json", ROWS, TITLES, ["ID"], more[:1])


@pytest.mark.parametrize(
    ("text", "plain", "coloured"),
    [
        ("a\tb", "a\tb", "a\tb"),
        ("\x1b[31mred", "red", "\x1b[31mred\x1b[0m"),
        ("\x1b[1;31mred\x1b[2K", "red", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[2Jx", "x", "x"),
        ("\x9b2Jx\u202ey\x00", "xy", "xy"),
        ("\x1b]0;t\x07x", "0;tx", "0;tx"),
    ],
)
def test_terminals_get_no_commands(text: str, plain: str, coloured: str) -> None:
    assert without_controls(text) == plain
    assert with_colours(text) == coloured


def test_texts_of_a_log() -> None:
    assert printable("ab") == "ab"
    assert printable("a\nb\u202e") == "a\\nb\\xe2\\x80\\xae"
    assert in_log("a\nb\x07\n\n") == "a\n| b\\x07"
    assert in_log("a") == "a"


@pytest.mark.parametrize(
    ("name", "options", "near"),
    [
        ("pyton", ["python", "perl"], "python"),
        ("python", ["python", "pythom"], None),
        ("abcd", ["abxy", "abxd"], "abxd"),
        ("abcd", ["xyzd"], None),
        ("RNU", ["RUN", "ENV"], "RUN"),
        ("ab", ["ba", "aa"], "aa"),
        ("a", ["abc", "abcd"], "abc"),
        ("a", ["abcd"], None),
        ("abcdef", ["badcfe", "bacdfe"], "bacdfe"),
        ("x" * 100, ["x" * 99], "x" * 99),
        ("x" * 101, ["x" * 100], None),
        ("", ["ab", "b"], "b"),
    ],
)
def test_the_nearest_name(name: str, options: list[str], near: str | None) -> None:
    assert nearest(name, options) == near
    assert did_you_mean(name, options) == (f" (did you mean {near}?)" if near else "")


def test_the_nearest_name_in_the_case_of_the_given_one() -> None:
    assert nearest("form", ["FROM"], ignore_case=True) == "from"
    assert nearest("FORM", ["from"], ignore_case=True) == "FROM"
    assert nearest("Form", ["fRom"], ignore_case=True) == "fRom"
    assert nearest("from", ["FROM"], ignore_case=True) is None
    assert nearest("form", ["FROM"]) is None
