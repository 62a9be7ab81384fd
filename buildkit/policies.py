"""Source policies that clients send, with a request or with a part of one [POL-1, POL-5]."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from pybuild.buildkit.pb import sourcepolicy as pb
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.frontend.lowering.paths import clean
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
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
from pybuild.model.reference import Reference

# By their numbers on the wire, which may be any, negative ones too.
_ACTIONS, _MATCHES = dict(enumerate(Action)), dict(enumerate(MatchType))
_CONDITIONS = dict(enumerate(Condition))
_OF_PLATFORMS = ("docker-image://", "oci-layout://")


def read_policies(messages: Iterable[pb.Policy], above: Policies | None = None) -> Policies | None:
    """Return the policies in *messages* and in *above* together; None if there are none.

    Raises:
        UserError: a rule is incomplete, or of a kind that is not known.
    """
    own = tuple(Policy(tuple(map(_rule, message.rules))) for message in messages)
    own = tuple(policy for policy in own if policy.rules)
    policies = (above or Policies()) + Policies(own)
    return policies if policies else None


def write_policies(policies: Policies) -> list[pb.Policy]:
    """Return them as a server reads them."""
    return [pb.Policy(version=1, rules=map(_written, one.rules)) for one in policies.all]


def ruled_source(source: SourceOp, platform: Platform, policies: Policies | None) -> None:
    """Put the policies' replacement in the place of *source*.

    Args:
        platform: the one that an image is taken for.

    Raises:
        UserError: it is refused.
    """
    if policies is None:
        return
    is_image = source.identifier.startswith(_OF_PLATFORMS)
    before = PolicySource(
        _canonical(source.identifier), dict(source.attrs), platform if is_image else None
    )
    after = policies.apply(before)
    if after != before:
        source.identifier = after.identifier
        source.attrs.clear()
        source.attrs.update(after.attrs)


def _canonical(identifier: str) -> str:
    """Return the one spelling that rules are written for: another one must not get past them."""
    scheme, mark, rest = identifier.partition("://")
    match scheme if mark else "":
        case "docker-image":
            with suppress(ValueError):  # what is no name at all is refused by who reads it
                return f"{scheme}://{Reference.parse(rest)}"
        case "git":
            rest, _, fragment = rest.partition("#")
            ref, _, subdir = fragment.partition(":")
            subdir = clean(subdir).strip("/")
            fragment = f"{ref}:{subdir}" if subdir else ref
            return f"{scheme}://{rest}" + (f"#{fragment}" if fragment else "")
        case _:
            pass
    return identifier


def _rule(message: pb.Rule) -> Rule:
    if not message.HasField("selector"):
        raise UserError("invalid nil selector in policy")
    selector = message.selector
    try:
        action, match_type = _ACTIONS[message.action], _MATCHES[selector.match_type]
        constraints = tuple(
            Constraint(one.key, one.value, _CONDITIONS[one.condition])
            for one in selector.constraints
        )
    except KeyError:
        raise UserError(f"source policy: rule {selector.identifier}: unknown type") from None
    updates = None
    if message.HasField("updates"):
        updates = Update(message.updates.identifier, dict(message.updates.attrs))
    return Rule(action, Selector(selector.identifier, match_type, constraints), updates)


def _written(rule: Rule) -> pb.Rule:
    selector = rule.selector
    message = pb.Rule(
        action=list(Action).index(rule.action),
        selector=pb.Selector(
            identifier=selector.identifier, match_type=list(MatchType).index(selector.match_type)
        ),
    )
    for one in selector.constraints:
        condition = list(Condition).index(one.condition)
        message.selector.constraints.add(key=one.key, value=one.value, condition=condition)
    if rule.updates is not None:
        message.updates.identifier = rule.updates.identifier
        message.updates.attrs.update(rule.updates.attrs)
    return message
