"""Ignore files; what the patterns match is in test_patterns."""

from __future__ import annotations

import pytest

from pybuild.frontend.ignore import MAX_WILDCARD_CHARS, parse_ignore
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ()),
        (b"/foo/\nfoo\n./foo\r\na/../foo\n", ("foo",) * 4),  # E205
        (b"# a\n # x\n\n\t\n", ("# x",)),  # E206
        (b"\xef\xbb\xbf# a\n*.md", ("*.md",)),
        (b"! /a/b/ \n!./c", ("!a/b", "!c")),
        (b"foo\\ bar\n[ab]c?\n", ("foo\\ bar", "[ab]c?")),  # E210
        (b"\\!x\n\\#x", ("\\!x", "\\#x")),
        (b"/\n.\n..", ("/", ".", "..")),
        (b"a b  ", ("a b",)),
        (b"caf\xe9", ("caf\udce9",)),
    ],
)
def test_lines_are_cleaned(data: bytes, expected: tuple[str, ...]) -> None:
    """[IGN-3]"""
    assert parse_ignore(data) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n!\n", 'ignore file line 2: illegal exclusion pattern: "!"'),  # E209
        (b"[a", "ignore file line 1: syntax error in pattern: '[a'"),  # IGN-7
        (b"# x\na\\", "ignore file line 2: syntax error in pattern: 'a\\\\'"),
    ],
)
def test_malformed_lines_are_named(data: bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_ignore(data)
    assert caught.value.message == message


def test_the_allow_list_idiom() -> None:
    """[IGN-8, E202]"""
    matcher = PatternMatcher(parse_ignore(b"*\n!src\n!/docs/*.md\n"))
    kept = ["src", "src/a", "docs/a.md"]
    assert [
        path for path in [*kept, "docs", "x/src", "docs/a.txt"] if not matcher.matches(path)
    ] == kept
    assert matcher.can_skip_dir("node_modules") and not matcher.can_skip_dir("docs")


def test_nothing_useful_excludes_nothing() -> None:
    assert not PatternMatcher(parse_ignore(b".\n/\n..\n")).matches("a")


def test_patterns_with_wildcards_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are matched against each name of a context, whoever wrote them."""
    assert MAX_WILDCARD_CHARS == 256 * 1024
    monkeypatch.setattr("pybuild.frontend.ignore.MAX_WILDCARD_CHARS", 4096)
    line = "*" + "a" * 1023
    most = 4
    assert len(parse_ignore("\n".join([line] * most).encode())) == most
    with pytest.raises(UserError) as caught:
        parse_ignore("\n".join([line] * most + ["b*"]).encode())
    assert caught.value.message == (
        f"ignore file line {most + 1}: more than 4096 characters of patterns with wildcards"
    )
    assert len(parse_ignore("\n".join([line] * most + ["plain" * 300]).encode())) == most + 1
