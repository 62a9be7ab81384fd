"""Path patterns of COPY, ``--exclude`` and ignore files."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.model import patterns
from pybuild.model.patterns import PatternMatcher, clean, match
from tests import watchdog


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "a", False),
        ("*x", "xxx", True),
        ("nop[e]", "nope", True),
        ("[z-a]", "b", False),
        ("[^z-a]", "b", True),
        ("a.b", "aXb", False),
        ("(a|b)+", "(a|b)+", True),
        ("**", "a/b", False),
        ("a[+-0]b", "a/b", False),
        ("a[^x]b", "a/b", False),
        ("", "", True),
    ],
)
def test_components_match_as_in_go_filepath_match(pattern: str, name: str, expected: bool) -> None:
    """[CP-3, IGN-4, E210]"""
    assert match(pattern, name) is expected


@pytest.mark.parametrize(
    "pattern",
    ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a-", "[\\", "x[]"],
)
def test_malformed_patterns_are_refused_whatever_the_name(pattern: str) -> None:
    """[IGN-7]"""
    with pytest.raises(ValueError, match="syntax error in pattern"):
        match(pattern, "zzz")
    with pytest.raises(ValueError, match="syntax error in pattern"):
        PatternMatcher([pattern])


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.md", "a.md", True),  # E200
        ("*.md", "d/a.md", False),
        ("**/*.md", "a.md", True),  # E201
        ("**/*.md", "d/e/a.md", True),
        ("dir", "dir/a/b", True),
        ("dir", "dirt", False),
        ("/foo/", "foo/x", True),  # E205
        ("./foo", "foo", True),
        ("a/../foo", "foo", True),
        ("**", "x/y", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        ("a/**/b", "a/x/y/bc", False),
        ("**.md", "d/xa.md", True),
        ("**/a.md", "d/xa.md", False),
        ("**/node_modules", "x/node_modules/y/z", True),
        ("a**b", "ax/yb", False),
        ("a**b", "ax/b", True),
        ("a**b**c", "abc", True),
        ("a**b**c", "ax/bx/c/d", True),
        ("foo\\ bar", "foo bar", True),  # E210
        ("[ab]c?", "bcd/x", True),
        ("foo*", "foo/bar/baz", True),
        (".", "a", False),
        ("\\!x", "!x", True),
        ("\\#x", "#x", True),
        ("a\\*", "a*/b", True),
        ("a[^b]c", "a/c/d", True),  # in a rule a class takes a slash too
        ("a[.-0]c", "a/c", True),
        ("*[^b]*c", "a/c", True),
        ("**/a[^b]c", "d/a/c", True),
        ("a[bc]d", "a/d", False),
        ("a?c", "a/c", False),
    ],
)
def test_rules_cover_what_is_below(pattern: str, path: str, expected: bool) -> None:
    """[IGN-3, IGN-4, IGN-5]"""
    assert PatternMatcher([pattern]).matches(path) is expected


@pytest.mark.parametrize(
    ("patterns", "excluded", "kept"),
    [
        (["*", "!src"], ["a", "a/src", "b/c"], ["src", "src/x/y"]),  # E202, IGN-8
        (
            ["*.md", "!README*.md", "README-secret.md"],  # E203
            ["a.md", "README-secret.md"],
            ["README.md", "x"],
        ),
        (["dir", "!dir/keep"], ["dir", "dir/x"], ["dir/keep", "dir/keep/y"]),  # E204
        (["!a", "a"], ["a"], []),
    ],
)
def test_the_last_matching_line_wins(
    patterns: list[str], excluded: list[str], kept: list[str]
) -> None:
    """[IGN-5]"""
    matcher = PatternMatcher(patterns)
    assert [path for path in excluded if not matcher.matches(path)] == []
    assert [path for path in kept if matcher.matches(path)] == []


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        (["node_modules"], "node_modules", True),
        (["node_modules"], "src", False),
        (["*", "!src"], "node_modules", True),
        (["*", "!src/a"], "src", False),
        (["*", "!src/a/b"], "src/a", False),
        (["*", "!src/a/b"], "src/c", True),
        (["*", "!**/*.py"], "src", False),
        (["dir", "!dir", "dir"], "dir", True),
        (["*", "!sr[^x]a"], "sr", False),
        (["*", "!sr[x]a"], "sr", True),
    ],
)
def test_directories_are_skipped_unless_something_below_may_come_back(
    patterns: list[str], directory: str, expected: bool
) -> None:
    """[IGN-5]"""
    assert PatternMatcher(patterns).can_skip_dir(directory) is expected


@pytest.mark.parametrize("pattern", ["[z-a]", "[Local-Only]/", "x/[^b-a]", "**/[9-0]"])
def test_a_range_that_runs_backwards_is_refused_in_a_rule(pattern: str) -> None:
    """[IGN-7] COPY takes it, as a class of nothing."""
    with pytest.raises(ValueError, match="syntax error in pattern"):
        PatternMatcher([pattern])


def test_a_lone_negation_is_refused() -> None:
    """[E209]"""
    with pytest.raises(ValueError, match='illegal exclusion pattern: "!"'):
        PatternMatcher(["a", " ! "])


_PIECES = st.sampled_from(["a", "b", "*", "**", "/", "?", "[ab]", "[^a]"])
_NAMES = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4)


@given(st.lists(_PIECES, min_size=1, max_size=8), _NAMES)
@pytest.mark.slow
def test_linear_matching_agrees_with_plain_backtracking(
    pieces: list[str], names: list[str]
) -> None:
    pattern = clean("".join(pieces)).removeprefix("/") or "a"
    if pattern.startswith("**") and not set(pattern[2:]) & set("*?["):
        source = ".*" + pattern[2:]
        if pattern.startswith("**/"):
            source = "(?:.*/)?" + pattern[3:]
    else:
        source = re.sub(
            r"\*\*/?$|\*\*/?|\*|\?",
            lambda found: {
                "*": "[^/]*",
                "?": "[^/]",
            }.get(found[0], ".*" if found.end() == len(pattern) else "(?:.*/)?"),
            pattern,
        )
    wanted = any(re.fullmatch(source, "/".join(names[: count + 1])) for count in range(len(names)))
    assert PatternMatcher([pattern]).matches("/".join(names)) is wanted


@pytest.mark.slow
@given(st.text("ab*?[]^-\\/!", max_size=12), st.text("ab/", max_size=8))
def test_any_text_is_a_pattern_or_refused(pattern: str, path: str) -> None:
    try:
        PatternMatcher([pattern]).matches(path)
        match(pattern, path)
    except ValueError as error:
        assert "pattern" in str(error)


@pytest.mark.parametrize(
    "pattern", ["*a" * 100 + "b", "**/a" * 100 + "/b", "a**" * 60 + "b", "**/*a*a*a/" * 20 + "b"]
)
def test_hostile_patterns_do_not_backtrack(pattern: str) -> None:
    matcher = PatternMatcher([pattern])
    with watchdog.ends():  # one that backtracks takes years
        assert not matcher.matches("a" * 4000)
        assert not matcher.matches("/".join("a" * 2000))


_LINES = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(
            st.sampled_from(["a", "b", "a*", "*", "**", "?", "[ab]", "a**b"]),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=8,
)


@pytest.mark.slow
@given(_LINES, st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4))
def test_many_patterns_say_what_each_of_them_says_in_turn(
    lines: list[tuple[bool, list[str]]], names: list[str]
) -> None:
    """[IGN-5] However they are looked up."""
    path = "/".join(names)
    wanted = False
    for negated, parts in lines:
        if PatternMatcher(["/".join(parts)]).matches(path):
            wanted = not negated
    texts = ["!" * negated + "/".join(parts) for negated, parts in lines]
    assert PatternMatcher(texts).matches(path) is wanted


def test_of_thousands_of_patterns_few_are_tried_on_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        line % n for n in range(1000) for line in ("gen%d/out", "part%d/*.o", "!part%d/keep.?")
    ]
    matcher = PatternMatcher(texts)
    tried = 0

    def counted(rule: patterns.Rule, path: str) -> bool:
        nonlocal tried
        tried += 1
        return covers(rule, path)

    covers = patterns.Rule.covers
    monkeypatch.setattr(patterns.Rule, "covers", counted)
    assert matcher.matches("part7/a.o")
    assert not matcher.matches("part8/keep.o")
    assert not matcher.matches("src/main.c")
    assert matcher.matches("gen999/out/a/b")
    assert tried <= 3


@pytest.mark.slow
def test_patterns_that_match_everywhere_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each directory that has patterns of its own: a hostile context has thousands."""
    texts = [f"*.{n}" for n in range(1000)] + [f"part{n}/*.o" for n in range(1000)]
    compiled = 0

    def counted(source: str, flags: int = 0) -> re.Pattern[str]:
        nonlocal compiled
        compiled += len(source)
        return compile_(source, flags)

    matcher = PatternMatcher(texts)
    compile_ = re.compile
    monkeypatch.setattr(re, "compile", counted)
    for n in range(1000):
        assert matcher.matches(f"part{n}/a.o")
        assert not matcher.matches(f"part{n}/a.c")
    assert compiled < 100 * sum(map(len, texts))
