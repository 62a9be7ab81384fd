"""Reads a source policy from a file: JSON as the reference's protocol has it [POL-1, POL-2]."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from pybuild.cache.disk.plainfile import plain
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_list, as_object, loads
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

E = TypeVar("E", bound=StrEnum)
_MOST_BYTES = 4 << 20


def read_policy_file(path: str) -> Policies:
    """Return the policies of a file.

    Raises:
        UsageError: it cannot be read, or is no policy; with the rule that is wrong.
    """
    try:
        with open(path, "rb", opener=plain) as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"source policy {path}: larger than {_MOST_BYTES >> 20} MiB")
        return Policies((parse_policy(data),))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read source policy {path}: {reason}") from error
    except ValueError as error:
        raise UsageError(f"source policy {path}: {error}") from error


def parse_policy(data: bytes) -> Policy:
    """Read one policy.

    Raises:
        ValueError: it is none.
    """
    try:
        document = loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    fields = _Fields(document, "the policy")
    version = fields.take("version")
    if version not in (None, 0, 1):
        raise ValueError(f"version {version!r}: only 1 is known")
    rules = _list(fields.take("rules"), "rules")
    fields.end()
    return Policy(tuple(_rule(rule, f"rule {n}") for n, rule in enumerate(rules, 1)))


class _Fields:
    """An object's fields, each taken once; one that nobody takes is a mistake."""

    def __init__(self, value: object, what: str) -> None:
        fields = as_object(value)
        if fields is not value:
            raise ValueError(f"{what} is no object")
        self._values = dict(fields)
        self._what = what

    def take(self, name: str, other: str = "") -> Any:
        value = self._values.pop(name, None)
        return self._values.pop(other, None) if value is None and other else value

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str | None):
            raise ValueError(f"{self._what}: {name} is no text")
        return value or ""

    def choice(self, kind: type[E], name: str, other: str = "") -> E:
        """Read one of *kind*, as its name or its number; the first one where nothing is said."""
        value = self.take(name, other)
        members = list(kind)
        if value is None:
            return members[0]
        if type(value) is int and 0 <= value < len(members):
            return members[value]
        if isinstance(value, str) and value in members:
            return kind(value)
        raise ValueError(f'{self._what}: {name} "{value}": one of {", ".join(members)}')

    def end(self) -> None:
        if self._values:
            raise ValueError(f'{self._what} has no field "{min(self._values)}"')


def _rule(value: object, what: str) -> Rule:
    fields = _Fields(value, what)
    action = fields.choice(Action, "action")
    chosen = fields.take("selector")
    if chosen is None:
        raise ValueError(f"{what} has no selector")
    updates = fields.take("updates")
    fields.end()
    if action is Action.CONVERT and updates is None:
        raise ValueError(f"{what}: missing destination for convert rule")
    return Rule(
        action,
        _selector(_Fields(chosen, f"{what}: selector")),
        None if updates is None else _update(_Fields(updates, f"{what}: updates"), what),
    )


def _selector(fields: _Fields) -> Selector:
    identifier = fields.text("identifier")
    match_type = fields.choice(MatchType, "matchType", "match_type")
    constraints: list[Constraint] = []
    for item in _list(fields.take("constraints"), "constraints"):
        one = _Fields(item, "a constraint")
        key, value = one.text("key"), one.text("value")
        constraints.append(Constraint(key, value, one.choice(Condition, "condition")))
        one.end()
    fields.end()
    return Selector(identifier, match_type, tuple(constraints))


def _update(fields: _Fields, what: str) -> Update:
    identifier = fields.text("identifier")
    attrs: object = fields.take("attrs")
    fields.end()
    values = as_object(attrs)
    if attrs is not None and attrs is not values:
        raise ValueError(f"{what}: attrs is no object")
    if not all(isinstance(value, str) for value in values.values()):
        raise ValueError(f"{what}: an attribute is no text")
    return Update(identifier, {key: str(value) for key, value in values.items()})


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    items = as_list(value)
    if items is not value:
        raise ValueError(f"{what} is no list")
    return items
