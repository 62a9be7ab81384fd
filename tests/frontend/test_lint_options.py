"""``# check=`` for a file, for one instruction, and as a build arg [DIR-7, DIR-8]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lint.options import CheckOptions
from pybuild.model.errors import UserError
from tests.frontend.lowering import build

TWO = "FROM a AS Base\nMAINTAINER x\n"


def rules(text: str, **options: Any) -> list[str]:
    return [warning.rule for warning in build(text, **options).warnings]


@pytest.mark.parametrize(
    ("check", "left"),
    [
        ("skip=StageNameCasing", ["MaintainerDeprecated"]),
        ("skip=StageNameCasing, MaintainerDeprecated", []),
        ("skip=all", []),
        ("skip=all;error=true", []),
        ("error=false", ["StageNameCasing", "MaintainerDeprecated"]),
        # Names count letter by letter, as for the peer, and so does "all".
        ("skip=stagenamecasing,All", ["StageNameCasing", "MaintainerDeprecated"]),
    ],
)
def test_a_file_skips_rules(check: str, left: list[str]) -> None:
    assert rules(f"# check={check}\n{TWO}") == left
    assert rules(TWO, build_args={"BUILDKIT_DOCKERFILE_CHECK": check}) == left


def test_the_build_arg_replaces_the_directive() -> None:
    text = f"# check=skip=all\n{TWO}"
    for check in ("", "skip=MaintainerDeprecated"):
        assert "StageNameCasing" in rules(text, build_args={"BUILDKIT_DOCKERFILE_CHECK": check})


def test_a_comment_skips_rules_for_the_instruction_below() -> None:
    text = (
        "FROM scratch\n"
        "# check=skip=SecretsUsedInArgOrEnv // known\nENV password=a\n"
        "# a word\n# check=skip=all whatever\n\nARG token\n"
        "ENV secret=b\n"
    )
    (warning,) = build(text).warnings
    assert warning.spans[0].first_line == 8


@pytest.mark.parametrize(
    "comment",
    [
        "check=skip=LegacyKeyValueFormat",
        "CHECK = skip=LegacyKeyValueFormat",
        "check=skip=A,LegacyKeyValueFormat,B;error=true reason",
    ],
)
def test_comments_that_count(comment: str) -> None:
    assert rules(f"FROM scratch\n# {comment}\nENV k v\n") == []


@pytest.mark.parametrize(
    "comment",
    [
        "check skip=all",
        "check=skipping=all",
        "check=skip",
        "check=skip=A\n# check=skip=all",  # the first one decides
        "check=skip=A, LegacyKeyValueFormat",  # a space ends the options
        "check=skip=all\n#",  # an empty comment parts it from the instruction
    ],
)
def test_comments_that_do_not(comment: str) -> None:
    assert rules(f"FROM scratch\n# {comment}\nENV k v\n") == ["LegacyKeyValueFormat"]


def test_rules_that_compare_instructions_are_skipped_by_the_file_only() -> None:
    text = "FROM a AS x\n# check=skip=all\nFROM b AS x\n# check=skip=all\nrun y\n"
    assert rules(text) == ["DuplicateStageName", "ConsistentInstructionCasing"]


def test_the_comment_above_the_later_one_decides_about_repeated_commands() -> None:
    skip = "# check=skip=MultipleInstructionsDisallowed\n"
    assert rules(f"FROM scratch\nCMD []\n{skip}CMD []\n") == []
    assert rules(f"FROM scratch\n{skip}CMD []\nCMD []\n") == ["MultipleInstructionsDisallowed"]


def test_experimental_rules_are_switched_on_not_off() -> None:
    text = "FROM scratch\n# nothing\nARG x\n"
    name = "InvalidDefinitionDescription"
    assert rules(text) == []
    for check in (f"experimental={name}", "experimental=all", f"skip=all;experimental={name}"):
        assert rules(f"# check={check}\n{text}") == [name]
    assert rules(text.replace("ARG", f"# check=experimental={name}\nARG")) == [name]


def test_findings_can_be_errors() -> None:
    with pytest.raises(UserError) as caught:
        build(f"# check=error=true\n{TWO}")
    assert caught.value.message == (
        "lint violation found for rules: MaintainerDeprecated, StageNameCasing"
    )
    assert [span.first_line for span in caught.value.spans] == [2, 3]
    # A warning that is no check makes nothing fail.
    assert build("# check=error=true\nFROM a\n", build_args={"X": "1"}).warnings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("skip", 'invalid check option "skip"'),
        ("eror=true", 'invalid check option "eror"'),
        ("error=maybe", 'failed to parse check option "error=maybe": neither true nor false'),
        ("skip=all;", 'invalid check option ""'),
        ("Skip=all", 'invalid check option "Skip"'),
    ],
)
def test_options_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        CheckOptions.parse(text)
    assert caught.value.message == f"failed to parse check options: {problem}"
    with pytest.raises(UserError, match=problem):
        build(f"# check={text}\nFROM a\n")
