"""Questions about a file whose images cannot be had: they are answered as far as can be."""

from __future__ import annotations

import json

import pytest

from pybuild.frontend.lowering.interface import LowerOptions, NeedImages, ResolvedImage
from pybuild.frontend.question import FileAnswer, FileQuestion, Question
from pybuild.model.errors import EnvironmentFault, PybuildError
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
