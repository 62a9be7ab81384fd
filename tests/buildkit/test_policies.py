"""Policies of clients, and the sources of definitions that they judge [POL-3, POL-5]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.pb import sourcepolicy as pb
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.buildkit.policies import read_policies, ruled_source, write_policies
from pybuild.model.errors import UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.policy import (
    Action,
    Condition,
    Constraint,
    MatchType,
    Policies,
    Policy,
    Rule,
    Selector,
    Update,
)

DENY, CONVERT, EXACT = 1, 2, 1


def rule(action: int, identifier: str, to: str | None = None) -> pb.Rule:
    found = pb.Rule(action=action, selector=pb.Selector(identifier=identifier))
    if to is not None:
        found.updates.identifier = to
    return found


@pytest.mark.parametrize(
    ("spelt", "identifier"),
    [
        ("docker-image://alpine", "docker-image://docker.io/library/alpine:latest"),
        ("docker-image://index.docker.io/library/a:1", "docker-image://docker.io/library/a:1"),
        ("git://x.example/r.git#main:../sub/./dir/", "git://x.example/r.git#main:sub/dir"),
        ("git://x.example/r.git#", "git://x.example/r.git"),
        ("https://x.example/f", "https://x.example/f"),
    ],
)
def test_another_spelling_does_not_get_past_a_rule(spelt: str, identifier: str) -> None:
    exact = rule(DENY, identifier)
    exact.selector.match_type = EXACT
    policies = read_policies([pb.Policy(rules=[exact])])
    with pytest.raises(UserError, match="denied by policy"):
        ruled_source(SourceOp(identifier=spelt), LINUX_AMD64, policies)


def test_a_source_that_is_let_pass_stays_as_it_was_spelt() -> None:
    policies = read_policies([pb.Policy(rules=[rule(DENY, "docker-image://other")])])
    source = SourceOp(identifier="docker-image://alpine", attrs={"image.resolvemode": "pull"})
    ruled_source(source, LINUX_AMD64, policies)
    assert source == SourceOp(
        identifier="docker-image://alpine", attrs={"image.resolvemode": "pull"}
    )


def test_a_source_that_is_replaced_loses_what_the_other_cannot_have() -> None:
    name = "docker-image://docker.io/library/alpine:latest"
    policies = read_policies([pb.Policy(rules=[rule(CONVERT, name, "local://x")])])
    source = SourceOp(identifier="docker-image://alpine", attrs={"image.resolvemode": "pull"})
    ruled_source(source, LINUX_AMD64, policies)
    assert source == SourceOp(identifier="local://x")


def test_policies_of_a_part_come_to_those_of_the_whole() -> None:
    """[POL-5]"""
    whole = read_policies([pb.Policy(rules=[rule(DENY, "local://a")])])
    both = read_policies([pb.Policy(rules=[rule(DENY, "local://b")])], whole)
    assert read_policies([]) is None and read_policies([], whole) == whole
    for name in "ab":
        with pytest.raises(UserError):
            ruled_source(SourceOp(identifier=f"local://{name}"), LINUX_AMD64, both)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (pb.Rule(action=DENY), "invalid nil selector in policy"),
        (rule(9000, "*"), "unknown type"),
        (rule(-1, "*"), "unknown type"),
    ],
)
def test_rules_that_are_none(broken: pb.Rule, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_policies([pb.Policy(rules=[broken])])


def test_rules_are_those_of_the_protocol_by_their_numbers() -> None:
    messages = [
        pb.Policy(
            version=1,
            rules=[
                pb.Rule(action=action, selector=pb.Selector(identifier="i", match_type=kind))
                for action, kind in enumerate((2, 0, 1))
            ],
        )
    ]
    conditions = [
        pb.AttrConstraint(key="k", value=str(number), condition=number) for number in range(3)
    ]
    messages[0].rules[0].selector.constraints.extend(conditions)
    messages[0].rules[2].updates.identifier = "j"
    messages[0].rules[2].updates.attrs["a"] = "b"
    expected = Policies(
        (
            Policy(
                (
                    Rule(
                        Action.ALLOW,
                        Selector(
                            "i",
                            MatchType.REGEX,
                            (
                                Constraint("k", "0", Condition.EQUAL),
                                Constraint("k", "1", Condition.NOTEQUAL),
                                Constraint("k", "2", Condition.MATCHES),
                            ),
                        ),
                    ),
                    Rule(Action.DENY, Selector("i", MatchType.WILDCARD)),
                    Rule(Action.CONVERT, Selector("i", MatchType.EXACT), Update("j", {"a": "b"})),
                )
            ),
        )
    )
    assert read_policies(messages) == expected
    assert write_policies(expected) == messages


def test_nothing_is_ruled_without_policies() -> None:
    assert read_policies([pb.Policy()]) is None
    source = SourceOp(identifier="docker-image://alpine")
    ruled_source(source, LINUX_AMD64, None)
    assert source.identifier == "docker-image://alpine"


@pytest.mark.parametrize(
    ("spelt", "identifier"),
    [
        ("docker-image://A B", "docker-image://A B"),
        ("git://h/r#v1:", "git://h/r#v1"),
        ("git://h/r#v1:/a/../b/", "git://h/r#v1:b"),
        ("git://h/r#:b", "git://h/r#:b"),
        ("local:x", "local:x"),
        ("docker-image:alpine", "docker-image:alpine"),
    ],
)
def test_what_has_one_spelling_only_keeps_it(spelt: str, identifier: str) -> None:
    converted = rule(CONVERT, identifier, "local://seen")
    converted.selector.match_type = EXACT
    source = SourceOp(identifier=spelt)
    ruled_source(source, LINUX_AMD64, read_policies([pb.Policy(rules=[converted])]))
    assert source.identifier == "local://seen"
