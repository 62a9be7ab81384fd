"""The output of ``du``, ``prune`` and ``cache mounts``, and the policy that prune's options make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content import cachemounts
from pybuild.cache.space import usage
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.commandline.parser import Parsed
from pybuild.commands import disk
from pybuild.model.errors import UsageError
from tests.clocks import FakeClock

SMALL = UsageRecord(kind="blob", id="small", type="regular", size=1_000, in_use=True)
LARGE = UsageRecord(
    kind="delta", id="large", type="regular", size=2_000_000, description="RUN " + "x" * 99
)


class FakeBuilder:
    """Has two things, and notes how it was told to free them."""

    def __init__(self) -> None:
        self.filters: list[Sequence[str]] = []
        self.policies: list[Policy] = []

    def usage(self, filters: Sequence[str]) -> list[UsageRecord]:
        self.filters.append(filters)
        return [SMALL, LARGE]

    def prune(self, policy: Policy, progress: Callable[[UsageRecord], None]) -> int:
        self.policies.append(policy)
        progress(LARGE)
        return LARGE.size

    def disk_bytes(self) -> int:
        return 1_000_000_000


def parsed(**values: str | list[str]) -> Parsed:
    made = Parsed()
    for name, value in values.items():
        made.values[name.replace("_", "-")] = value if isinstance(value, list) else [value]
    return made


@pytest.fixture
def builder() -> Any:
    return FakeBuilder()


def test_du_lists_the_largest_first_and_what_can_be_freed(
    builder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert disk.du(parsed(filter=["type==regular"]), builder) == 0
    assert builder.filters == [["type==regular"]]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED", "DESCRIPTION"]
    assert lines[1].split()[:3] == ["large", "true", "2.00MB"]
    assert lines[1].endswith("RUN " + "x" * 56)
    assert lines[2].split() == ["small", "false", "1.00kB"]
    assert [line.split() for line in lines[3:]] == [
        [], ["Reclaimable:", "2.00MB"], ["Total:", "2.00MB"],
    ]  # fmt: skip


def test_du_tells_programs_and_the_curious_all(
    builder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert disk.du(parsed(format="json"), builder) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["size"], row["reclaimable"]) for row in rows] == [
        ("large", 2_000_000, True),
        ("small", 1_000, False),
    ]
    assert disk.du(parsed(verbose="true"), builder) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert blocks[0].startswith("id:\tlarge\nkind:\tdelta\n")
    assert "Total:\t\t2.00MB" in blocks[-1]


def test_du_leaves_nothing_out_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    record = UsageRecord(
        kind="delta", id="d", type="regular", size=1, created=2.0, last_used=3.0, use_count=4,
        pinned=True, shared=True, mutable=True, parents=("p",), description="x\x07",
    )  # fmt: skip

    class OneThing(FakeBuilder):
        def usage(self, filters: Sequence[str]) -> list[UsageRecord]:
            return [record]

    assert disk.du(parsed(format="json"), OneThing()) == 0  # type: ignore[arg-type]  # pyright: ignore
    row = {
        "id": "d", "kind": "delta", "type": "regular", "size": 1, "created": 2.0, "last_used": 3.0,
        "use_count": 4, "in_use": False, "shared": True, "mutable": True, "reclaimable": False,
        "parents": ["p"], "description": "x\x07",
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out) == row
    assert disk.du(parsed(verbose="true"), OneThing()) == 0  # type: ignore[arg-type]  # pyright: ignore
    text = capsys.readouterr().out
    shown = {**row, "description": "x\\x07"}
    assert text.startswith("".join(f"{key}:\t{value}\n" for key, value in shown.items()) + "\n")
    assert text.endswith("\nReclaimable:\t0B\nTotal:\t\t1B\n")


def test_prune_frees_what_its_options_say(builder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert disk.prune(parsed(force="true"), builder) == 0
    assert capsys.readouterr().out == "large\t2.00MB\nTotal:\t2.00MB\n"
    options = parsed(
        force="true", all="true", filter=["until=24h"], reserved_space="1MB", max_used_space="10%",
        min_free_space="2 kB",
    )  # fmt: skip
    assert disk.prune(options, builder) == 0
    assert disk.prune(parsed(force="true", keep_storage="5MB"), builder) == 0
    assert builder.policies == [
        Policy(),
        Policy(
            filters=("until=24h",), all=True, reserved_space=1_000_000,
            max_used_space=100_000_000, min_free_space=2_000,
        ),
        Policy(max_used_space=5_000_000),
    ]  # fmt: skip


@pytest.mark.parametrize(("answer", "frees"), [("y\n", 1), ("YES\n", 1), ("n\n", 0), ("", 0)])
def test_prune_asks_first(
    builder: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    frees: int,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: answer, raising=False)
    assert disk.prune(parsed(), builder) == 0
    assert len(builder.policies) == frees
    assert "This will remove all build cache that no image needs, and" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "what"),
    [({}, "all build cache that no image needs"), ({"all": "true"}, "all build cache")],
)
def test_prune_says_what_would_go(
    builder: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str],
    what: str,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "\n", raising=False)
    assert disk.prune(parsed(**options), builder) == 0
    assert capsys.readouterr().err == (
        f"WARNING! This will remove {what}, and all images without a name but the last of each"
        " build. Are you sure you want to continue? [y/N] "
    )


@pytest.mark.parametrize("option", ["reserved_space", "max_used_space", "min_free_space"])
def test_a_size_that_is_none_frees_nothing(builder: Any, option: str) -> None:
    with pytest.raises(UsageError, match='invalid size "much"'):
        disk.prune(parsed(force="true", **{option: "much"}), builder)
    assert builder.policies == []


def test_the_older_name_of_an_option_gives_way(builder: Any) -> None:
    both = parsed(force="true", max_used_space="1MB", keep_storage="2MB")
    assert disk.prune(both, builder) == 0
    assert builder.policies == [Policy(max_used_space=1_000_000)]


def test_prune_that_can_ask_nobody_frees_nothing(
    builder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match="prune asks before it deletes"):
        disk.prune(parsed(), builder)
    assert builder.policies == []


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (0.5, "Less than a second ago"), (1.5, "1 second ago"), (59.5, "59 seconds ago"),
        (60.5, "About a minute ago"), (119.0, "About a minute ago"), (120.0, "2 minutes ago"),
        (3_600.0, "About an hour ago"), (7_200.5, "2 hours ago"), (86_400.5, "24 hours ago"),
        (172_800.0, "2 days ago"), (1_209_600.0, "2 weeks ago"), (5_184_000.0, "2 months ago"),
        (63_072_000.0, "2 years ago"), (-30.0, "Less than a second ago"),
    ],
)  # fmt: skip
def test_times_are_told_in_their_largest_unit(
    ago: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e8)
    assert usage.since(1e8 - ago) == words
    assert usage.since(0.0) == ""


def test_cache_mounts_are_listed_shown_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path, FakeClock()) as store:
        for name, id in (("a" * 64, "pip"), ("b" * 64, "go")):
            made = store.scratch("mount")
            cachemounts.begin(store, made, {"id": id, "created": 5.0})
            cachemounts.put(store, made, name)

    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path), "cache", *words]) == status
        return capsys.readouterr().out

    head, go, pip = (line.split() for line in run("mounts", "ls").splitlines())
    assert head == ["ID", "NAME", "SIZE", "LAST", "USED", "IN", "USE"]
    assert (go[:2], go[-1], pip[:2]) == (["go", "b" * 12], "false", ["pip", "a" * 12])
    rows = [json.loads(line) for line in run("mounts", "ls", "--format", "json").splitlines()]
    assert [row["id"] for row in rows] == ["go", "pip"]
    (shown,) = json.loads(run("mounts", "inspect", "pip"))
    assert shown["path"] == f"{tmp_path}/mounts/{'a' * 64}/fs"
    assert "a" * 12 in run("mounts", "rm", "pip")
    assert len(run("mounts", "ls").splitlines()) == 2
    for words in (
        ["mounts"],
        ["mount", "ls"],
        ["mounts", "lss"],
        ["mounts", "ls", "x"],
        ["mounts", "rm"],
    ):
        assert run(*words, status=2) == ""
