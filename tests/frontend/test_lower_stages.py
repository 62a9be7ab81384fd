"""Stages and targets: what FROM binds to, and what holds for the steps of a stage."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.outline import list_stages
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    ImageSource,
    NetworkMode,
    StepSettings,
    walk,
)
from pybuild.model.platform import LINUX_AMD64
from tests.frontend.lowering import (
    ARM,
    build,
    execs,
    files,
    find,
)


def test_blank_base_name_is_refused_with_its_expression() -> None:  # E97
    with pytest.raises(UserError, match=r"base name \(\$X\) should not be blank") as caught:
        build("FROM a\nFROM $X\n", target="nope")
    assert caught.value.spans[0].first_line == 2


def test_copy_binds_to_the_last_stage_of_a_name() -> None:  # E98
    lowered = build(
        "FROM x AS a\nRUN one\nFROM y AS a\nRUN two\nFROM scratch\nCOPY --from=a /f /\n"
    )
    assert [op.args[-1] for op in execs(lowered)] == ["two"]


def test_copy_from_a_later_stage_is_refused() -> None:  # E99
    with pytest.raises(UserError) as caught:
        build("FROM a\nCOPY --from=1 x /\nFROM b\nCOPY --from=0 /x /\n")
    assert caught.value.message == "circular dependency detected on stage: stage-0"
    with pytest.raises(UserError) as caught:
        build("FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nRUN x\nFROM one\n")
    assert caught.value.message == (
        'cannot copy from stage "two", it needs to be defined before current stage "one"'
    )
    assert caught.value.spans[0].first_line == 2


def test_index_out_of_range() -> None:
    with pytest.raises(UserError, match="invalid stage index 5"):
        build("FROM a\nCOPY --from=5 x /\n")


def test_unused_stage_is_never_asked_for() -> None:  # E100
    asked: list[str] = []
    lowered = build("FROM does/not:exist AS no\nRUN x\nFROM a\nRUN y\n", asked=asked)
    assert asked == ["a linux/amd64"]
    assert [op.args[-1] for op in execs(lowered)] == ["y"]


def test_platform_of_a_stage() -> None:  # E106
    asked: list[str] = []
    text = "FROM --platform=$BUILDPLATFORM x AS b\nRUN b\nFROM x\nCOPY --from=b /o /\nRUN t\n"
    lowered = build(text, asked=asked, target_platform=ARM, multi_platform=True)
    assert asked == ["x linux/amd64", "x linux/arm64"]
    first, second = execs(lowered)
    assert (first.platform, second.platform) == (LINUX_AMD64, ARM)
    other = build(text, target_platform=LINUX_AMD64, multi_platform=True)
    assert find(other, "RUN b").digest == find(lowered, "RUN b").digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("FROM --platform=$NO a", r"empty platform value from expression \$NO"),
        (
            "FROM --platform=$TARGETPLATFROM a",
            r"\$TARGETPLATFROM \(did you mean TARGETPLATFORM\?\)",
        ),
        ("FROM --platform=linux/$TARGETACH a", r"/\$TARGETACH: .*\(did you mean TARGETARCH\?\)"),
        ("FROM --platform=linux/vax a", "failed to parse platform linux/vax"),
        ("FROM Ab", 'failed to parse stage name "Ab": .*must be lowercase'),
    ],
)
def test_from_lines_that_cannot_be(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(f"# c\n{line}\n")
    assert caught.value.spans[0].first_line == 2


def test_target_by_name_in_any_case() -> None:  # FROM-10
    text = "FROM a AS build\nRUN one\nFROM b\nRUN two\n"
    assert [op.args[-1] for op in execs(build(text, target="BUILD"))] == ["one"]
    with pytest.raises(UserError) as caught:
        build(text, target="bulid")
    assert caught.value.message == ('target stage "bulid" could not be found (did you mean build?)')
    with pytest.raises(UserError, match='target stage "0" could not be found'):
        build(text, target="0")


def test_stage_may_reuse_the_name_of_its_base() -> None:  # FROM-3
    asked: list[str] = []
    build("FROM x AS x\nFROM x\n", asked=asked)
    assert asked == ["x linux/amd64"]


def test_from_compares_as_written() -> None:  # FROM-4
    with pytest.raises(UserError) as caught:
        build("FROM a AS Base\nFROM Base\n")
    assert caught.value.hints == ("stage names are lower case; did you mean base?",)
    assert build("FROM a AS Base\nFROM base\n")


def test_from_binds_to_the_closest_earlier_definition() -> None:  # FROM-5
    lowered = build(
        "FROM x AS a\nRUN one\nFROM a AS b\nRUN two\nFROM y AS a\nRUN three\nFROM b\nRUN four\n"
    )
    assert [op.args[-1] for op in execs(lowered)] == ["one", "two", "four"]


def test_cycle_shows_its_lines() -> None:  # FROM-13
    with pytest.raises(UserError) as caught:
        build(
            "FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\n"
            "RUN --mount=from=one,target=/x y\nFROM c\n"
        )
    assert caught.value.message == "circular dependency detected on stage: one"
    assert [span.first_line for span in caught.value.spans] == [2, 4]


def test_from_with_variable_is_refused() -> None:  # EXP-20
    with pytest.raises(UserError, match="variable expansion is not supported for --from"):
        build("ARG X=a\nFROM a\nCOPY --from=$X /x /\n")


@pytest.mark.slow
def test_thousands_of_stages() -> None:
    lines = ["FROM a AS s0"] + [f"FROM s{n} AS s{n + 1}\nENV A{n % 7}=1" for n in range(2000)]
    lowered = build("\n".join(lines))
    assert isinstance(lowered.result.op, ImageSource)


def test_source_date_epoch() -> None:  # KEY-9
    text = "FROM a\nRUN x\nWORKDIR /w\n"
    plain, dated = build(text), build(text, build_args={"SOURCE_DATE_EPOCH": "7"})
    assert (plain.epoch, dated.epoch) == (None, 7)
    assert execs(plain) == execs(dated)
    assert files(dated)[0].actions[0].mtime == 7  # type: ignore[union-attr]
    assert build("ARG SOURCE_DATE_EPOCH=9\nFROM a\n").epoch == 9
    for word in ("now", "Not a name", "1.5"):
        with pytest.raises(UserError, match=f"invalid SOURCE_DATE_EPOCH: {word}") as caught:
            build(text, build_args={"SOURCE_DATE_EPOCH": word})
        assert caught.value.hints[0].startswith("give seconds since 1970, context, or the name")


def test_network_of_the_build_is_the_default_of_steps() -> None:  # RUN-5
    lowered = build(
        "FROM a\nRUN x\nRUN --network=host y\nRUN --network=default z\n",
        steps=StepSettings(network=NetworkMode.NONE),
    )
    assert [op.settings.network for op in execs(lowered)] == ["none", "host", "none"]


def test_no_cache_marks_steps_of_the_stages_that_were_meant() -> None:  # KEY-11
    text = "FROM a AS one\nWORKDIR /w\nRUN x\nFROM one AS two\nCOPY a b\n"

    def marked(**options: Any) -> list[str]:
        vertices = walk(build(text, **options).result)
        return [v.meta.name for v in vertices if v.meta.ignore_cache]

    assert marked() == []
    assert marked(no_cache=True) == ["[one 3/3] RUN x", "[two 1/1] COPY a b"]
    assert marked(no_cache_filter=frozenset({"two"})) == ["[two 1/1] COPY a b"]


def test_list_of_stages() -> None:  # UI-5
    stages = list_stages(
        parse_dockerfile(b"ARG X\n# build makes it\nFROM --platform=$P a AS build\nFROM $X\n")
    )
    assert [(s.name, s.base, s.platform, s.description, s.default) for s in stages] == [
        ("build", "a", "$P", "makes it", False),
        ("", "$X", "", "", True),
    ]
