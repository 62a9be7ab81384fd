"""Policies in files: the protocol's JSON, and what is wrong with what is none [POL-1]."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pybuild.buildkit.policies import read_policies, write_policies
from pybuild.buildkit.policyfile import parse_policy, read_policy_file
from pybuild.model.errors import UsageError
from pybuild.model.policy import (
    Action,
    Condition,
    Constraint,
    MatchType,
    Policy,
    Rule,
    Selector,
    Update,
)

FULL = {
    "version": 1,
    "rules": [
        {"action": "DENY", "selector": {"identifier": "*"}},
        {
            "action": "ALLOW",
            "selector": {
                "identifier": "https://x/.*",
                "matchType": "REGEX",
                "constraints": [{"key": "http.checksum", "value": "", "condition": "NOTEQUAL"}],
            },
        },
        {
            "action": "CONVERT",
            "selector": {"identifier": "docker-image://a", "matchType": "EXACT"},
            "updates": {"identifier": "docker-image://b", "attrs": {"k": "v"}},
        },
    ],
}


def test_names_and_numbers_mean_the_same() -> None:
    text = json.dumps(FULL)
    numbers = text
    for number, names in enumerate((("ALLOW", "EQUAL"), ("DENY", "NOTEQUAL"), ("CONVERT",))):
        for name in names:
            numbers = numbers.replace(f'"{name}"', str(number))
    numbers = numbers.replace("matchType", "match_type").replace('"EXACT"', "1")
    assert parse_policy(numbers.replace('"REGEX"', "2").encode()) == parse_policy(text.encode())


def test_a_policy_goes_over_the_wire_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(json.dumps(FULL))
    policies = read_policy_file(str(tmp_path / "p"))
    assert read_policies(write_policies(policies)) == policies


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("[]", "the policy is no object"),
        ('{"rule": []}', 'the policy has no field "rule"'),
        ('{"version": 2}', "version 2: only 1 is known"),
        ('{"rules": {}}', "rules is no list"),
        ('{"rules": [{"action": "DENY"}]}', "rule 1 has no selector"),
        ('{"rules": [{"action": "NO", "selector": {}}]}', 'rule 1: action "NO": one of ALLOW'),
        ('{"rules": [{"action": 3, "selector": {}}]}', 'rule 1: action "3"'),
        ('{"rules": [{"action": "CONVERT", "selector": {}}]}', "missing destination"),
        ('{"rules": [{"selector": {"identifier": 1}}]}', "rule 1: selector: identifier is no text"),
        ("[" * 100_000, "too deep"),
        ('{"version": "1"}', "version '1': only 1 is known"),
        ('{"rules": [3]}', "rule 1 is no object"),
        ('{"rules": [{"selector": 3}]}', "rule 1: selector is no object"),
        ('{"rules": [{"selector": {}, "x": 1}]}', 'rule 1 has no field "x"'),
        ('{"rules": [{"selector": {"x": 1}}]}', 'rule 1: selector has no field "x"'),
        ('{"rules": [{"action": true, "selector": {}}]}', 'rule 1: action "True": one of ALLOW'),
        ('{"rules": [{"action": -1, "selector": {}}]}', 'rule 1: action "-1"'),
        ('{"rules": [{"selector": {"constraints": {}}}]}', "constraints is no list"),
        ('{"rules": [{"selector": {"constraints": [1]}}]}', "a constraint is no object"),
        ('{"rules": [{"selector": {"constraints": [{"x": 1}]}}]}', 'a constraint has no field "x"'),
        (
            '{"rules": [{"selector": {}}, {"selector": {}, "updates": 1}]}',
            "rule 2: updates is no object",
        ),
        ('{"rules": [{"selector": {}, "updates": {"x": 1}}]}', 'rule 1: updates has no field "x"'),
        ('{"rules": [{"selector": {}, "updates": {"attrs": []}}]}', "rule 1: attrs is no object"),
        (
            '{"rules": [{"selector": {}, "updates": {"attrs": {"a": 1}}}]}',
            "an attribute is no text",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"source policy {path}: .*{words}"):
        read_policy_file(str(path))


def test_a_policy_that_is_not_there_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read source policy .*: no such file"):
        read_policy_file(str(tmp_path / "none"))


def test_each_field_of_a_rule_is_read() -> None:
    allowed, regex, converted = parse_policy(json.dumps(FULL).encode()).rules
    assert allowed == Rule(Action.DENY, Selector("*"))
    constraint = Constraint("http.checksum", "", Condition.NOTEQUAL)
    selector = Selector("https://x/.*", MatchType.REGEX, (constraint,))
    assert regex == Rule(Action.ALLOW, selector)
    update = Update("docker-image://b", {"k": "v"})
    selector = Selector("docker-image://a", MatchType.EXACT)
    assert converted == Rule(Action.CONVERT, selector, update)


@pytest.mark.parametrize("text", ["{}", '{"version": 0}', '{"version": 1, "rules": null}'])
def test_a_policy_may_say_nothing(text: str) -> None:
    assert parse_policy(text.encode()) == Policy(())


def test_fields_may_be_left_out() -> None:
    text = b'{"rules": [{"selector": {}, "updates": {"attrs": null}}]}'
    assert parse_policy(text) == Policy((Rule(Action.ALLOW, Selector(""), Update()),))


def test_a_file_is_a_policy_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"{}" + b" " * ((4 << 20) - 2))
    assert read_policy_file(str(path)).all == (Policy(()),)
    path.write_bytes(b"{}" + b" " * ((4 << 20) - 1))
    with pytest.raises(UsageError, match="larger than 4 MiB"):
        read_policy_file(str(path))
