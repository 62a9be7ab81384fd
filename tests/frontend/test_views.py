"""Checks, outlines and targets as people and tools read them [UI-6]."""

from __future__ import annotations

import base64
import json

from pybuild.frontend.outline import ArgInfo, MountInfo, Outline, StageInfo
from pybuild.frontend.views import (
    check_json,
    check_text,
    outline_json,
    outline_text,
    targets_json,
    targets_text,
)
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span

TEXT = b"FROM scratch\nRUN a\nRUN b\n"
LINES = TEXT.decode().splitlines()


def at(line: int) -> Span:
    return Span("Dockerfile", line, line)


def warning(rule: str, line: int) -> BuildWarning:
    return BuildWarning(
        rule=rule,
        message=f"{rule} is wrong",
        url=f"u/{rule}",
        detail=("so", "why"),
        spans=(at(line),),
    )


def outlined(**changes: object) -> Outline:
    fields: dict[str, object] = {"name": "", "description": "", "args": (), "secrets": ()}
    fields |= {"ssh": (), "caches": ()} | changes
    return Outline(**fields)  # type: ignore[arg-type]  # pyright: ignore


def test_a_check_counts_its_warnings() -> None:
    assert check_text([], LINES) == "Check complete, no warnings found.\n"
    one = check_text([warning("A", 2)], LINES)
    assert one.splitlines()[:4] == [
        "Check complete, 1 warning has been found!", "", "WARNING: A - u/A", "A is wrong",
    ]  # fmt: skip
    assert ">>> RUN a" in one
    two = check_text([warning("A", 2), warning("B", 3)], LINES)
    assert two.startswith("Check complete, 2 warnings have been found!\n\nWARNING: A - u/A\n")


def test_a_check_for_tools_has_lines_and_the_error() -> None:
    error = UserError("no such stage").with_spans((at(3),))
    found = json.loads(check_json([warning("A", 2)], error, "Dockerfile", TEXT))
    location = {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    assert found["warnings"] == [
        {"ruleName": "A", "description": "so why", "url": "u/A", "detail": "A is wrong", "location": location}
    ]  # fmt: skip
    assert found["buildError"]["message"] == "no such stage"
    assert found["buildError"]["location"]["ranges"][0]["start"] == {"line": 3}
    assert "buildError" not in json.loads(check_json([], None, "Dockerfile", TEXT))


def test_an_outline_has_a_table_for_each_kind_that_there_is() -> None:
    assert outline_text(outlined()) == ""
    assert outline_text(outlined(name="app")) == "TARGET: app\n\n"
    assert outline_text(outlined(description="It runs.")) == (
        "TARGET:      (default)\nDESCRIPTION: It runs.\n\n"
    )
    text = outline_text(
        outlined(
            args=(ArgInfo(name="A", value="1", description="a number", span=at(1)),),
            secrets=(
                MountInfo(name="key", required=True, span=at(2)),
                MountInfo(name="more", required=False, span=at(2)),
            ),
            ssh=(MountInfo(name="default", required=False, span=at(2)),),
            caches=(MountInfo(name="/c", required=False, span=at(3)),),
        )
    )
    tables = [[line.split() for line in table.splitlines()] for table in text.split("\n\n")]
    assert tables[:4] == [
        [["BUILD", "ARG", "VALUE", "DESCRIPTION"], ["A", "1", "a", "number"]],
        [["SECRET", "REQUIRED"], ["key", "true"], ["more"]],
        [["SSH", "REQUIRED"], ["default"]],
        [["CACHE"], ["/c"]],
    ]


def test_an_outline_for_tools_leaves_out_what_is_empty() -> None:
    found = json.loads(
        outline_json(
            outlined(
                name="app",
                secrets=(MountInfo(name="key", required=True, span=at(2)),),
                caches=(MountInfo(name="/c", required=False, span=at(3)),),
            ),
            TEXT,
        )
    )
    assert "description" not in found and "args" not in found and "ssh" not in found
    (secret,), (cache,) = found["secrets"], found["cache"]
    assert (secret["name"], secret["required"]) == ("key", True)
    assert cache["ID"] == "/c"
    assert cache["location"]["ranges"][0]["end"] == {"line": 3}
    assert [base64.b64decode(source) for source in found["sources"]] == [TEXT]


def test_targets_name_the_default_one() -> None:
    stages = (
        StageInfo(
            name="app",
            base="scratch",
            platform="",
            description="It runs.",
            default=False,
            span=at(1),
        ),
        StageInfo(
            name="", base="app", platform="linux/arm64", description="", default=True, span=at(2)
        ),
    )
    lines = targets_text(stages).splitlines()
    assert lines[0].split() == ["TARGET", "DESCRIPTION"]
    assert lines[1].split(maxsplit=1) == ["app", "It runs."]
    assert lines[2].split() == ["(default)"]
    first, second = json.loads(targets_json(stages, TEXT))["targets"]
    assert first["name"] == "app" and "default" not in first and "platform" not in first
    assert second["default"] is True and second["platform"] == "linux/arm64"
