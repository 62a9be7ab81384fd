"""The image config's bytes [CFG-1..4, REP-6]."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.image.config import NewHistory, assemble_config, format_time, parse_time
from pybuild.model.digest import Digest

IDS = [Digest.of(b"%d" % n) for n in range(4)]
BASE: dict[str, Any] = {"architecture": "amd64", "os": "linux"}


def assembled(config: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(assemble_config({**BASE, **config}, *args, **kwargs))
    return found


def test_bytes_are_fixed() -> None:
    config = {
        **BASE,
        "variant": "",
        "config": {
            "Labels": {"b": "<&>", "a": "é"},
            "Custom": 1,
            "Cmd": ["sh"],
            "Env": ["A=1"],
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
        },
        "x-unknown": {"kept": True},
        "docker_version": "20.10",
        "container": "abc",
        "container_config": {},
    }
    history = [NewHistory("RUN x # buildkit", 1.5), NewHistory("CMD x", empty_layer=True)]
    assert assemble_config(config, IDS[:1], history).decode() == (
        '{"architecture":"amd64","config":{"Env":["A=1"],"Cmd":["sh"],'
        '"Labels":{"a":"é","b":"<&>"},"Healthcheck":{"Test":["CMD","x"],"Interval":5},"Custom":1},'
        '"created":"1970-01-01T00:00:01.5Z","history":['
        '{"created":"1970-01-01T00:00:01.5Z","created_by":"RUN x # buildkit",'
        '"comment":"buildkit.dockerfile.v0"},'
        '{"created":"1970-01-01T00:00:01.5Z","created_by":"CMD x",'
        '"comment":"buildkit.dockerfile.v0","empty_layer":true}],"os":"linux",'
        f'"rootfs":{{"type":"layers","diff_ids":["{IDS[0]}"]}},"x-unknown":{{"kept":true}}}}'
    )


@pytest.mark.parametrize("name", ["os", "architecture"])
def test_missing_platform_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"invalid image config for export: missing {name}"):
        assemble_config({**BASE, name: ""}, [], [])


def test_empty_layers_take_the_time_of_the_first_new_layer() -> None:
    """Not the base's: filled forward as the reference does."""
    config = {"history": [{"created": "2001-01-01T00:00:00Z", "created_by": "base"}]}
    history = [
        NewHistory("ENV a", empty_layer=True),
        NewHistory("RUN 1", 100),
        NewHistory("ENV b", empty_layer=True),
        NewHistory("RUN 2", 200),
        NewHistory("CMD", empty_layer=True),
    ]
    found = assembled(config, IDS[:3], history)
    times = [entry["created"][-9:] for entry in found["history"][1:]]
    assert times == ["00:01:40Z", "00:01:40Z", "00:01:40Z", "00:03:20Z", "00:03:20Z"]
    assert found["created"] == "1970-01-01T00:03:20Z"  # CFG-2: the last one's


def test_time_of_an_image_with_nothing_new_is_its_bases() -> None:
    """[REP-2]: also where that is later than the epoch."""
    config = {"history": [{"created": "2001-01-01T00:00:00.402266175Z", "created_by": "base"}]}
    found = assembled(config, IDS[:1], [], base_layer_count=1, epoch=100)
    assert found["created"] == found["history"][0]["created"] == "2001-01-01T00:00:00.402266175Z"


def test_given_times_are_kept_up_to_the_epoch() -> None:
    """[REP-2]: those of a config that says them, and of entries that another frontend made."""
    when = "2001-01-01T00:00:00.402266175Z"
    new = [NewHistory("RUN 1", when, author="me")]
    found = assembled({"created": "2002-02-02T00:00:00Z"}, IDS[:1], new)
    assert (found["created"], found["history"][0]["created"]) == ("2002-02-02T00:00:00Z", when)
    assert found["history"][0]["author"] == "me"
    found = assembled({"created": "2002-02-02T00:00:00Z"}, IDS[:1], new, epoch=100)
    late = "1970-01-01T00:01:40Z"
    assert (found["created"], found["history"][0]["created"]) == (late, late)


def test_epoch_clamps_what_the_build_added_only() -> None:
    """[REP-2]"""
    config = {"history": [{"created": "2001-01-01T00:00:00.5+01:00", "created_by": "base"}]}
    history = [NewHistory("RUN 1", 50), NewHistory("RUN 2", 200)]
    found = assembled(config, IDS[:3], history, epoch=100)
    times = [entry["created"] for entry in found["history"]]
    expected = ["2001-01-01T00:00:00.5+01:00", "1970-01-01T00:00:50Z", "1970-01-01T00:01:40Z"]
    assert times == expected
    assert found["created"] == "1970-01-01T00:01:40Z"


def full(found: dict[str, Any]) -> list[str]:
    return [e.get("created_by", "-") for e in found["history"] if not e.get("empty_layer")]


def test_base_with_too_few_entries_is_padded_before_the_new_ones() -> None:
    """[CFG-3]"""
    config = {"history": [{"created_by": "one"}]}
    found = assembled(config, IDS, [NewHistory("RUN", 1)])
    assert full(found) == ["one", "-", "-", "RUN"]
    assert found["history"][1]["comment"] == "buildkit.exporter.image.v0"


def test_an_entry_without_a_comment_has_none() -> None:
    """A frontend of the client's may write such ones; BuildKit leaves the member out."""
    found = assembled({}, IDS[:1], [NewHistory("RUN", 1, comment="")])
    assert found["history"] == [{"created": "1970-01-01T00:00:01Z", "created_by": "RUN"}]


def test_base_with_too_many_entries_gets_empty_ones() -> None:
    config = {"history": [{"created_by": "one"}, {"created_by": "two"}, {"created_by": "three"}]}
    found = assembled(config, IDS[:2], [NewHistory("RUN", 1)])
    assert full(found) == ["one", "RUN"]
    assert [e["created_by"] for e in found["history"]] == ["one", "two", "three", "RUN"]


def test_layers_without_entries_get_them() -> None:
    found = assembled({}, IDS[:3], [NewHistory("RUN", 1)], base_layer_count=0)
    assert full(found) == ["RUN", "-", "-"]
    with pytest.raises(ValueError, match="2 history entries for 1 new layers"):
        assembled({}, IDS[:1], [NewHistory("a", 1), NewHistory("b", 1)], base_layer_count=0)


def test_text_that_is_no_utf8_becomes_replacement_characters() -> None:
    data = assemble_config({**BASE, "config": {"Env": ["A=\udcff"]}}, [], [])
    assert json.loads(data)["config"]["Env"] == ["A=\ufffd"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.25Z"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001Z"),
        (-0.5, "1969-12-31T23:59:59.5Z"),
    ],
)
def test_times_are_written_as_go_does(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


def test_odd_times_of_others() -> None:
    assert parse_time("2023-11-14T22:13:20.123456789+02:00") == pytest.approx(1699992800.123456)
    assert parse_time("0001-01-01T00:00:00Z") == -62135596800
    assert parse_time("yesterday") is parse_time("2023-13-41T00:00:00Z") is None
