"""The words of ``pybuild history``: filters, names of builds, and what it refuses by name."""

from __future__ import annotations

import pytest

from pybuild.builds.buildfilters import parse_build_filters
from pybuild.builds.buildrecord import BuildRecord, BuildStatus, find_record, from_facts
from pybuild.builds.recording import build_name
from pybuild.commandline import find_words
from pybuild.commandline.parser import BadOption
from pybuild.model.errors import UsageError, UserError

NOW = 1_000_000.0
DONE = BuildRecord(id="aa11", status=BuildStatus.COMPLETED, at=NOW - 7200, seconds=40.0)
FAILED = BuildRecord(id="aa22", ref="r1", status=BuildStatus.ERROR, at=NOW - 60, seconds=2.0)
RUNNING = BuildRecord(
    id="bb33", status=BuildStatus.RUNNING, at=NOW - 5, context="https://git.example/app"
)
ALL = [RUNNING, FAILED, DONE]


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        ([], ["bb33", "aa22", "aa11"]),
        (["status=error"], ["aa22"]),
        (["status!=error"], ["bb33", "aa11"]),
        (["status=completed", "duration>30s"], ["aa11"]),
        (["duration<=2s", "status!=running"], ["aa22"]),
        (["startedAt>1h"], ["bb33", "aa22"]),
        (["completedAt<1970-01-12T13:00:00+00:00"], ["bb33", "aa11"]),
        (["ref=aa"], ["aa11"]),
        (["ref=r1"], ["aa22"]),
        (["repository=git.example"], ["bb33"]),
    ],
)
def test_a_filter_picks_builds(texts: list[str], ids: list[str]) -> None:
    matches = parse_build_filters(texts, NOW)
    assert [one.id for one in ALL if matches(one)] == ids


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("status", 'invalid filter "status": status is compared by = or !='),
        ("status>error", 'invalid filter "status>error": status is compared by = or !='),
        ("duration=3s", 'invalid filter "duration=3s": duration is compared by <, <=, > or >='),
        ("duration>soon", 'invalid duration "soon"'),
        ("color=red", 'invalid filter "color=red"'),
    ],
)
def test_what_is_no_filter_is_refused(text: str, saying: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_build_filters([text], NOW)
    assert caught.value.message == saying


def test_a_build_is_named_by_its_place_its_id_or_its_clients_name_for_it() -> None:
    assert find_record(ALL, "") is find_record(ALL, "^0") is RUNNING
    assert find_record(ALL, "^2") is DONE
    assert find_record(ALL, "aa1") is DONE
    assert find_record(ALL, "r") is FAILED
    for text, saying in (
        ("^3", "there are only 3 builds: none is ^3"),
        ("^x", '"^x" names no build'),
        ("aa", 'build "aa" could be any of aa22, aa11'),
        ("zz", 'no build "zz" is known here'),
    ):
        with pytest.raises(UserError) as caught:
            find_record(ALL, text)
        assert caught.value.message == saying
        assert text == "aa" or caught.value.hints


def test_a_broken_record_is_still_a_build() -> None:
    facts: dict[str, object] = {
        "at": "soon",
        "steps": [],
        "error": 3,
        "args": {"a": 1},
        "attrs": [],
        "status": "odd",
    }
    record = from_facts("0" * 8, facts)
    assert (record.at, record.total, record.status) == (0.0, 0, BuildStatus.ERROR)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("app", "Dockerfile", ""), "app"),
        (("app", "Dockerfile", "dev"), "app (dev)"),
        (("app", "docker/web.Dockerfile", ""), "app/docker/web.Dockerfile"),
        (("app", "docker/Dockerfile", ""), "app/docker"),
        (("app", "-", ""), "app"),
    ],
)
def test_a_build_is_called_after_its_directory_and_target(
    given: tuple[str, str, str], name: str
) -> None:
    assert build_name(*given) == name


def test_verbs_of_docker_that_cannot_be_had_are_refused_by_name() -> None:
    for words in (["history", "open"], ["buildx", "history", "export", "^1"]):
        with pytest.raises(BadOption) as caught:
            find_words(words)
        assert "is not done by pybuild" in str(caught.value)
        assert "history logs" in caught.value.hint or "history inspect" in caught.value.hint
    command, rest = find_words(["image", "history", "open"])
    assert command is not None
    assert (command.name, rest) == ("history", ["open"])
