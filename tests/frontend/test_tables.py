"""The parse tables that lie next to the grammars, and the parser that runs on them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark, Token, UnexpectedInput

from pybuild.frontend.syntax import lalr
from pybuild.frontend.syntax.grammars import compile_tables
from pybuild.frontend.syntax.lalr import Grammar, NoSentence, load_tables
from pybuild.frontend.words.gotext import SPACE

NAMES = ("dockerfile", "expansion")


def text_of(name: str) -> bytes:
    return files("pybuild.grammar").joinpath(name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_of_the_grammar(name: str) -> None:
    """After a change of a grammar: scripts/grammar-tables."""
    assert json.loads(text_of(f"{name}.json")) == compile_tables(text_of(f"{name}.lark"))


@pytest.mark.parametrize("stored", [b"", b"{}", b'{"source": "of another grammar"}'])
def test_tables_of_another_grammar_are_not_used(
    stored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = b'start: A "x"?\nA: /a+/\n'
    monkeypatch.setattr(lalr, "read_file", {"g.json": stored, "g.lark": grammar}.__getitem__)
    assert load_tables("g") == compile_tables(grammar)


@pytest.mark.parametrize(
    ("text", "what"),
    [(b"start: x\n?x: A | A A\nA: /a/\n", "option"), (b'!start: A "b"\nA: /a/\n', "option")],
)
def test_grammars_that_tables_cannot_hold_are_refused(text: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        compile_tables(text)


def lark_itself(escape: str) -> Lark:
    """The grammar of instructions as Lark runs it."""
    text = text_of("dockerfile.lark").decode().replace("⎋", re.escape(escape))
    text = text.replace("␣", "".join(f"\\u{ord(char):04x}" for char in SPACE))
    return Lark(text, parser="lalr", lexer="contextual", maybe_placeholders=False)


PARSERS = {escape: (Grammar("dockerfile", escape), lark_itself(escape)) for escape in "\\`"}
KEYWORDS = ["RUN", "copy", "Env", "LABEL", "FROM", "cmd", "HEALTHCHECK", "ONBUILD", "EXPOSE", "xx"]
PIECES = st.sampled_from(
    [
        " ",
        "\t",
        "\u2003",
        "--a=b",
        "--",
        '--x="y z"',
        "'",
        '"',
        "\\",
        "`",
        "a=b",
        "=",
        "[",
        "]",
        ",",
    ]
    + ['["a", "b"]', "# c", "$x", "<<E", "word", "\u00e9"]
)


@pytest.mark.slow
@given(
    keyword=st.sampled_from(KEYWORDS),
    rest=st.lists(PIECES, max_size=10).map("".join),
    escape=st.sampled_from("\\`"),
)
def test_the_parser_does_what_lark_does(keyword: str, rest: str, escape: str) -> None:
    text = f"{keyword} {rest}".strip(SPACE)
    ours, theirs = PARSERS[escape]
    try:
        tree: Any = theirs.parse(text)  # pyright: ignore[reportUnknownMemberType]
        children: list[Token] = tree.children
        wanted: Any = (tree.data, [(t.type, str(t), t.start_pos) for t in children])
    except UnexpectedInput as error:
        wanted = error.pos_in_stream
    try:
        rule, tokens = ours.parse_text(text, lambda name, parts: (name, parts))
        found: Any = (rule, [(t.type, str(t), t.start) for t in tokens])
    except NoSentence as error:
        found = error.position
    assert found == wanted


@pytest.mark.slow
def test_parsing_does_not_import_lark() -> None:
    code = (
        "import sys\n"
        "from pybuild.frontend.syntax.parse import parse_dockerfile\n"
        "from pybuild.frontend.words.expand import expand\n"
        "parse_dockerfile(b'FROM a\\nRUN --x=${y} z\\n'.replace(b'--x=${y} ', b''))\n"
        "assert expand('${x:-\"1\"}', {}) == '1'\n"
        "sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
