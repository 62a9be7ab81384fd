"""Word expansion."""

from __future__ import annotations

import pytest

from pybuild.frontend.words.expand import expand, expand_heredoc, expand_words
from pybuild.frontend.words.gotext import quote
from pybuild.model.errors import UserError
from tests import watchdog

PATH = "/a/b.tar.gz"


@pytest.mark.parametrize(
    ("env", "word", "expected"),
    [
        ({}, "$x", ""),  # E60
        ({}, "${x}", ""),
        ({"x": "v"}, "\\$x", "$x"),  # E61
        ({"x": "v"}, "'$x'", "$x"),
        ({"x": "v"}, '"\\$x"', "$x"),
        ({"x": "v"}, '"a\\b$x"', "a\\bv"),  # E62
        ({"x": "v"}, "a\\b", "ab"),  # E63
        ({"x": ""}, "${x-d}", ""),  # E64
        ({"x": ""}, "${x:-d}", "d"),
        ({"x": ""}, "${x+d}", "d"),  # E65
        ({"x": ""}, "${x:+d}", ""),
        ({"y": "z"}, "${x:-${y}q}", "zq"),  # E66
        ({"x": PATH}, "${x##*/}", "b.tar.gz"),  # E68
        ({"x": PATH}, "${x#*/}", "a/b.tar.gz"),
        ({"x": PATH}, "${x%.*}", "/a/b.tar"),
        ({"x": PATH}, "${x%%.*}", "/a/b"),
        ({"x": "xxyy"}, "${x#*x*y}", "y"),  # E69
        ({"x": "xxyy"}, "${x##*x*y}", ""),
        ({"x": "a***yy*"}, "${x%%\\**\\*}", "a"),  # E70
        ({"x": "a.b.c"}, "${x/./-}", "a-b.c"),  # E71
        ({"x": "a.b.c"}, "${x//./-}", "a-b-c"),
        ({"x": "aXbXc"}, "${x/X*X/_}", "a_c"),  # E72
        ({"x": "a/b"}, "${x/\\//-}", "a-b"),  # E73
        ({}, "$.", "$."),  # E75
        ({}, "$", "$"),
        ({}, "a$", "a$"),
        ({}, "$$", ""),  # E76
        ({"TARGETVARIANT": "v7"}, "a${TARGETVARIANT:+-$TARGETVARIANT}", "a-v7"),  # E77
        ({"x": "v"}, "$xy", ""),  # E79
        ({"x": "v"}, "${x}y", "vy"),
        ({"x": "a  b"}, "$x", "a  b"),  # E80
        ({}, "a\\", "a"),
        ({}, "''\"\"", ""),
        ({"x": "a"}, "\"'$x'\"", "'a'"),
        ({"größe": "1"}, "$größe.", "1."),  # EXP-6
        ({}, "$1a$@b${#}c", "abc"),
        ({"x": "v"}, "${x:?}", "v"),
        ({"x": ""}, "${x?}", ""),
        ({"x": "a}b"}, "${x%\\}b}", "a"),
        ({"x": "abc"}, '${x#"a*"b}', "c"),
        ({"x": "aab", "p": "a*"}, "${x##$p}", ""),
        ({"x": "$1.$1"}, "${x//./$y\\$0}", "$1\\$0$1"),  # EXP-21: no back references
        ({"x": "abc"}, "${x///-}", "-a-b-c-"),
        ({"x": "abc"}, "${x/*/-}", "-"),
        ({"x": "abc"}, "${x//*/-}", "-"),
        ({"x": "aXbXc"}, "${x//?X/_}", "__c"),
        ({"x": "[ab]"}, "${x#[}", "ab]"),  # EXP-13: no classes
        ({"x": "a\nb"}, "${x#*b}", ""),
        ({"x": "v"}, "${x-it's}'", "v"),  # a quote may hold the brace
        ({}, "${x:-{}}", "{}"),
        ({}, '${x:-"}"}', "}"),
        ({}, "${x:-a'}'b}", "a}b"),
        ({}, "${x:-\\}}", "}"),
        ({}, '"${x:-"a b"}"', "a b"),
        ({"a": "1", "b": "2"}, "$a${b}'$a'\"$b\"", "12$a2"),
    ],
)
def test_words(env: dict[str, str], word: str, expected: str) -> None:
    if word == "${x-it's}'":  # the quote opens inside and closes outside: nothing ends the brace
        with pytest.raises(UserError, match="missing '}'"):
            expand(word, env)
        return
    assert expand(word, env) == expected


