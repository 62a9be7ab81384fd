"""Source policies judge, and replace, in bounded time [POL-1..5]."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from pybuild.model.policy import (
    Action,
    Condition,
    Constraint,
    MatchType,
    Policies,
    Policy,
    PolicySource,
    Rule,
    Selector,
    Update,
)
from pybuild.model.wildcard import expand, groups

ALPINE = "docker-image://docker.io/library/alpine:3.20"


def deny(identifier: str, *constraints: Constraint, kind: MatchType = MatchType.WILDCARD) -> Rule:
    return Rule(Action.DENY, Selector(identifier, kind, constraints))


def allow(identifier: str) -> Rule:
    return Rule(Action.ALLOW, Selector(identifier))


def convert(
    identifier: str, to: str, *, kind: MatchType = MatchType.WILDCARD, **attrs: str
) -> Rule:
    update = Update(to, {name.replace("_", "."): value for name, value in attrs.items()})
    return Rule(Action.CONVERT, Selector(identifier, kind), update)


def after(*rules: Rule, source: str = ALPINE, **attrs: str) -> PolicySource:
    given = {name.replace("_", "."): value for name, value in attrs.items()}
    return Policies((Policy(rules),)).apply(PolicySource(source, given))


def test_the_last_rule_that_allows_or_denies_decides() -> None:
    """[POL-4]"""
    assert after(deny("*"), allow("docker-image://docker.io/library/*")).identifier == ALPINE
    with pytest.raises(UserError, match=f'^source "{ALPINE}" denied by policy$'):
        after(allow("*"), deny(ALPINE, kind=MatchType.EXACT))
    assert after(deny("docker-image://docker.io/library/alpine")).identifier == ALPINE


def test_what_is_replaced_is_judged_again() -> None:
    mirror = convert("docker-image://docker.io/*", "docker-image://mirror.example/$1")
    assert after(mirror).identifier == "docker-image://mirror.example/library/alpine:3.20"
    with pytest.raises(UserError, match="mirror.example/library/alpine:3.20.* denied"):
        after(mirror, deny("docker-image://mirror.example/*"))


def test_replacements_without_end_are_refused() -> None:
    with pytest.raises(UserError, match=f'source "{ALPINE}": too many mutations'):
        after(convert("*:3.20", "$1:3.21"), convert("*:3.21", "$1:3.20"))
    with pytest.raises(UserError, match="more than 4096 characters"):
        after(convert("*", "$1$1"))


@pytest.mark.parametrize(
    ("constraint", "is_denied"),
    [
        (Constraint("http.checksum", "", Condition.EQUAL), False),
        (Constraint("http.checksum", "sha256:1", Condition.NOTEQUAL), False),
        (Constraint("http.checksum", "sha256:2", Condition.NOTEQUAL), True),
        (Constraint("http.checksum", "^sha256:", Condition.MATCHES), True),
        (Constraint("http.checksum", "^sha512:", Condition.MATCHES), False),
        (Constraint("http.other", "", Condition.EQUAL), True),
    ],
)
def test_rules_may_be_about_attributes(constraint: Constraint, is_denied: bool) -> None:
    """[POL-2]"""
    rule = deny("https://*", constraint)
    if is_denied:
        with pytest.raises(UserError, match="denied"):
            after(rule, source="https://x.example/f", http_checksum="sha256:1")
    else:
        after(rule, source="https://x.example/f", http_checksum="sha256:1")


def test_regular_expressions_have_groups_with_numbers_and_names() -> None:
    """[POL-2]"""
    found = after(
        convert(
            r"^docker-image://(?P<host>ghcr\.io)/(.*)$",
            "docker-image://cache.example/${host}/$2",
            kind=MatchType.REGEX,
        ),
        deny("docker-image://docker.io/*"),
        source="docker-image://ghcr.io/a/b:1",
    )
    assert found.identifier == "docker-image://cache.example/ghcr.io/a/b:1"


def test_attributes_of_another_kind_do_not_stay() -> None:
    found = after(convert(ALPINE, "local://x"), image_resolvemode="pull")
    assert found == PolicySource("local://x", {})
    git = "git://github.com/a/b.git"
    found = after(
        convert(git, "git://mirror.example/b.git"),
        source=git,
        git_fullurl="https://github.com/a/b.git",
        git_keepgitdir="true",
    )
    assert found == PolicySource("git://mirror.example/b.git", {"git.keepgitdir": "true"})


def test_every_policy_has_to_agree() -> None:
    """[POL-5]"""
    policies = Policies((Policy((allow("*"),)),)) + Policies((Policy((deny("*"),)),))
    with pytest.raises(UserError, match="denied"):
        policies.apply(PolicySource(ALPINE))


def test_patterns_of_strangers_take_no_time() -> None:
    stars = "a*" * 500
    assert groups(stars + "b", "a" * 4000) is None
    assert after(deny("(a+)+$", kind=MatchType.REGEX), source="a" * 4000 + "b")


def test_rules_and_sources_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pybuild.model.policy.MOST_LOOKS", 1000)
    policies = Policies((Policy((allow("x"),) * 300),))
    for _ in range(3):
        policies.apply(PolicySource(ALPINE))
    with pytest.raises(UserError, match="too many rules"):
        policies.apply(PolicySource(ALPINE))


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a*c", "abc", ["abc", "b"]),
        ("a*c", "ac", ["ac", ""]),
        ("a*b*c", "aXbYbZc", ["aXbYbZc", "XbY", "Z"]),
        ("*", "", ["", ""]),
        ("a*a", "a", None),
        ("a", "a", ["a"]),
        ("a?", "ab", None),
        ("*x*", "axbxc", ["axbxc", "axb", "c"]),
    ],
)
def test_stars_take_as_much_as_they_can(pattern: str, text: str, found: list[str] | None) -> None:
    assert groups(pattern, text) == found


def test_groups_are_written_as_go_writes_them() -> None:
    assert expand("$1-${2}x-$2x-$$-$9", ["", "a", "b"]) == "a-bx--$-"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(Action.CONVERT, Selector("*")), "missing destination for convert rule"),
        (deny("a**b"), "invalid wildcard"),
        (deny("(", kind=MatchType.REGEX), r'invalid regex "\("'),
    ],
)
def test_rules_that_are_none(rule: Rule, words: str) -> None:
    with pytest.raises(UserError, match=words):
        after(rule)
