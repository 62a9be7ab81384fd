"""Meanings of SOURCE_DATE_EPOCH: numbers, contexts, stages [REP-1]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lowering.epoch import EpochSource, epoch_source
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    FileOp,
    GitSource,
    HttpSource,
    LocalSource,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from tests.frontend.lowering import build, env_of, execs, texts

NAME = "SOURCE_DATE_EPOCH"
TAIL = f"\nFROM a\nARG {NAME}\nRUN x\n"
URL = "http://h/src.tar"


def asked(text: str, **options: Any) -> EpochSource | None:
    dockerfile = parse_dockerfile(text.encode())
    options = {"target_platform": LINUX_AMD64, "build_platform": LINUX_AMD64, **options}
    return epoch_source(dockerfile, LowerOptions(**options))


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("FROM a\n", {}),
        (f"ARG {NAME}=7\nFROM a\n", {}),
        (f"ARG {NAME}=context\nFROM a\n", {NAME: "7"}),
        (f"ARG {NAME}=context\nFROM a\n", {NAME: ""}),
        (f"FROM a\nARG {NAME}=word\n", {}),
    ],
)
def test_nothing_is_asked_for_numbers(text: str, args: dict[str, str]) -> None:
    """REP-1: a stage's own default is a variable like any other."""
    assert asked(text, build_args=args) is None


@pytest.mark.parametrize("text", ["007", "+7"])
def test_numbers_are_seen_as_they_are_used(text: str) -> None:
    lowered = build(f"ARG {NAME}={text}{TAIL}")
    assert (lowered.epoch, env_of(execs(lowered)[0])[NAME]) == (7, "7")


def test_build_arg_replaces_the_default_and_can_take_it_away() -> None:
    """REP-1."""
    text = f"ARG {NAME}=7{TAIL}"
    given = build(text, build_args={NAME: "9"})
    assert (given.epoch, env_of(execs(given)[0])[NAME]) == (9, "9")
    reset = build(text, build_args={NAME: ""})
    assert (reset.epoch, env_of(execs(reset)[0])[NAME]) == (None, "")


def test_context_stands_for_its_one_source() -> None:
    """REP-1: the archive of a URL, a repository; a directory of the client has no time."""
    http = Vertex(HttpSource(url=URL, filename="context"))
    copy = Copy(input=1, source="/context", dest="/", unpack=True)
    unpacked = Vertex(FileOp(actions=(copy,)), (Vertex(ScratchSource()), http))
    git = Vertex(GitSource(remote="https://h/x.git"))
    args = {NAME: "context"}
    found = asked("FROM a\n", build_args=args, context=unpacked)
    assert found == EpochSource(
        "context", HttpSource(url=URL, filename="context"), found.title if found else ""
    )
    found = asked("FROM a\n", build_args=args, context=git)
    assert found is not None and found.op is git.op
    for context in (None, Vertex(LocalSource(name="context"))):
        assert asked("FROM a\n", build_args=args, context=context) is None
    both = Vertex(FileOp(actions=(copy,)), (git, http))
    assert asked("FROM a\n", build_args=args, context=both) is None


def test_named_context_comes_before_a_stage() -> None:
    """REP-1."""
    text = f"ARG {NAME}=src\nFROM scratch AS src\nADD http://h/other /\nFROM a\n"
    found = asked(text, named_contexts={"src": URL})
    assert found is not None and isinstance(found.op, HttpSource) and found.op.url == URL
    found = asked(text, named_contexts={"src": "https://h/x.git#v1"})
    assert found is not None and isinstance(found.op, GitSource) and found.op.ref == "v1"
    for value in ("docker-image://b", "./dir"):
        assert asked(text, named_contexts={"src": value}) is None


def test_stage_is_read_for_its_one_add() -> None:
    """REP-1: variables are filled in, and the word's case does not matter."""
    text = f"ARG {NAME}=SRC\nARG H=h\nFROM scratch AS src\nARG H\nARG F=f\n"
    found = asked(f"{text}ADD http://$H/$F /\nFROM a\n", build_args={"F": "g"})
    assert found is not None and isinstance(found.op, HttpSource)
    assert (found.word, found.op.url, found.op.filename) == ("SRC", "http://h/g", "g")
    found = asked(f"{text}ADD https://$H/$F.git#main /\nFROM a\n")
    assert found is not None and isinstance(found.op, GitSource) and found.op.ref == "main"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("FROM b AS s\nADD http://h/a /", "stage must use FROM scratch"),
        ("FROM scratch AS s\nARG X=1", "must contain exactly one remote ADD$"),
        ("FROM scratch AS s\nADD http://h/a /\nADD http://h/b /", "exactly one remote ADD$"),
        ("FROM scratch AS s\nADD http://h/a http://h/b /", "exactly one remote ADD source"),
        ("FROM scratch AS s\nADD <<x /\nx", "exactly one remote ADD source"),
        ("FROM scratch AS s\nADD file /", r"must be a single HTTP\(S\) or Git ADD"),
        (
            "FROM scratch AS s\nCOPY Dockerfile /",
            "does not meet source-only requirements: unsupported COPY instruction",
        ),
        ("FROM scratch AS other\nADD http://h/a /", "invalid SOURCE_DATE_EPOCH: s$"),
    ],
)
def test_stage_that_has_no_time(stage: str, message: str) -> None:
    """REP-1."""
    with pytest.raises(UserError, match=message):
        asked(f"ARG {NAME}=s\n{stage}\nFROM scratch\n")
    with pytest.raises(UserError, match=message):
        build(f"ARG {NAME}=s\n{stage}\nFROM scratch\n")


@pytest.mark.parametrize("args", [{}, {NAME: "src"}])
@pytest.mark.parametrize("when", [5, None])
def test_answer_takes_the_place_of_the_word(args: dict[str, str], when: int | None) -> None:
    """REP-2: steps that declare it see the number, or nothing where there is none."""
    text = f"ARG {NAME}=src\nFROM scratch AS src\nADD {URL} /{TAIL}"
    lowered = build(text, build_args=args, epochs={"src": when})
    assert lowered.epoch == when
    assert env_of(execs(lowered)[0])[NAME] == ("" if when is None else "5")
    assert f"|1 {NAME}=" + ("" if when is None else "5") in texts(lowered)[-1]
