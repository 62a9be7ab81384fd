"""A target: what one build of a definition is asked for, and how targets are laid over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import cast

from pybuild.bake.entries import KINDS, Entry
from pybuild.bake.hcl.values import Value, ValueProblem, kind, to_bool, to_text, to_whole
from pybuild.model.dataclass import dataclass

LINK = "target:"  # before the name of a target that is a context of another

# In the order in which they are printed.
FIELDS: Mapping[str, str] = {
    "description": "text",
    "inherits": "joined",
    "annotations": "joined",
    "attest": "entries",
    "context": "text",
    "contexts": "map",
    "dockerfile": "text",
    "dockerfile-inline": "text",
    "args": "nullable",
    "labels": "nullable",
    "tags": "list",
    "cache-from": "entries",
    "cache-to": "own-entries",
    "target": "text",
    "secret": "entries",
    "ssh": "entries",
    "platforms": "list",
    "output": "own-entries",
    "pull": "bool",
    "no-cache": "bool",
    "network": "text",
    "no-cache-filter": "joined",
    "shm-size": "text",
    "ulimits": "joined",
    "resources": "resources",
    "call": "text",
    "entitlements": "joined",
    "extra-hosts": "nullable",
    "policy": "all-entries",
}
_RESOURCE_TEXTS = ("memory", "memory-swap", "cpuset-cpus", "cpuset-mems")
_RESOURCE_NUMBERS = ("cpu-shares", "cpu-period", "cpu-quota")
RESOURCES = (*_RESOURCE_TEXTS[:2], *_RESOURCE_NUMBERS, *_RESOURCE_TEXTS[2:])


@dataclass(frozen=True, slots=True)
class Group:
    """Names of targets, and of other groups, that one name stands for."""

    name: str
    targets: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A target; *fields* has the values that were set, each in the form of its kind in `FIELDS`.

    Attributes:
        is_linked: it is built only for another that reads it.
    """

    name: str
    fields: Mapping[str, Value] = field(default_factory=dict[str, Value])
    is_linked: bool = False

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a field that is a text."""
        value = self.fields.get(name)
        return default if value is None else cast("str", value)

    def texts(self, name: str) -> list[str]:
        """Return the value of a field that is a list of texts."""
        return list(cast("list[str]", self.fields.get(name) or []))

    def flag(self, name: str) -> bool:
        """Return the value of a field that is true or false."""
        return self.fields.get(name) is True

    def pairs(self, name: str) -> dict[str, str]:
        """Return the value of a field that is an object of texts, without those that are null."""
        pairs = cast("dict[str, str | None]", self.fields.get(name) or {})
        return {key: value for key, value in pairs.items() if value is not None}

    def entries(self, name: str) -> list[Entry]:
        """Return the entries of a field."""
        return list(cast("list[Entry]", self.fields.get(name) or []))

    @property
    def links(self) -> dict[str, str]:
        """The targets that it reads, by the names of the contexts that stand for them."""
        return {
            name: value.removeprefix(LINK)
            for name, value in self.pairs("contexts").items()
            if value.startswith(LINK)
        }

    def over(self, base: Target) -> Target:
        """Return this target laid over *base*: what it sets counts."""
        fields = dict(base.fields)
        for name, value in self.fields.items():
            if value is not None:
                fields[name] = _laid(name, fields.get(name), value)
        return Target(self.name, fields, self.is_linked)

    def changed(self, name: str, value: Value) -> Target:
        """Return the target with another value of a field."""
        return Target(self.name, {**self.fields, name: value}, self.is_linked)

    def normal(self) -> Target:
        """Return the target without doubles and empty values."""
        fields: dict[str, Value] = {}
        for name, value in self.fields.items():
            if isinstance(value, list):
                kept: list[Value] = (
                    cast("list[Value]", KINDS[name].merged(cast("list[Entry]", value)))
                    if name in KINDS and name != "policy"
                    else value
                    if name == "policy"
                    else list(dict.fromkeys(one for one in cast("list[str]", value) if one))
                )
                fields[name] = kept
            elif name == "contexts":
                pairs = cast("dict[str, str]", value)
                fields[name] = {key: one for key, one in pairs.items() if one}
            else:
                fields[name] = value
        made = Target(self.name, fields, self.is_linked)
        if made.text("network") == "host":
            granted = dict.fromkeys([*made.texts("entitlements"), "network.host"])
            made = made.changed("entitlements", list(granted))
        return made


def _laid(name: str, under: Value, over: Value) -> Value:
    match FIELDS[name]:
        case "joined" | "all-entries":
            return cast("list[Value]", under or []) + cast("list[Value]", over)
        case "entries":
            both = cast("list[Entry]", under or []) + cast("list[Entry]", over)
            return cast("list[Value]", KINDS[name].merged(both))
        case "map" | "resources":
            return cast("dict[str, Value]", under or {}) | cast("dict[str, Value]", over)
        case "nullable":
            given = cast("dict[str, Value]", over)
            kept = {key: value for key, value in given.items() if value is not None}
            return cast("dict[str, Value]", under or {}) | kept
        case _:
            return over


def read_field(name: str, value: Value) -> Value:
    """Return the value of a field as a target keeps it; null stays null.

    Raises:
        ValueProblem: it is of another kind than the field.
    """
    if value is None:
        return None
    match FIELDS[name]:
        case "text":
            return to_text(value)
        case "bool":
            return to_bool(value)
        case "list" | "joined":
            return [] if value == [] else list(_texts(value))
        case "entries" | "own-entries" | "all-entries":
            return cast("list[Value]", KINDS[name].read(value))
        case "resources":
            return _resources(value)
        case nullable:
            return {
                key: None
                if one is None and nullable == "nullable"
                else to_text(one or "")
                if one is None
                else to_text(one)
                for key, one in _object(value).items()
            }


def _texts(value: Value) -> Sequence[str]:
    if not isinstance(value, list):
        raise ValueProblem(f"list of string required, not {kind(value)}")
    return ["" if one is None else to_text(one) for one in value]


def _object(value: Value) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise ValueProblem(f"map of string required, not {kind(value)}")
    return value


def _resources(value: Value) -> dict[str, Value]:
    return {name: resource(name, one) for name, one in _object(value).items() if one is not None}


def resource(name: str, value: Value) -> Value:
    """Return a limit of steps.

    Raises:
        ValueProblem: there is none of that name, or the value is of another kind.
    """
    if name in _RESOURCE_NUMBERS:
        return to_whole(value)
    if name in _RESOURCE_TEXTS:
        return to_text(value)
    raise ValueProblem(f"unknown resources key {name}: one of {', '.join(RESOURCES)}")
