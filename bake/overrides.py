"""``--set``: values of targets that a command line sets, by the names or patterns of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pybuild.bake.entries import KINDS, Entry
from pybuild.bake.hcl.values import Value, ValueProblem
from pybuild.bake.target import FIELDS, Target, read_field, resource
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.text import boolean

_NAMES = {
    "platform": "platforms",
    "secrets": "secret",
}  # where a flag has another name than the field
_LISTS = ("annotations", "entitlements", "no-cache-filter", "platform", "tags", "ulimits")
_ENTRIES = ("attest", "cache-from", "cache-to", "output", "policy", "secrets", "ssh")
_ADDED = ("annotations", "attest", "entitlements")  # to what is there, whatever the sign
_BY_NAME = ("args", "contexts", "extra-hosts", "labels", "resources", "secret")
_TEXTS = ("call", "context", "dockerfile", "network", "shm-size", "target")
_SWITCHES = ("load", "no-cache", "pull", "push")


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One ``--set``.

    Attributes:
        targets: the names of the targets it is about.
        key: the field; *name*: within it.
        values: what it is set to; *appends*: these come after what is there.
    """

    targets: tuple[str, ...]
    key: str
    name: str
    values: tuple[str, ...]
    appends: bool = False


def parse_overrides(
    flags: Sequence[str],
    expand: Callable[[str], Sequence[str]],
    environment: Callable[[str], str | None],
) -> list[Override]:
    """Read ``--set PATTERN.KEY=VALUE``; several of one list are one.

    Args:
        expand: names of the targets that a pattern names.
        environment: gives the values of build arguments that are set without one.

    Raises:
        UsageError: one is wrong; UserError: no target has such a name.
    """
    made: dict[tuple[str, str], Override] = {}
    for flag in flags:
        path, equals, value = flag.partition("=")
        appends = path.endswith("+")
        pattern, _, rest = path.removesuffix("+").partition(".")
        key, _, name = rest.partition(".")
        _check(flag, key, name, equals=bool(equals), appends=appends)
        if not equals:
            inherited = environment(name)
            if inherited is None:
                continue
            value = inherited
        before = made.get((pattern, rest))
        joins = before is not None and key in (*_LISTS, *_ENTRIES)
        values = (*before.values, value) if joins and before is not None else (value,)
        made[pattern, rest] = Override(
            targets=tuple(expand(pattern)), key=key, name=name, values=values, appends=appends
        )
    return list(made.values())


def _check(flag: str, key: str, name: str, *, equals: bool, appends: bool) -> None:
    if not key:
        raise UsageError(
            f"invalid override key {flag.partition('=')[0]}, expected target.name",
            hints=["write --set TARGET.KEY=VALUE, as in --set app.tags=team/app:1"],
        )
    if not equals and key != "args":
        raise UsageError(f"invalid override {flag}, expected target.name=value")
    if key in _BY_NAME and not name:
        raise UsageError(f"invalid key {flag.partition('=')[0]}, {key} requires name")
    if appends and key in ("resources", "secret"):
        raise UsageError(f"invalid key {flag.partition('=')[0]}, {key} does not support append")
    known = (*_LISTS, *_ENTRIES, *_BY_NAME, *_TEXTS, *_SWITCHES)
    if key not in known:
        raise UsageError(f"unknown key: {key}", hints=[f"one of {', '.join(sorted(known))}"])


def overridden(target: Target, override: Override) -> Target:
    """Return *target* with the values of an override.

    Raises:
        UsageError: a value is wrong.
    """
    try:
        return _overridden(target, override)
    except ValueProblem as problem:
        raise UsageError(
            f"--set {target.name}.{override.key}: {problem.message}", hints=problem.hints
        ) from problem


def _overridden(target: Target, override: Override) -> Target:
    key, value = override.key, override.values[-1]
    field = _NAMES.get(key, key)
    if key == "secret":
        return target.changed("secret", _secret(target, override.name, value))
    if key in _BY_NAME:
        pairs = cast("dict[str, Value]", target.fields.get(field) or {})
        one = resource(override.name, value) if key == "resources" else value
        return target.changed(field, {**pairs, override.name: one})
    if key in _TEXTS:
        return target.changed(field, value)
    if key in _SWITCHES:
        return _switched(target, key, value)
    given = read_field(field, [*override.values])
    assert isinstance(given, list)
    if override.appends or key in _ADDED:
        given = [*cast("list[Value]", target.fields.get(field) or []), *given]
        if field in KINDS and field != "policy":
            given = cast("list[Value]", KINDS[field].merged(cast("list[Entry]", given)))
    return target.changed(field, given)


def _secret(target: Target, name: str, value: str) -> Value:
    """Return the secrets of *target* with another place of the value of one that it declares."""
    (new,) = KINDS["secret"].parse(value)
    if new.get("id", name) != name:
        raise ValueProblem(
            f'secret override id "{new["id"]}" does not match declared secret "{name}"'
        )
    declared = target.entries("secret")
    if not any(entry.get("id") == name for entry in declared):
        raise ValueProblem(f'secret "{name}" must be declared before it can be overridden')
    return [{**new, "id": name} if one.get("id") == name else one for one in declared]


def _switched(target: Target, key: str, value: str) -> Target:
    switched = boolean(value)
    if switched is None:
        raise ValueProblem(f"invalid value {value} for boolean key {key}")
    if key in FIELDS:
        return target.changed(key, switched)
    outputs = target.entries("output")
    made = _pushed(outputs, switched) if key == "push" else _loaded(outputs, switched)
    return target.changed("output", cast("list[Value]", made))


def _pushed(outputs: list[Entry], push: bool) -> list[Entry]:
    images = [
        {**one, "push": "true" if push else "false"} if one["type"] == "image" else one
        for one in outputs
        if push or one["type"] != "registry"
    ]
    if push and all(one["type"] == "docker" for one in outputs):
        images.append({"type": "image", "push": "true"})
    return images


def _loaded(outputs: list[Entry], load: bool) -> list[Entry]:
    if not load:
        return outputs
    for one in outputs:
        if one["type"] == "docker":
            if not one.get("dest"):
                return outputs
        elif one["type"] not in ("image", "registry", "oci"):
            return outputs
    return [*outputs, {"type": "docker"}]


def all_targets(flags: Mapping[str, str]) -> list[str]:
    """Return the overrides that flags for every target stand for, those without a value left out."""
    return [f"*.{key}={value}" for key, value in flags.items() if value]
