"""``pybuild why-kept`` as text and for programs; the reasons themselves are the cache's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pybuild.cache.records.results import RESULT
from pybuild.cache.space.usage import UsageRecord, since
from pybuild.cache.space.whykept import Kept, command_of
from pybuild.commandline.parser import Parsed
from pybuild.commands import disk

RECORD = UsageRecord(kind="delta", id="d1", type="regular", size=1_500)
KEPT = Kept(
    record=RECORD,
    images=(),
    last_of=(),
    processes=(),
    children=(),
    value=0.5,
    place=0,
    way_out="pybuild prune",
)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command on a store that has these things."""

    def shown(*things: Kept, **values: str) -> str:
        def with_store(parsed: Parsed, work: object, *, to_read: bool) -> list[Kept]:
            assert to_read
            return list(things)

        monkeypatch.setattr(disk, "with_store", with_store)
        parsed = Parsed()
        parsed.positionals = ["d1"]
        parsed.values = {name: [value] for name, value in values.items()}
        assert disk.explain_kept(parsed) == 0
        return capsys.readouterr().out

    return shown


def test_what_nothing_needs_is_told_in_five_lines(show: Callable[..., str]) -> None:
    assert show(KEPT) == (
        "delta d1\n"
        "  what        regular, 1.50kB\n"
        "  last used   never\n"
        "  kept until  space is needed; it goes first\n"
        "  to free it  pybuild prune\n"
    )


def test_each_reason_is_a_line(show: Callable[..., str]) -> None:
    record = replace(
        RECORD, description="RUN x\x07", last_used=1.0, records=((RESULT, "k1"), ("layer", "k2"))
    )
    kept = replace(
        KEPT,
        record=record,
        images=("a:1", "b:1"),
        last_of=("./c",),
        processes=(os.getpid(),),
        children=("d2",),
    )
    lines = show(kept).splitlines()
    assert lines[:2] == ["delta d1", "  what        RUN x\\x07, 1.50kB"]
    assert lines[2] == f"  last used   {since(1.0)}, not reused so far"
    assert lines[3:6] == [
        "  needed by   image a:1",
        "  needed by   image b:1",
        "  last of     ./c",
    ]
    command = command_of(os.getpid())[:80].rstrip()
    assert lines[6].rstrip() == f"  needed by   process {os.getpid()}: {command}"
    assert lines[7:] == [
        "  needed by   delta d2, which lies on it",
        "  found as    the result of 1 cache key",
        "  kept until  the next build",
        "  to free it  pybuild prune",
    ]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (None, "nothing needs it any more"),
        (0, "space is needed; it goes first"),
        (1, "space is needed; 1 other thing would go before it"),
        (2, "space is needed; 2 other things would go before it"),
    ],
)
def test_how_long_it_is_kept(show: Callable[..., str], place: int | None, words: str) -> None:
    assert f"  kept until  {words}\n" in show(replace(KEPT, place=place))


@pytest.mark.parametrize(("count", "words"), [(1, "reused 1 time"), (2, "reused 2 times")])
def test_how_often_it_was_used(show: Callable[..., str], count: int, words: str) -> None:
    record = replace(RECORD, last_used=1.0, use_count=count, records=((RESULT, "a"), (RESULT, "b")))
    text = show(replace(KEPT, record=record))
    assert f"  last used   {since(1.0)}, {words}\n" in text
    assert "  found as    the result of 2 cache keys\n" in text


def test_several_things_are_apart(show: Callable[..., str]) -> None:
    assert show(KEPT, KEPT).count("\n\ndelta d1\n") == 1


def test_programs_get_an_object_a_line(show: Callable[..., str]) -> None:
    record = replace(RECORD, in_use=True, records=((RESULT, "k"),))
    kept = replace(KEPT, record=record, images=("a",), last_of=("c",), processes=(1,))
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in show(kept, KEPT, format="json").splitlines()
    ]
    assert rows[0] == {
        "id": "d1",
        "kind": "delta",
        "size": 1_500,
        "images": ["a"],
        "last_of": ["c"],
        "containers": [],
        "processes": [1],
        "children": [],
        "records": [[RESULT, "k"]],
        "reclaimable": False,
        "value": 0.5,
        "place": 0,
        "way_out": "pybuild prune",
    }
    assert (len(rows), rows[1]["reclaimable"]) == (2, True)
