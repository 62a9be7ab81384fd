"""Build checks: each rule fires where it should, says what it should, and can be skipped."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lint.report import CheckOptions
from pybuild.frontend.lint.rules import Rule
from pybuild.model.errors import UserError
from tests.frontend.lowering import build


def found(text: str, **options: Any) -> list[tuple[str, int, str]]:
    return [(w.rule, w.spans[0].first_line, w.message) for w in build(text, **options).warnings]


CASES: list[tuple[str, str, int, str]] = [
    ("FROM a AS Base\n", "StageNameCasing", 1, "Stage name 'Base' should be lowercase"),
    ("FROM a as b\n", "FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match"),
    (
        "FROM a\nRUN x \\\n\n  y\n",
        "NoEmptyContinuation",
        4,
        "Empty continuation line",
    ),
    (
        "FROM a\nRUN x\nrun y\n",
        "ConsistentInstructionCasing",
        3,
        "Command 'run' should match the case of the command majority (uppercase)",
    ),
    (
        "from a\nrun x\nRun y\n",
        "ConsistentInstructionCasing",
        3,
        "Command 'Run' should match the case of the command majority (lowercase)",
    ),
    (
        "FROM a AS x\nFROM b AS x\n",
        "DuplicateStageName",
        2,
        'Duplicate stage name "x", stage names should be unique',
    ),
    (
        "FROM a AS context\n",
        "ReservedStageName",
        1,
        'Stage name should not use the same name as reserved stage "context"',
    ),
    (
        "FROM a\nCMD x\n",
        "JSONArgsRecommended",
        2,
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM a\nMAINTAINER x\n",
        "MaintainerDeprecated",
        2,
        "Maintainer instruction is deprecated in favor of using label",
    ),
    (
        "ARG VERSION=1\nFROM a:1$VERSIN\n",
        "UndefinedArgInFrom",
        2,
        "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
    ),
    (
        "FROM a\nWORKDIR x\nWORKDIR y\n",
        "WorkdirRelativePath",
        2,
        'Relative workdir "x" can have unexpected results if the base image changes',
    ),
    (
        "FROM a\nENV DIRS=x\nCOPY $DIR /x\n",
        "UndefinedVar",
        3,
        "Usage of undefined variable '$DIR' (did you mean $DIRS?)",
    ),
    (
        "FROM a\nCMD []\nCMD []\n",
        "MultipleInstructionsDisallowed",
        2,
        (
            "Multiple CMD instructions should not be used in the same stage because only the last"
            " one will be used"
        ),
    ),
    (
        "FROM a\nENV a b\n",
        "LegacyKeyValueFormat",
        2,
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
    ),
    (
        "FROM --platform=$TARGETPLATFORM a\n",
        "RedundantTargetPlatform",
        1,
        (
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the"
            " default behavior"
        ),
    ),
    (
        "FROM a\nARG API_TOKEN\n",
        "SecretsUsedInArgOrEnv",
        2,
        'Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")',
    ),
    (
        "FROM --platform=linux/amd64 a\n",
        "FromPlatformFlagConstDisallowed",
        1,
        'FROM --platform flag should not use constant value "linux/amd64"',
    ),
    (
        "FROM a\nEXPOSE 80/TCP\n",
        "ExposeProtoCasing",
        2,
        "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM a\nEXPOSE 1:2\n",
        "ExposeInvalidFormat",
        2,
        "EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
    ),
]


@pytest.mark.parametrize(("text", "rule", "line", "message"), CASES, ids=[c[1] for c in CASES])
def test_rule_fires_once(text: str, rule: str, line: int, message: str) -> None:
    assert found(text) == [(rule, line, message)]


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS b\n",
        "from a as b\n",
        "From a as b\n".replace("From", "FROM").replace("as", "AS"),
        'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x\n',
        'FROM a\nCMD ["x"]\nENTRYPOINT ["y"]\n',
        "FROM a\nWORKDIR /x\nWORKDIR y\n",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n",
        "FROM a\nARG DIR\nCOPY x$DIR /x\n",
        "FROM a AS b\nARG DIR\nFROM b\nCOPY x$DIR /x\n",
        "FROM a\nRUN echo $NOTHING\n",
        "FROM a\nENV PUBLIC_KEY=x TOKEN_FILE=y MONKEY=z API_VERSION_TOKEN=1\n",
        "FROM --platform=linux/amd64 a AS for-amd64\n",
        "FROM --platform=$BUILDPLATFORM a\n",
        "FROM a\nCMD []\nFROM a\nCMD []\n",
    ],
)
def test_rules_keep_quiet(text: str) -> None:
    assert found(text) == []


def test_default_that_names_no_image() -> None:  # LNT-16
    text = "ARG V\nFROM a:${V}\n"
    assert found(text, build_args={"V": "1"}) == [
        (
            "InvalidDefaultArgInFrom",
            2,
            "Default value for ARG a:${V} results in empty or invalid base image name",
        )
    ]
    assert found("ARG V=1\nFROM a:${V}\n", build_args={"V": "2"}) == []


def test_source_that_is_ignored() -> None:  # LNT-18
    text = "FROM a\nCOPY x/y.md z /\nADD x/y.md /\nCOPY --from=b x/y.md /\nCOPY . /\n"
    assert found(text, local_excludes={"context": ("x",)}) == [
        (
            "CopyIgnoredFile",
            2,
            'Attempting to Copy file "x/y.md" that is excluded by .dockerignore',
        ),
        ("CopyIgnoredFile", 3, 'Attempting to Add file "x/y.md" that is excluded by .dockerignore'),
    ]
    assert found(text, local_excludes={"context": ("x", "!x/y.md")}) == []
    assert found("FROM a\nCOPY . /\n", local_excludes={"context": ("*",)}) != []


def test_every_rule_has_a_test() -> None:
    tested = {case[1] for case in CASES} | {
        "CopyIgnoredFile",
        "InvalidDefaultArgInFrom",
        "InvalidBaseImagePlatform",  # in test_lower_stages
    }
    assert tested == {rule.value for rule in Rule}


def test_rules_can_be_skipped() -> None:  # DIR-7, DIR-8
    text = "FROM a AS Base\nMAINTAINER x\n"
    assert len(found(text)) == 2
    assert found("# check=skip=StageNameCasing, maintainerdeprecated\n" + text) == []
    assert found("# check=skip=all\n" + text) == []
    assert found(text, build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=all"}) == []
    commented = text.replace("MAINT", "# check=skip=MaintainerDeprecated // known\nMAINT")
    assert [rule for rule, _, _ in found(commented)] == ["StageNameCasing"]


def test_findings_can_be_errors() -> None:
    with pytest.raises(UserError) as caught:
        build("# check=error=true\nFROM a AS Base\nMAINTAINER x\n")
    assert caught.value.message == (
        "lint violation found for rules: MaintainerDeprecated, StageNameCasing"
    )
    assert [span.first_line for span in caught.value.spans] == [2, 3]
    assert build("# check=error=true\nFROM a\n", build_args={"X": "1"}).warnings


@pytest.mark.parametrize("text", ["skip", "eror=true", "error=maybe", "x"])
def test_check_options_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match="invalid check option"):
        CheckOptions.parse(text)
