"""Comments about steps: which words above an instruction count, how old results may be, what failed steps leave."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.builds.leftovers import hints_about, lines_of, with_hints
from pybuild.executor.files.values import Rescued
from pybuild.frontend.syntax.stepnotes import kept_paths, mentions, notes_above
from pybuild.model.amounts import parse_ages
from pybuild.model.errors import PybuildError, StepError, UsageError

LINES = """\
# pybuild: keep=/far
FROM a
# pybuild: keep=report.xml,/log/../core.* max-age=7d
# plain words: keep=/no
  ## pybuild: keep=../up nothing keep=
# another: max-age=1h
RUN make
RUN other
""".splitlines()


def test_the_words_for_us_directly_above_an_instruction_count_in_their_order() -> None:
    assert notes_above(LINES, 7) == {
        "keep": ["report.xml,/log/../core.*", "../up", ""],
        "max-age": ["7d"],
    }
    assert notes_above(LINES, 2) == {"keep": ["/far"]}
    assert notes_above(LINES, 8) == notes_above(LINES, 1) == notes_above([], 5) == {}
    assert notes_above(LINES, 99) == {}  # its last line is none of a comment


def test_paths_that_are_kept_begin_in_the_working_directory() -> None:
    assert kept_paths(LINES, 7, "/src/a") == ["/src/a/report.xml", "/core.*", "/src/up"]
    assert kept_paths(LINES, 7, "src") == ["/src/report.xml", "/core.*", "/up"]
    assert kept_paths(LINES, 8, "/src") == []


def test_a_file_without_the_mark_says_nothing() -> None:
    assert mentions(LINES, "keep") and mentions(LINES, "max-age") and not mentions(LINES, "other")
    assert not mentions(["# keep=/f"], "keep")


def test_ages_are_of_stages_or_of_all_others_and_the_last_one_counts() -> None:
    assert parse_ages(["7d", "Test=1h", "test=90m", "10"]) == {"": 10.0, "test": 5400.0}
    for text in ("=7d", "test=", "soon", "test=soon"):
        with pytest.raises(UsageError):
            parse_ages([text])


def test_hints_say_what_a_failed_step_left_and_what_it_did_not() -> None:
    assert hints_about(Rescued(1, 1000), "out") == [
        "look into out: 1 file of the failed step (1.00kB)"
    ]
    assert hints_about(Rescued(0, 0, absent=["/a", "/b\x1b[0m"]), "out") == [
        "nothing of the failed step is in out",
        "not there: /a, /b",
    ]
    large = Rescued(2, 0, large=["/a", "/b"], large_count=2, special=3)
    named, special = hints_about(large, "out")[1:]
    assert named.startswith("left out, beyond 10000 files or 256MiB: /a, /b; name what you want ")
    assert special == "left out: 3 links that lead out, devices, sockets or pipes"
    assert "/a, /b and 5 more;" in hints_about(large._replace(large_count=7), "out")[1]


def test_a_fault_of_keeping_files_is_a_hint_and_never_the_error() -> None:
    async def hints() -> list[str]:
        return ["one"]

    async def fault() -> list[str]:
        raise PermissionError(13, "no way", "out")

    failed = StepError("it failed", status=1)
    told = asyncio.run(with_hints(ExceptionGroup("", [failed]), hints(), "no file"))
    assert isinstance(told, PybuildError) and told.hints == (*failed.hints, "one")
    told = asyncio.run(with_hints(failed, fault(), "no file"))
    assert isinstance(told, StepError)
    assert told.hints == (*failed.hints, "no file: [Errno 13] no way: 'out'")
    bug = ValueError("bug")
    assert asyncio.run(with_hints(bug, hints())) is bug


def test_the_lines_of_a_file_that_nobody_knows_are_none() -> None:
    lines = lines_of({"Dockerfile": b"FROM a\n\xff\n"})
    assert (lines("Dockerfile"), lines("other")) == (["FROM a", "\ufffd"], [])
