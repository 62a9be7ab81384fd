"""Questions about a file whose images cannot be had: they are answered as far as can be."""

from __future__ import annotations

import json

import pytest

from pybuild.frontend.lowering.interface import LowerOptions, NeedImages, ResolvedImage
from pybuild.frontend.question import FileAnswer, FileQuestion, Question, parse_call
from pybuild.frontend.syntax.directives import syntax_of
from pybuild.frontend.syntax.physical import split_lines
from pybuild.model.errors import EnvironmentFault, PybuildError, UsageError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.span import Span

TEXT = b"FROM here\nFROM gone AS last\nMAINTAINER me\nARG a=1\n"


def answer(question: Question, text: bytes = TEXT) -> FileAnswer:
    """Answer where the image "here" is known and all others are out of reach."""
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    file = FileQuestion(question, text, "Built", options)
    while isinstance(given := file.run(), NeedImages):
        fault = EnvironmentFault("no route to host", hints=["find one"])
        file.add(
            given,
            {
                request: ResolvedImage.unknown(request)
                if request.reference.familiar == "here:latest"
                else fault
                for request in given.requests
            },
        )
    return given


def test_a_check_says_which_image_is_missing_and_goes_on() -> None:
    checked = answer(Question.CHECK, TEXT.replace(b"FROM here\n", b""))
    assert checked.error is not None and not checked.is_clean
    assert checked.error.message == "gone:latest: no route to host"
    assert list(checked.error.spans) == [Span("Built", 1, 1)]
    assert checked.error.hints == ("find one",)
    assert checked.error.sources["Built"][0] == "FROM gone AS last"
    assert "MaintainerDeprecated" in checked.text
    assert json.loads(checked.json)["buildError"] == {
        "message": "gone:latest: no route to host",
        "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
        "hints": ["find one"],
    }


@pytest.mark.parametrize(
    ("question", "text"),
    [(Question.OUTLINE, "a           1"), (Question.TARGETS, "last (default)")],
)
def test_other_questions_need_it_as_little(question: Question, text: str) -> None:
    given = answer(question)
    assert text in given.text and given.is_clean and given.error is None
    assert json.loads(given.json)


@pytest.mark.parametrize("question", [Question.OUTLINE, Question.TARGETS])
def test_a_file_that_cannot_be_read_is_an_error(question: Question) -> None:
    with pytest.raises(PybuildError, match="unknown instruction"):
        answer(question, b"FROM scratch\nRUNN x\n")
    assert answer(Question.CHECK, b"FROM scratch\nRUNN x\n").error is not None


@pytest.mark.parametrize(
    ("text", "is_check", "question", "json_wanted", "ignore"),
    [
        ("", False, None, False, False),
        ("build", False, None, False, False),
        ("", True, "check", False, False),
        ("check", True, "check", False, False),
        ("check,format=json", False, "check", True, False),
        ("check,format=json,format=text", False, "check", False, False),
        ("outline,ignorestatus", False, "outline", False, True),
        ("targets,ignorestatus=1", False, "targets", False, True),
        ("targets,ignorestatus=true", False, "targets", False, True),
        ("targets,ignorestatus,ignorestatus=false", False, "targets", False, False),
        ("targets,ignorestatus=0", False, "targets", False, False),
        (",format=json", False, None, True, False),
    ],
)
def test_calls_as_people_write_them(
    text: str, is_check: bool, question: str | None, json_wanted: bool, ignore: bool
) -> None:
    call = parse_call(text, is_check=is_check)
    assert call.question == (None if question is None else Question(question))
    assert (call.json, call.ignore_status) == (json_wanted, ignore)


@pytest.mark.parametrize(
    ("text", "is_check", "message"),
    [
        ("outline", True, "--check is --call=check, and cannot go with --call=outline"),
        ("print", False, 'invalid call "print": one of build, '),
        ("check,format=xml", False, 'invalid call option "format=xml": one of format=json, '),
        ("check,ignorestatus=2", False, 'invalid call option "ignorestatus=2": one of '),
        ("check,", False, 'invalid call option "": one of '),
    ],
)
def test_a_call_that_there_is_not(text: str, is_check: bool, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_call(text, is_check=is_check)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "frontend"),
    [
        (b'{"syntax": "a/b:1", "x": 2}\nmore', "a/b:1"),
        (b'\n  {"syntax":\n"a/b:1"}', "a/b:1"),
        (b'{"syntax": ""}', None),
        (b'{"syntax": 1}', None),
        (b'{"other": "a"}', None),
        (b'{"syntax": "a"', None),
        (b'["syntax"]', None),
        (b"", None),
    ],
)
def test_a_frontend_is_named_by_an_object_that_a_file_begins_with(
    text: bytes, frontend: str | None
) -> None:
    assert syntax_of(split_lines(text)) == frontend
