"""Hints that stand under a fault of a Dockerfile: the nearest thing that could have been meant [IN-6]."""

from __future__ import annotations

import pytest

from pybuild.frontend.syntax import parse
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from tests.frontend.lowering import build


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "FROM a\n<<<<<<< HEAD\nRUN x\n",
            "a merge was not finished here: keep one side, and take the marks out",
        ),
        ("```dockerfile\nFROM a\n```\n", "take the fences of Markdown out"),
        ("services:\n", "this looks like YAML: name the Dockerfile with -f"),
        ("\n\ngreetings to you all\n", "a Dockerfile begins with FROM image"),
        ("FROM a\nRUN make\n\n  install\n", "if line 2 goes on here, end it with \\"),
        ("FROM a\nRUN make\n--all\n", "if line 2 goes on here, end it with \\"),
        ("FROM a\nRUN ls\n-1\n", "if line 2 goes on here, end it with \\"),
        ("FROM a\nRUN make &&\nINSTALL it\n", "if line 2 goes on here, end it with \\"),
        ("FROM a\nENV A=\u201cb c\u201d\n", 'write straight quotes: ENV A="b c"'),
        ("FROM a as\n", "name the stage: FROM a AS NAME"),
        ("FROM a 3\n", "a tag stands behind a colon: FROM a:3"),
        ("FROM a AS b c\n", "a stage's name is one word: AS b-c"),
        ("FROM a\nENV A\n", "give it a value: ENV A=value"),
        ("FROM a\nCOPY x\n", "say where to: COPY x ./"),
        ("FROM a\nRUN <<EOF\nx\n", "end it with a line that is EOF and nothing else"),
        (
            "FROM a\nRUN <<EOF\nx\n  EOF\n",
            "EOF ends it only at the start of a line, nothing else may stand there: see line 4",
        ),
        (
            "FROM a\nRUN <<-EOF\nx\n  EOF\n",
            "EOF ends it only at the start of a line, tabs alone may stand before it: see line 4",
        ),
    ],
)
def test_a_line_that_cannot_be_read_has_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_dockerfile(text.encode())
    assert caught.value.hints == (hint,)


@pytest.mark.parametrize("text", ["FROM a\nFOO bar\n", "FROM a\nRUN x\nservices: y\n"])
def test_a_word_that_nothing_is_like_has_no_made_up_hint(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_dockerfile(text.encode())
    assert not any("YAML" in hint for hint in caught.value.hints)
    assert "FROM image" not in "".join(caught.value.hints)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "$BASE",
            "FROM knows ARGs before the first FROM alone: ARG BASE=image, or --build-arg BASE=",
        ),
        (
            "a:$TAG",
            "FROM knows ARGs before the first FROM alone: ARG TAG=image, or --build-arg TAG=",
        ),
        ("https://x.example/a", "write it without https://"),
        ("Alpine", "write it in lower case: alpine"),
        (
            "a@sha256:1",
            "a digest is sha256: and 64 digits; pybuild imagetools inspect NAME shows it",
        ),
        ("./a.tar", "for an archive: pybuild load -i ./a.tar, and FROM the name that it prints"),
    ],
)
def test_a_base_that_is_no_image_has_the_way_to_one(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f"FROM {name}\n")
    assert hint in caught.value.hints


@pytest.mark.parametrize(
    ("bound", "text", "message"),
    [
        ("MAX_BYTES", "FROM a\n", "the Dockerfile is larger than 6 bytes"),
        ("MAX_LINES", "FROM a\n" + 6 * "#\n", "the Dockerfile has more than 6 lines"),
        (
            "MAX_INSTRUCTIONS",
            "FROM a\n" + 6 * "USER b\n",
            "dockerfile parse error on line 7: more than 6 instructions",
        ),
        (
            "MAX_WORDS",
            "FROM a\nENV A=1 B=2 C=3 D=4\n",
            "dockerfile parse error on line 2: more than 6 words in one Dockerfile",
        ),
    ],
)
def test_a_file_without_measure_is_refused_and_the_largest_that_may_be_is_not(
    bound: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, bound, 6)
    with pytest.raises(UserError) as caught:
        parse_dockerfile(text.encode())
    assert caught.value.message == message
    monkeypatch.setattr(parse, bound, 7)
    parse_dockerfile(text.encode())
