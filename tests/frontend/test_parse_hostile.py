"""Text that nobody would write by hand: an answer or a clear error, and soon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.frontend.globs import Glob
from pybuild.frontend.ignore import parse_ignore
from pybuild.frontend.syntax.parse import parse_dockerfile, parse_instruction
from pybuild.frontend.words.expand import expand, expand_heredoc, expand_words
from pybuild.model.errors import UserError
from pybuild.model.span import Span
from tests import watchdog

_FRAGMENTS = st.sampled_from(
    [
        "FROM a",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "CMD ",
        "SHELL ",
        "HEALTHCHECK ",
        "ONBUILD ",
        "VOLUME ",
        "EXPOSE ",
        "USER ",
        "--x=",
        "--mount=",
        "--",
        "<<",
        "<<-",
        "EOF",
        "EOF\n",
        "\n",
        "\r\n",
        "\\\n",
        "\\",
        "`",
        "'",
        '"',
        "$",
        "${",
        "}",
        ":-",
        "#",
        "##",
        "%",
        "/",
        "[",
        "]",
        ",",
        "[",
        '"a"',
        "=",
        "a",
        "b c",
        "NONE",
        "CMD",
        "# escape=`\n",
        "# syntax=x\n",
        "\t",
        " ",
        "\x00",
        "\x85",
        "\xa0",
        "\x1c",
        "\u2028",
        "é",
        "1",
    ]
)
_TEXTS = st.lists(_FRAGMENTS, max_size=25).map("".join)


def _quietly(function: Callable[[], object]) -> None:
    try:
        function()
    except UserError as error:
        assert error.message


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_any_bytes_are_a_dockerfile_or_an_error(data: bytes) -> None:
    _quietly(lambda: parse_dockerfile(data))
    _quietly(lambda: parse_dockerfile(b"FROM a\n" + data))
    _quietly(lambda: parse_ignore(data))


@pytest.mark.slow
@given(_TEXTS)
def test_any_text_of_the_language_parses_or_errs(text: str) -> None:
    _quietly(lambda: parse_dockerfile(b"FROM a\n" + text.encode()))
    _quietly(lambda: parse_instruction(text, Span("x", 1, 1)))


@pytest.mark.slow
@given(_TEXTS, st.sampled_from(["\\", "`"]))
def test_any_text_expands_or_errs(text: str, escape: str) -> None:
    env = {"a": "x*y", "b": "", "é": "$a"}
    _quietly(lambda: expand(text, env, escape=escape))
    _quietly(lambda: expand_words(text, env, escape=escape, keep_quotes=True, keep_escapes=True))
    _quietly(lambda: expand_heredoc(text, env))


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10), st.booleans())
def test_prefixes_and_suffixes_mirror_each_other(pattern: str, value: str, longest: bool) -> None:
    left = Glob.parse(pattern).without_prefix(value, longest=longest)
    right = Glob.parse(pattern[::-1]).without_suffix(value[::-1], longest=longest)
    assert left == right[::-1]
    assert value.endswith(left)


@given(st.text("ab'\"$ \\{}", max_size=20))
def test_quoting_makes_any_text_literal(text: str) -> None:
    quoted = "".join("\\" + char for char in text)
    assert expand(quoted, {"a": "no"}) == text


def _soon(function: Callable[[], object]) -> None:
    with watchdog.ends():
        _quietly(function)


def _file(text: bytes) -> Callable[[], object]:
    return lambda: parse_dockerfile(b"FROM a\n" + text)


MIB = 1024 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"RUN echo hello\n" * (10 * MIB // 15), id="10 MB of instructions"),
        pytest.param(b"# echo hello\n" * (10 * MIB // 13), id="10 MB of comments"),
        pytest.param(b"RUN <<E\n" + b"hello\n" * 900_000 + b"E\n", id="a long heredoc"),
        pytest.param(b"RUN <<E\n" + b"hello\n" * 900_000, id="a long open heredoc"),
        pytest.param(b"\n" * 10 * MIB, id="10 MB of line ends"),
        pytest.param(b"RUN " + b"x" * 10 * MIB, id="one line of 10 MB"),
        pytest.param(b"RUN a \\\n" + b" && b \\\n" * 100_000, id="100,000 continuations"),
        pytest.param(b"ENV \\\n" + b" a=b \\\n" * 100_000, id="100,000 pairs"),
        pytest.param(b"COPY \\\n" + b" a \\\n" * 200_000, id="200,000 words"),
        pytest.param((b"RUN " + b"<" * 60_000 + b"\n") * 170, id="10 MB of <"),
        pytest.param(b"RUN " + b"<<a " * 15_000 + b"\n" + b"a\n" * 15_000, id="15,000 heredocs"),
        pytest.param(b"ENV a=" + b"\"'" * 29_000, id="quotes"),
        pytest.param(b"CMD " + b"[" * 60_000, id="brackets"),
        pytest.param(b"CMD [" + b'"a",' * 15_000 + b"1]", id="a long list with a number"),
        pytest.param(b"CMD [" + b"9" * 60_000 + b"]", id="a long number"),
        pytest.param(b"ONBUILD " * 7_000, id="chained triggers"),
        pytest.param(b"RUN --" + b"'\\" * 30_000, id="flag quotes"),
        pytest.param(b"A" * 60_000, id="a long keyword"),
    ],
)
def test_huge_files_do_not_keep_anybody_busy(text: bytes) -> None:
    _soon(_file(text))


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["${a:-", '"${a:-', "${a#", "${a/b/", "${a/"])
def test_depth_costs_no_stack(unit: str) -> None:
    closing = {"${a/": "/x}"}.get(unit, '}"' if unit[0] == '"' else "}")
    count = 8_000
    _soon(lambda: expand(unit * count + "x" + closing * count, {"a": ""}))
    _soon(lambda: expand(unit * count, {}))
    _soon(_file(b"RUN <<" + (unit * count).encode()))


@pytest.mark.slow
def test_deep_defaults_give_the_innermost_word() -> None:
    assert expand("${a:-" * 3_000 + "x" + "}" * 3_000, {}) == "x"


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "/", "//"])
def test_stars_do_not_backtrack(operator: str) -> None:
    pattern = "a*" * 50 + "b"
    _soon(
        lambda: expand(
            f"${{x{operator}{pattern}{'/y' if '/' in operator else ''}}}", {"x": "a" * 20_000}
        )
    )


def test_doubling_ends_somewhere() -> None:
    env = {"x": "x" * MIB}
    with pytest.raises(UserError, match="expansion is longer than"):
        expand("$x" * 100, env)
    with pytest.raises(UserError, match="expansion is longer than"):
        expand("${x//x/$x}", env)


def test_importing_the_parser_does_not_import_lark() -> None:
    """A build whose front end is remembered must not pay for it."""
    code = (
        "import sys, pybuild.frontend.syntax.parse, pybuild.frontend.words.expand, pybuild.frontend.ignore;"
        "from pybuild.frontend.words.expand import expand; expand('plain', {});"
        "sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
