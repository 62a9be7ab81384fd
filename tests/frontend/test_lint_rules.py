"""Build checks: each rule fires where it should, says what it should, and can be skipped."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lint.catalogue import RULES
from pybuild.model.platform import Platform
from tests import watchdog
from tests.frontend.lowering import build, image


def found(text: str, **options: Any) -> list[tuple[str, int, str]]:
    return [(w.rule, w.spans[0].first_line, w.message) for w in build(text, **options).warnings]


CASES: list[tuple[str, str, int, str]] = [
    (  # LNT-1
        "FROM a AS Base\n",
        "StageNameCasing",
        1,
        "Stage name 'Base' should be lowercase",
    ),
    (  # LNT-2
        "FROM a as b\n",
        "FromAsCasing",
        1,
        "'as' and 'FROM' keywords' casing do not match",
    ),
    (
        "FROM a\nRUN x \\\n\n  y\n",
        "NoEmptyContinuation",  # LNT-3
        4,
        "Empty continuation line",
    ),
    (
        "FROM a\nRUN x\nrun y\n",
        "ConsistentInstructionCasing",  # LNT-4
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
        "DuplicateStageName",  # LNT-5
        2,
        'Duplicate stage name "x", stage names should be unique',
    ),
    (
        "FROM a AS context\n",
        "ReservedStageName",  # LNT-6
        1,
        'Stage name should not use the same name as reserved stage "context"',
    ),
    (
        "FROM a\nCMD x\n",
        "JSONArgsRecommended",  # LNT-7
        2,
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM a\nMAINTAINER x\n",
        "MaintainerDeprecated",  # LNT-8
        2,
        "Maintainer instruction is deprecated in favor of using label",
    ),
    (
        "ARG VERSION=1\nFROM a:1$VERSIN\n",
        "UndefinedArgInFrom",  # LNT-9
        2,
        "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
    ),
    (
        "FROM a\nWORKDIR x\nWORKDIR y\n",
        "WorkdirRelativePath",  # LNT-10
        2,
        'Relative workdir "x" can have unexpected results if the base image changes',
    ),
    (
        "FROM a\nENV DIRS=x\nCOPY $DIR /x\n",
        "UndefinedVar",  # LNT-11
        3,
        "Usage of undefined variable '$DIR' (did you mean $DIRS?)",
    ),
    (
        "FROM a\nCMD []\nCMD []\n",
        "MultipleInstructionsDisallowed",  # LNT-12
        2,
        (
            "Multiple CMD instructions should not be used in the same stage because only the last"
            " one will be used"
        ),
    ),
    (
        "FROM a\nENV a b\n",
        "LegacyKeyValueFormat",  # LNT-13
        2,
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
    ),
    (
        "FROM --platform=$TARGETPLATFORM a\n",
        "RedundantTargetPlatform",  # LNT-14
        1,
        (
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the"
            " default behavior"
        ),
    ),
    (
        "FROM a\nARG API_TOKEN\n",
        "SecretsUsedInArgOrEnv",  # LNT-15
        2,
        'Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")',
    ),
    (
        "FROM --platform=linux/amd64 a\n",
        "FromPlatformFlagConstDisallowed",  # LNT-17
        1,
        'FROM --platform flag should not use constant value "linux/amd64"',
    ),
    (
        "FROM a\nEXPOSE 80/TCP\n",
        "ExposeProtoCasing",  # LNT-20
        2,
        "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM a\nEXPOSE 1:2\n",
        "ExposeInvalidFormat",  # LNT-21
        2,
        "EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
    ),
    (
        "# check=experimental=all\nFROM a\n# says nothing\nARG x\n",
        "InvalidDefinitionDescription",  # LNT-19
        4,
        "Comment for ARG should follow the format: `# x <description>`",
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


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("from a AS b\n", ["FromAsCasing"]),  # LNT-2
        ("FROM a AS X\nFROM b AS x\n", ["StageNameCasing", "DuplicateStageName"]),  # LNT-5
        ("FROM a AS scratch\n", ["ReservedStageName"]),  # LNT-6
        ("FROM a\nENTRYPOINT x\n", ["JSONArgsRecommended"]),  # LNT-7
        ("FROM a:$TARGETARCH\n", []),  # LNT-9
        ("FROM a:1$TARGET_ARCH\n", ["UndefinedArgInFrom"]),
        ("FROM a\nENV X=${y:-d}\n", ["UndefinedVar"]),  # LNT-11
        ("FROM a\nARG y\nENV X=$y\n", []),
        ("FROM a\nENTRYPOINT []\nENTRYPOINT []\n", ["MultipleInstructionsDisallowed"]),  # LNT-12
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n", ["MultipleInstructionsDisallowed"]),
        ("FROM a\nLABEL k v\n", ["LegacyKeyValueFormat"]),  # LNT-13
        (
            "FROM a\nEXPOSE 127.0.0.1:80:80 [::1]:8:8 1 2/udp\n",
            ["ExposeInvalidFormat"] * 2,
        ),  # LNT-21
        ("FROM a\nEXPOSE 80/Tcp 81/udp\n", ["ExposeProtoCasing"]),  # LNT-20
        *[
            (f"FROM a\nENV {key}=1\n", ["SecretsUsedInArgOrEnv"])  # LNT-15
            for key in (
                "apikey",
                "MY_AUTH",
                "credential",
                "CREDENTIALS_X",
                "a_key_b",
                "password",
                "pword",
                "PASSWD",
                "Secret",
                "token",
            )
        ],
        *[
            (f"FROM a\nENV {key}=1\n", [])
            for key in ("PUBLIC_KEY", "key_file", "AUTH_VERSION", "mykey", "author", "tokens")
        ],
    ],
)
def test_rules_fire_on_just_their_triggers(text: str, rules: list[str]) -> None:
    assert [rule for rule, _, _ in found(text)] == rules


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
        "InvalidBaseImagePlatform",
    }
    assert tested == set(RULES)


def test_base_image_for_another_platform() -> None:  # LNT-22
    images = {"a": image(platform=Platform("linux", "arm64"))}
    message = (
        'Base image a was pulled with platform "linux/arm64", expected "linux/amd64" for current'
        " build"
    )
    expected = [("InvalidBaseImagePlatform", 1, message)]
    assert found("FROM a\n", images=images) == expected
    # As the peer does, also where the platform was asked for.
    assert found("FROM --platform=$BUILDPLATFORM a\n", images=images) == expected
    assert found("# check=skip=InvalidBaseImagePlatform\nFROM a\n", images=images) == []
    assert found("FROM a\n", images={"a": image(platform=Platform("linux", "amd64", "v3"))}) == []
    copied = found("FROM scratch\nCOPY --from=a x /\n", images=images)
    assert [(rule, line) for rule, line, _ in copied] == [("InvalidBaseImagePlatform", 2)]


def test_warnings_tell_their_rule_its_page_and_the_reason() -> None:
    (warning,) = build("FROM a AS Base\n").warnings
    assert (warning.rule, warning.url) == (
        "StageNameCasing",
        "pybuild lint --explain StageNameCasing",
    )
    assert warning.detail == (RULES["StageNameCasing"].description,)


def test_rules_that_need_only_text_look_at_unused_stages_too() -> None:
    text = "FROM a AS Unused\nMAINTAINER x\nENV k v\nFROM b\n"
    assert [rule for rule, _, _ in found(text)] == ["StageNameCasing", "MaintainerDeprecated"]


def test_the_same_is_said_once_and_in_order_of_lines() -> None:
    text = "FROM scratch\nCOPY $y $x $x /\nENV a b\nCOPY $x /\n"
    assert [(rule, line) for rule, line, _ in found(text)] == [
        ("UndefinedVar", 2),
        ("UndefinedVar", 2),
        ("LegacyKeyValueFormat", 3),
        ("UndefinedVar", 4),
    ]


def test_messages_name_the_keyword_as_written() -> None:
    text = "from scratch\nenv k v\ncmd x\ncmd y\n"
    assert [message for _, _, message in found(text)] == [
        '"env key=value" should be used instead of legacy "env key value" format',
        "JSON arguments recommended for cmd to prevent unintended behavior related to OS signals",
        (
            "Multiple cmd instructions should not be used in the same stage because only the last"
            " one will be used"
        ),
        "JSON arguments recommended for cmd to prevent unintended behavior related to OS signals",
    ]


@pytest.mark.parametrize(
    ("flag", "rules"),
    [
        ("$TARGETPLATFORM", ["RedundantTargetPlatform"]),
        ("${TARGETPLATFORM:-linux/arm64}", ["RedundantTargetPlatform"]),
        ("$TARGETOS/$TARGETARCH", []),
        ("linux/arm64", ["FromPlatformFlagConstDisallowed"]),
        ("'linux'/arm64", ["FromPlatformFlagConstDisallowed"]),
        ("linux/${TARGETARCH}", []),
    ],
)
def test_platform_flags(flag: str, rules: list[str]) -> None:  # LNT-14, LNT-17
    assert [rule for rule, _, _ in found(f"FROM --platform={flag} a\n")] == rules


@pytest.mark.parametrize(
    ("source", "name"), [("./x/y", "x/y"), ("x//y/", "x/y"), (".", "."), ("./", ".")]
)
def test_ignored_sources_are_named_clean(source: str, name: str) -> None:  # LNT-18
    (finding,) = found(f"FROM a\nCOPY {source} /\n", local_excludes={"context": ("**",)})
    assert finding[2] == f'Attempting to Copy file "{name}" that is excluded by .dockerignore'


def test_expose_does_not_say_what_is_undefined() -> None:
    assert found("FROM scratch\nEXPOSE $nope 80\n") == []


def test_descriptions() -> None:  # LNT-19
    text = (
        "# check=experimental=InvalidDefinitionDescription\n"
        "# bar is wrong\nARG foo=1\n"
        "# Base is wrong\nFROM a AS base\n"
        "# other things\nARG x=1 y=2\n"
        "# y is one of them\nARG x=3 y=4\n"
        "# put aside\n#\nARG z\n"
        "# no definition\nWORKDIR /\n"
    )
    head = "should follow the format:"
    assert [(line, message) for _, line, message in found(text)] == [
        (3, f"Comment for ARG {head} `# foo <description>`"),
        (5, f"Comment for FROM {head} `# base <description>`"),
        (7, f"Comment for ARG {head} `# <arg_key> <description>`"),
    ]
    assert found(text.split("\n", 1)[1]) == []


@pytest.mark.slow
def test_thousands_of_misspelt_variables_have_an_end() -> None:
    """Each could be compared with each; that would take minutes."""
    text = "FROM scratch\n"
    text += "".join(f"ENV VARIABLE_{n:05d}=1\n" for n in range(2000))
    text += "".join(f"COPY $VARIABLE_X{n:04d} /\n" for n in range(2000))
    with watchdog.ends():
        assert len(found(text)) == 2000
