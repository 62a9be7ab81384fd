"""The one way in which texts are true or false: Go's, as BuildKit and docker read them."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UsageError
from pybuild.model.text import boolean, switch
from tests.harness import ROOT
from tests.test_style import PLACES


def test_a_text_is_true_false_or_neither() -> None:
    assert [boolean(text) for text in ("1", "t", "T", "TRUE", "true", "True")] == [True] * 6
    assert [boolean(text) for text in ("0", "f", "F", "FALSE", "false", "False")] == [False] * 6
    assert [boolean(text) for text in ("", "yes", "on", "tRUE", "2", " true")] == [None] * 6


def test_a_switch_may_be_absent_and_is_in_any_case() -> None:
    given = {"a": "TruE", "b": "f", "c": "yes"}
    assert [switch(given, name, True, "x") for name in ("a", "b", "d")] == [True, False, True]
    with pytest.raises(UsageError, match='x attribute c="yes": expected true or false'):
        switch(given, "c", True, "x")


def test_no_other_list_of_such_words_is_written_down() -> None:
    sources = [path for place in PLACES for path in (ROOT / place).rglob("*.py")]
    words = ('"t", "T"', '"TRUE"')
    copies = {
        str(path.relative_to(ROOT))
        for path in sources
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert {copy.removeprefix("pybuild/") for copy in copies} == {"model/text.py"}
