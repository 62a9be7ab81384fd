"""Physical and logical lines, directives, comments and what is wrong with a whole file."""

from __future__ import annotations

import pytest

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.directives import parse_directives
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import split_lines
from pybuild.model.errors import UserError


def body(text: str | bytes) -> tuple[ast.Instruction, ...]:
    """The instructions behind a FROM that is put in front, unless *text* has one."""
    data = text.encode() if isinstance(text, str) else text
    return parse_dockerfile(data if b"FROM" in data else b"FROM a\n" + data).stages[0].body


def shell_text(text: str) -> str:
    run = body(text)[0]
    assert isinstance(run, ast.Run) and run.command.is_shell
    return run.command.args[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN echo a \\\n  b", "echo a   b"),  # E1: what leads a continuation line is kept
        ("RUN echo a \\\n# c\n  b", "echo a   b"),
        ("RUN echo a \\\n\nb", "echo a b"),  # E2
        ("RUN echo a\\\\\n", "echo a\\\\"),  # LEX-4
        ("RUN echo a\\\\\\\n", "echo a\\\\\\"),
        ("RUN echo a \\ \t \nb", "echo a b"),  # E5
        ("\t  RUN x", "x"),  # E10
        ("RUN # not a comment", "# not a comment"),  # E12
        ("RUN a \\", "a"),  # E14
        ("RUN a#b \\\n  #c\nd", "a#b d"),
        ("RUN -- --mount=x", "--mount=x"),  # E16
        ("RUN\t--mount=type=tmpfs,target=/x\tls", "ls"),  # E15
        ("RUN a\r\n", "a"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("\\\nRUN a", "a"),
        ("RUN\\\n a", "a"),
        ("RU\\\nN a", "a"),
        ("RUN a\u00a0\n", "a"),
        ("RUN a\fb", "a\fb"),
    ],
)
def test_lines_are_joined(text: str, expected: str) -> None:
    """[LEX]"""
    assert shell_text(text) == expected


def test_a_blank_line_inside_an_instruction_is_warned_about_once() -> None:
    """[LEX-5, LNT-3, E2]"""
    file = parse_dockerfile(b"FROM a\nRUN a \\\n\n\n  b\nRUN c \\\n # no\n d\n")
    assert [(w.rule, w.span.first_line) for w in file.warnings] == [("NoEmptyContinuation", 5)]


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("# escape=`\nFROM a", "`"),  # E6
        ("# escape=\\\nFROM a", "\\"),
        ("#ESCAPE = `\r\nFROM a", "`"),
        ("  # syntax=x\n\t#\tescape=`\nFROM a", "`"),
        ("\ufeff# escape=`\nFROM a", "`"),
        ("#comment\n# escape=`\nFROM a", "\\"),  # E7
        ("\n# escape=`\nFROM a", "\\"),  # E9
        ("# unknown=x\n# escape=`\nFROM a", "\\"),
        ("FROM a\n# escape=`\n", "\\"),
        ("# escape=\nFROM a", "\\"),
    ],
)
def test_directives_stand_only_at_the_top(text: str, escape: str) -> None:
    """[DIR-1, DIR-2]"""
    assert parse_dockerfile(text.encode()).directives.escape == escape


