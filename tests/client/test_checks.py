"""A server's answers about a file: whoever wrote them, they are shown as those of this process."""

from __future__ import annotations

import base64
import json

import pytest

from pybuild.client.checks import answer_of
from pybuild.frontend.question import Question
from pybuild.model.errors import EnvironmentFault
from pybuild.model.span import Span

TEXT = b"FROM scratch AS Base\nRUN x\n"
WHERE = {"sourceIndex": 0, "ranges": [{"start": {"line": 1}, "end": {"line": 1}}]}


def document(**more: object) -> dict[str, bytes]:
    source = {"filename": "Dockerfile", "data": base64.b64encode(TEXT).decode()}
    return {"result.json": json.dumps({"sources": [source], **more}).encode()}


def warning(rule: str) -> dict[str, object]:
    return {
        "ruleName": rule,
        "description": "theirs",
        "url": "https://example.com/rule",
        "detail": "mend it",
        "location": WHERE,
    }


def test_rules_that_we_have_are_told_in_our_words_and_others_in_theirs() -> None:
    given = document(warnings=[warning("StageNameCasing"), warning("OfTomorrow")])
    answer = answer_of(Question.CHECK, given, {"Dockerfile": "sub/Built"})
    assert not answer.is_clean and answer.error is None
    assert (
        "WARNING: StageNameCasing - pybuild lint --explain StageNameCasing\nmend it" in answer.text
    )
    assert "WARNING: OfTomorrow - https://example.com/rule\nmend it\nsub/Built:1" in answer.text
    ours, theirs = json.loads(answer.json)["warnings"]
    assert ours["description"] != "theirs" == theirs["description"]


def test_an_error_has_its_lines_and_its_way_out() -> None:
    given = document(buildError={"message": "no", "location": WHERE, "hints": ["yes"]})
    error = answer_of(Question.CHECK, given, {"Dockerfile": "Built"}).error
    assert error is not None and (error.message, error.hints) == ("no", ("yes",))
    assert list(error.spans) == [Span("Built", 1, 1)]
    assert error.sources["Built"][0] == "FROM scratch AS Base"


def test_texts_end_with_a_line_end() -> None:
    answer = answer_of(Question.TARGETS, {"result.txt": b"TARGET", "result.json": b"{}\n"}, {})
    assert (answer.text, answer.json, answer.is_clean) == ("TARGET\n", "{}\n", True)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"warnings": [3]}', b'{"sources": [{"data": "a"}]}', b'{"sources": 7}']
)
def test_an_answer_that_is_none_is_a_fault_of_the_server(data: bytes) -> None:
    with pytest.raises(EnvironmentFault, match="the server's answer to a check"):
        answer_of(Question.CHECK, {"result.json": data}, {})
