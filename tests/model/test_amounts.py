"""Sizes, durations and ages as people write and read them, at each of their bounds [CMD-4, GC-2]."""

from __future__ import annotations

import pytest

from pybuild.model.amounts import (
    human_age,
    human_bytes,
    human_duration,
    parse_binary_size,
    parse_duration,
    parse_size,
    short_bytes,
)
from pybuild.model.errors import UsageError

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("count", "human", "short"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (999.6, "1000B", "1kB"),
        (1000, "1.00kB", "1kB"),
        (3418, "3.42kB", "3.42kB"),
        (300_000, "300.00kB", "300kB"),
        (999_499, "999.50kB", "999kB"),
        (999_500, "999.50kB", "1MB"),
        (10**6, "1.00MB", "1MB"),
        (29_134_567, "29.13MB", "29.1MB"),
        (10**9, "1.00GB", "1GB"),
        (10**12, "1.00TB", "1TB"),
        (10**15, "1000.00TB", "1000TB"),
    ],
)
def test_sizes_are_shown_in_powers_of_1000(count: float, human: str, short: str) -> None:
    assert (human_bytes(count), short_bytes(count)) == (human, short)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (1.5 * HOUR - 1, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47.5 * HOUR - 1, "47 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY - HOUR, "13 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY - HOUR, "8 weeks"),
        (60 * DAY, "2 months"),
        (730 * DAY - HOUR, "24 months"),
        (730 * DAY, "2 years"),
        (1095 * DAY, "3 years"),
    ],
)
def test_ages_are_told_in_dockers_words(seconds: float, words: str) -> None:
    assert human_age(seconds) == f"{words} ago"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("7", 7), ("7b", 7), ("1k", 1000), ("1kb", 1000), ("1kib", 1024), (" 2 KB ", 2000),
        ("3m", 3 * 10**6), ("3MiB", 3 << 20), ("1.5g", 15 * 10**8), ("10GB", 10**10),
        ("2GiB", 2 << 30), ("1t", 10**12), ("1TiB", 1 << 40), ("1p", 10**15), ("1PiB", 1 << 50),
        ("20%", 200), ("100%", 1000), ("0.5%", 5), ("0%", 0),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, 1000) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1x", "1kk", "1.k", ".5k", "101%", "100.1%", "1k%", "%", "1 0", "1e3"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text, 1000)
    assert caught.value.message == f'invalid size "{text}"'
    assert caught.value.hints == ("write 10GB, 512MiB or 20%",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("90", 90), ("48h", 48 * HOUR), ("1h30m", 5400), ("7d", 7 * DAY), ("2w", 14 * DAY),
        ("1.5s", 1.5), ("250ms", 0.25), ("1m1ms", 60.001), (" 1H ", HOUR),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "1.5", "-1", "1x", "1h 30m", "1h30", "1..5s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert caught.value.message == f'invalid duration "{text}"'
    assert caught.value.hints == ("write 48h, 1h30m or 7d",)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("64m", 64 << 20), ("64mb", 64 << 20),
        ("64MiB", 64 << 20), ("1k", 1024), ("1.5g", 3 << 29), ("10GB", 10 << 30), ("1t", 1 << 40),
    ],
)  # fmt: skip
def test_sizes_of_limits_are_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_binary_size(text, "memory") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "inf", "nan", str(1 << 63), "1p"])
def test_what_is_no_size_of_a_limit(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_binary_size(text, "memory")
    assert caught.value.message == f'invalid memory "{text}": expected a size such as 64m'


def test_the_largest_limit() -> None:
    assert parse_binary_size(str((1 << 63) - 1024), "memory") == (1 << 63) - 1024


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0.0s"), (1.44, "1.4s"), (59.9, "59.9s"), (60.0, "1m  0s"), (192.9, "3m 12s")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text