def test_a_backtick_escape_frees_the_backslash() -> None:
    """[DIR-4, E6]"""
    file = parse_dockerfile(b"# escape=`\nFROM a\nCOPY a c:\\\nRUN x `\n y\n")
    copy, run = file.stages[0].body
    assert isinstance(copy, ast.Copy) and copy.dest == "c:\\"
    assert isinstance(run, ast.Run) and run.command.args == ("x  y",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# syntax=a/b:1\nFROM x", "a/b:1"),
        (b"# syntax = a/b:1 more words \nFROM x", "a/b:1 more words"),
        (b"#!/bin/x\n# syntax=a\n", "a"),
        (b"#!/bin/x\n// syntax=a\n", "a"),
        (b"// syntax=a\nFROM x", "a"),
        (b"FROM x\n# syntax=a\n", None),
        (b"\xef\xbb\xbf# syntax=a", "a"),
        (b"# syntax=\xff", "\ufffd"),
        (b"", None),
    ],
)
def test_a_frontend_is_found_behind_either_sign(text: bytes, expected: str | None) -> None:
    """[DIR-5]"""
    assert parse_directives(split_lines(text))[0].syntax == expected


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (b"", "the Dockerfile cannot be empty", None),  # IN-4
        (b"\n# x\n\n", "file with no instructions", 3),
        (b"\\\n\\\n", "file with no instructions", 2),
        (b"ARG a\nARG b=1\n", "dockerfile contains no stages to build", 2),
        (b"ARG a\nRUN x\nFROM y\n", "no build stage in current context", 2),
        (
            b"# escape=\\\n# ESCAPE=\\\nFROM a",  # E8, DIR-3
            "dockerfile parse error on line 2: only one escape parser directive can be used",
            2,
        ),
        (
            b"# escape=x\nFROM a",
            "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\",
            1,
        ),
        (
            b"FROM a\n\nFNTRYPOINT x\n",  # IN-6
            (
                "dockerfile parse error on line 3: "
                "unknown instruction: FNTRYPOINT (did you mean ENTRYPOINT?)"
            ),
            3,
        ),
        (
            b"FROM a\nrum x",
            "dockerfile parse error on line 2: unknown instruction: rum (did you mean run?)",
            2,
        ),
        (b"FROM a\nRUNx", "dockerfile parse error on line 2: unknown instruction: RUNx", 2),
        (b"FROM a\n\xe2\x98\x83 x", "dockerfile parse error on line 2: unknown instruction: ☃", 2),
        (
            b"FROM a\nRUN a \\\n b <<EOF\nc\nEOF \n",  # HD-3, HD-4: not quite the delimiter
            "dockerfile parse error on line 2: unterminated heredoc",
            2,
        ),
        (
            b"FROM a\n# " + b"x" * 65534,  # IN-3
            (
                "dockerfile parse error on line 2: "
                "dockerfile line greater than max allowed size of 65535"
            ),
            2,
        ),
        (
            b"FROM a\nRUN caf\xe9\n",
            "dockerfile parse error on line 2: the file is not UTF-8: byte 0xe9",
            2,
        ),
        (
            b"FROM a\nCOPY <<E /x\nok\n\xff\nE\n",
            "dockerfile parse error on line 3: the file is not UTF-8: byte 0xff",
            3,
        ),
        (
            b"FROM a\nRUN a\0b",
            "dockerfile parse error on line 2: NUL character in an instruction",
            2,
        ),
        (
            b"FROM a\nRUN <<E\n\0\nE",
            "dockerfile parse error on line 2: NUL character in a heredoc of RUN",
            2,
        ),
        (
            b"FROM a AS x\nFROM b\nFROM c\nCOPY x\nFROM x",  # E101, IN-7
            (
                "dockerfile parse error on line 4: COPY requires at least two arguments, "
                "but only one was provided. Destination could not be determined"
            ),
            4,
        ),
    ],
)
def test_faults_name_their_line(text: bytes, message: str, line: int | None) -> None:
    """[IN-3..7]"""
    with pytest.raises(UserError) as caught:
        parse_dockerfile(text, "sub/Dockerfile")
    assert caught.value.message.startswith(message)
    assert [span.first_line for span in caught.value.spans] == ([line] if line else [])
    assert all(span.file == "sub/Dockerfile" for span in caught.value.spans)


def test_a_long_fault_spans_all_of_its_lines() -> None:
    with pytest.raises(UserError) as caught:
        parse_dockerfile(b"FROM a\nCOPY \\\n\\\n# x\n a\nRUN x")
    assert (caught.value.spans[0].first_line, caught.value.spans[0].last_line) == (2, 5)


def test_a_line_of_the_greatest_size_is_fine() -> None:
    """[IN-3]"""
    assert shell_text("RUN " + "x" * (65535 - 4)) == "x" * (65535 - 4)


def test_comments_may_hold_any_bytes() -> None:
    file = parse_dockerfile(b"# caf\xe9\0\nFROM a\n")
    assert file.stages[0].start.comments == ("caf\ufffd\0",)
    assert tuple(file.lines) == ("# caf\ufffd\0", "FROM a")


def test_comment_blocks_go_to_the_instruction_below() -> None:
    """[LEX-8]: blank lines do not part them, a bare ``#`` does."""
    run, after = body("# a\n#\n# b\n\n  #  c d \nRUN x\nRUN y")
    assert run.comments == ("b", "c d")
    assert after.comments == ()


def test_spans_cover_continuations_and_bodies() -> None:
    file = parse_dockerfile(b"\nFROM a\nRUN x \\\n\n y\nCOPY <<E /x\n1\n2\nE\nUSER z")
    spans = [(i.span.first_line, i.span.last_line) for i in file.stages[0].body]
    assert spans == [(3, 5), (6, 9), (10, 10)]


def test_args_before_the_first_stage_are_global() -> None:
    file = parse_dockerfile(b"ARG a=1 b\narg c\nFROM x\nARG d\nFROM y AS Z\nRUN x")
    assert [item.name for arg in file.global_args for item in arg.items] == ["a", "b", "c"]
    assert [(s.index, s.start.name, len(s.body)) for s in file.stages] == [(0, "", 1), (1, "z", 1)]
