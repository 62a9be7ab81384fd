"""Advice about a file: variables that a RUN lacks, and exec forms in the wrong quotes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pybuild.frontend.check import FileCheck
from pybuild.frontend.lint.options import CheckOptions
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.model.platform import LINUX_AMD64
from tests.conformance.cases import CASES
from tests.frontend.lowering import build, image, resolve


def advice(text: str, **options: object) -> list[str]:
    return [f"{one.rule}: {one.message}" for one in build(text, **options).advice]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "meant"),
    [
        ('test -n "$VERSON"', "VERSON"),
        ("curl app-${VERSON}.tgz", "VERSON"),
        ("echo ${VERSON%%.*}", "VERSON"),
        ('echo "it\'s $VERSON"', "VERSON"),
        ("<<EOF\nset -e\necho $VERSON\nEOF", "VERSON"),
        ("--mount=type=cache,target=/c echo $VERISON", "VERISON"),
    ],
)
def test_a_misspelt_variable_of_a_step_has_its_neighbour(run: str, meant: str) -> None:
    assert advice(f"FROM base\nARG VERSION=1\nRUN {run}\n") == [
        f"UnsetInRun: ${meant} has no value in this RUN: did you mean $VERSION?"
    ]


@pytest.mark.parametrize(
    "run",
    [
        "VERSON=1 && echo $VERSON",
        "export VERSON; echo $VERSON",
        "for VERSON in 1 2; do echo $VERSON; done",
        "read -r VERSON < f; echo $VERSON",
        "read a VERSON < f; echo $VERSON",
        "printf -v VERSON x; echo $VERSON",
        ". /etc/os-release && echo $VERSON",
        "source ./env; echo $VERSON",
        'eval "$(cat f)"; echo $VERSON',
        "set -a; echo $VERSON",
        "echo '$VERSON'",
        "echo \\$VERSON",
        "echo $$VERSON",
        "echo ${VERSON:-1} ${VERSON-1} ${VERSON:+x} ${VERSON:?set it}",
        "true # not $VERSON",
        "cat > /f <<EOF\n$VERSON\nEOF",
        "<<EOF\n#!/usr/bin/perl\nmy $VERSON = 1;\nEOF",
        "--mount=type=secret,id=x,env=VERSON echo $VERSON",
        "echo $(( VERSON + 1 )) $VERSON",
        'echo $OTHERS $PWD $USER $HOSTNAME "$@" $1 $? $i',
        '["sh", "-c", "echo $VERSON"]',
    ],
)
def test_nothing_is_said_where_a_name_may_have_a_value(run: str) -> None:
    assert advice(f"FROM base\nARG VERSION=1\nENV USERS=x HOSTNAMES=y\nRUN {run}\n") == []


def test_nothing_is_said_of_names_that_the_base_or_the_stage_has() -> None:
    base = image(Env=["VERSON=1"])
    text = "FROM base\nARG VERSION=1\nRUN echo $VERSON\n"
    assert advice(text, images={"base": base}) == []
    assert advice("FROM base\nARG VERSON\nARG VERSION=1\nRUN echo $VERSON\n") == []
    shell = 'FROM base\nARG VERSION=1\nSHELL ["pwsh", "-c"]\nRUN echo $VERSON\n'
    assert advice(shell) == []


def test_an_arg_before_from_is_to_be_repeated() -> None:
    text = "ARG VERSION=1\nFROM base\nRUN echo $VERSION $TARGETARCH\n"
    assert advice(text) == [
        f'UnsetInRun: ${name} has no value in this RUN: repeat "ARG {name}" behind FROM'
        for name in ("VERSION", "TARGETARCH")
    ]
    assert advice("ARG VERSION=1\nFROM base\nARG VERSION\nRUN echo $VERSION\n") == []


@pytest.mark.parametrize(
    "command", ["['node', 'app.js']", "[“node”, “app.js”]", "[‘node’, 'app.js']"]
)
@pytest.mark.parametrize("keyword", ["CMD", "ENTRYPOINT"])
def test_an_exec_form_in_other_quotes_is_shown_as_it_should_be(keyword: str, command: str) -> None:
    straight = '["node", "app.js"]'
    assert advice(f"FROM base\n{keyword} {command}\n") == [
        f"ExecFormQuotes: {command} is no JSON, so a shell gets the brackets: write {straight}"
    ]


@pytest.mark.parametrize("command", ['["a"]', "[ -f x ] && y", "[ 'a' = 'b' ]", "echo 'x'"])
def test_other_commands_are_left_alone(command: str) -> None:
    assert advice(f"FROM base\nCMD {command}\n") == []


@pytest.mark.parametrize("skip", ["# check=skip=all\n", "# check=skip=UnsetInRun\n"])
def test_advice_is_skipped_as_checks_are(skip: str) -> None:
    rest = "FROM base\nARG VERSION=1\n"
    assert advice(f"{skip}{rest}RUN echo $VERSON\n") == []
    assert advice(f"{rest}{skip}RUN echo $VERSON\n") == []
    assert CheckOptions.parse("skip=Other").allows_name("UnsetInRun")


def test_advice_never_fails_a_build_and_is_no_check() -> None:
    lowered = build("# check=error=true\nFROM base\nARG VERSION=1\nRUN echo $VERSON\n")
    assert [one.rule for one in lowered.advice] == ["UnsetInRun"]
    assert lowered.warnings == ()


@pytest.mark.slow
def test_the_cases_of_conformance_get_none() -> None:
    """Files that are meant as they are: all stages of each."""
    done = 0
    for path in sorted(CASES.glob("*.toml")):
        for name, case in tomllib.loads(path.read_text(encoding="utf-8")).items():
            done += _has_none(case["dockerfile"], dict(case.get("args", {})), name)
    assert done > 400


def test_the_example_files_get_none() -> None:
    root = Path(__file__).resolve().parents[2]
    files = [path for path in root.glob("examples/**/Dockerfile*") if path.is_file()]
    assert files
    for path in files:
        assert _has_none(path.read_text(encoding="utf-8"), {}, str(path))


def _has_none(text: str, args: dict[str, str], name: str) -> bool:
    """Look at all stages of a file; return whether it can be built."""
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64, build_args=args)
    check = FileCheck(text.encode("utf-8", "surrogateescape"), "Dockerfile", options)
    known: dict[ImageRequest, ResolvedImage] = {}
    while isinstance(checked := check.run(known), NeedImages):
        known |= {request: resolve(request, image()) for request in checked.requests}
    said = [one for one in checked.advice if one.rule != "ExecFormQuotes"]  # always deserved
    assert said == [], name
    return checked.error is None