@pytest.mark.parametrize(
    ("env", "word", "message"),
    [
        ({}, "${x:?need it}", "x: need it"),  # E67
        ({}, "${x:?}", "x: is not allowed to be unset"),  # EXP-10
        ({}, "${x?}", "x: is not allowed to be unset"),
        ({"x": ""}, "${x:?}", "x: is not allowed to be empty"),
        ({"y": "1"}, "${x?a$y}", "x: a1"),
        ({"x": "v"}, "${x:=d}", "unsupported modifier (:=) in substitution"),  # E74
        ({"x": "v"}, "${x^^}", "unsupported modifier (^) in substitution"),
        ({"x": "v"}, "${x=d}", "unsupported modifier (=) in substitution"),
        ({"x": "v"}, "${x:#d}", "unsupported modifier (:#) in substitution"),
        ({"x": "v"}, "${x,}", "unsupported modifier (,) in substitution"),
        ({}, "${.}", "unsupported modifier (.) in substitution"),
        ({"x": "v"}, "${x", "syntax error: missing '}'"),  # E78
        ({}, "${", "syntax error: missing '}'"),
        ({}, "${x:", "syntax error: missing '}'"),
        ({}, "${x:-a", "syntax error: missing '}'"),
        ({}, '${x:-"a', "syntax error: missing '}'"),
        ({}, '"${x', "syntax error: missing '}'"),
        ({}, "${}", "syntax error: bad substitution"),  # EXP-7
        ({}, "${:}", "syntax error: bad substitution"),
        ({}, "${{x}", "syntax error: bad substitution"),
        ({}, "${+x}", "syntax error: bad substitution"),
        ({}, "${x//y}", "syntax error: missing '/' in ${}"),  # EXP-12
        ({}, "${x/y/z", "syntax error: missing '}'"),
        ({}, "it's", "unexpected end of statement while looking for matching single-quote"),
        ({}, '"a', "unexpected end of statement while looking for matching double-quote"),
        ({}, '"a\\"', "unexpected end of statement while looking for matching double-quote"),
        ({}, '"my', "unexpected end of statement while looking for matching double-quote"),  # E36
        ({"x": "v"}, "${x#\\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ({"x": "v"}, "${x/\\a/}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ({"x": "v"}, "${x#'\\'}", "invalid pattern (\\) in substitution: invalid escape '\\'"),
    ],
)
def test_complaints(env: dict[str, str], word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(word, env)
    assert caught.value.message == f"failed to process {quote(word)}: {message}"


@pytest.mark.parametrize(
    ("word", "hints"),
    [
        ("${x", ("close it: ${NAME}",)),
        ('"a', ("close the quote, or write \\ before one that is meant as it stands",)),
        ("${x:?we are looking for matching socks}", ()),  # the user's own words
    ],
)
def test_hints_are_about_the_fault(word: str, hints: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        expand(word, {})
    assert caught.value.hints == hints


def test_a_backtick_can_be_the_escape() -> None:
    """[DIR-4, EXP-13]: but inside patterns it is always the backslash."""
    env = {"x": "a*b"}
    assert expand("c:\\`$x\\$x", env, escape="`") == "c:\\$x\\a*b"
    assert expand('"`"`$`a\\"', env, escape="`") == '"$`a\\'
    assert expand("${x%%\\**}", env, escape="`") == "a"


def test_unset_variables_are_reported_used_or_not() -> None:
    """[EXP-1]"""
    seen: list[str] = []
    assert expand("$a${b:-$c}'$d'${e+x}", {"e": "1"}, on_unset=seen.append) == "$dx"
    assert seen == ["a", "c", "b"]


def test_what_to_keep_can_be_chosen() -> None:
    """[EXP-16]"""
    word = "\"$a\"'b' \\$c $d ${d:-x}"
    assert expand(word, {"a": "1"}, keep_quotes=True) == "\"1\"'b' $c  x"
    assert expand(word, {"a": "1"}, keep_quotes=True, keep_escapes=True, keep_unset=True) == (
        "\"1\"'b' \\$c $d ${d:-x}"
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$P", ["80", "81"]),  # E50
        ('"$P"', ["80 81"]),  # E51
        ("x$P", ["x80", "81"]),
        ("$P$P", ["80", "8180", "81"]),
        ("a${P}", ["a80", "81"]),
        ("a${x:-b}", ["ab"]),
        (" a  b ", ["a", "b"]),
        ("a\\ b", ["a b"]),
        ("'' \"\"", []),
        ("$x", []),
    ],
)
def test_splitting(word: str, expected: list[str]) -> None:
    """[EXP-17]"""
    assert expand_words(word, {"P": "80 81"}) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('a $V \\$V "q"', 'a 1 $V "q"'),  # E153
        ("it's ${V} '$V'", "it's 1 '1'"),
        ("a\\\\b", "a\\b"),
        ("a\\\nb", "a\nb"),
        ("${x:-'a'}", "'a'"),
        ('${x:-"a}"}', '"a"}'),
        ("<<EOF <", "<<EOF <"),
        ("no variable", "no variable"),
        ("{}[$]", "{}[$]"),
    ],
)
def test_heredoc_bodies(body: str, expected: str) -> None:
    """[HD-6]"""
    assert expand_heredoc(body, {"V": "1"}) == expected


def test_bad_heredoc_bodies_are_refused() -> None:
    with pytest.raises(UserError, match="missing '}'"):
        expand_heredoc("${V", {})


@pytest.mark.slow
def test_a_word_that_explodes_is_split_in_one_go() -> None:
    with watchdog.ends():
        words = expand_words("${x///${x///${x/// a}}}", {"x": "a" * 150})
    assert set(words) >= {"a", "aa"}
