"""``--print`` and ``--list``: definitions as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from pybuild.bake.definition import DEFAULT, Definition, Selected
from pybuild.bake.entries import KINDS, Entry
from pybuild.bake.hcl.values import Value
from pybuild.bake.target import FIELDS, RESOURCES, Target
from pybuild.model.listing import table

_TEMPLATES = ("annotations", "args", "dockerfile-inline", "extra-hosts", "labels")


def printed(selected: Selected) -> str:
    """Return the targets as JSON, which is a bake file of the same ones."""
    groups = {name: _group(selected, name) for name in sorted(selected.groups)}
    targets = {name: fields_of(selected.targets[name]) for name in sorted(selected.targets)}
    whole = {**({"group": groups} if groups else {}), "target": targets}
    return f"{_json(whole)}\n"


def _json(value: object) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _group(selected: Selected, name: str) -> dict[str, object]:
    group = selected.groups[name]
    described = {"description": group.description} if group.description else {}
    return {**described, "targets": list(group.targets)}


def fields_of(target: Target) -> dict[str, object]:
    """Return the fields of a target that say something, in their order."""
    made: dict[str, object] = {}
    for name in FIELDS:
        value = target.fields.get(name)
        if value is None or value in ([], {}):
            continue
        if name in KINDS:
            made[name] = [KINDS[name].shown(one) for one in cast("list[Entry]", value)]
        elif name == "resources":
            given = cast("dict[str, Value]", value)
            made[name] = {key: given[key] for key in RESOURCES if key in given}
        elif isinstance(value, dict):
            made[name] = {key: _escaped(name, value[key]) for key in sorted(value)}
        elif isinstance(value, list):
            made[name] = [_escaped(name, one) for one in value]
        else:
            made[name] = _escaped(name, value)
    return made


def _escaped(name: str, value: Value) -> Value:
    """Return a text so that a file that has it is read as this one was."""
    if name not in _TEMPLATES or not isinstance(value, str):
        return value
    return value.replace("${", "$${").replace("%{", "%%{")


def targets_listed(definition: Definition, *, as_json: bool) -> str:
    """Return the groups and targets, those that begin with ``_`` left out."""
    rows: list[dict[str, object]] = []
    for name in sorted({*definition.groups, *definition.targets}, key=_place):
        group, target = definition.groups.get(name), definition.targets.get(name)
        if name.startswith("_"):
            continue
        if target is not None:
            rows.append({"name": name, "description": target.text("description")})
        elif group is not None:
            shown = group.description or ", ".join(group.targets)
            rows.append({"name": name, "description": shown, "group": True})
    if as_json:
        return f"{_json(rows)}\n"
    return table(
        [["TARGET", "DESCRIPTION"], *([str(row["name"]), str(row["description"])] for row in rows)]
    )


def _place(name: str) -> tuple[bool, str]:
    return name != DEFAULT, name


def variables_listed(definition: Definition, *, as_json: bool) -> str:
    """Return the variables with their types, values and descriptions."""
    facts = definition.variables
    if as_json:
        rows: list[Mapping[str, object]] = []
        for one in facts:
            row = {
                "name": one.name,
                "description": one.description,
                "type": one.type,
                "value": one.value,
            }
            rows.append({key: value for key, value in row.items() if value not in ("", None)})
        return f"{_json(rows)}\n"
    lines = [["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"]]
    for one in facts:
        value = "<null>" if one.value is None else one.value
        lines.append([one.name, one.type, value, one.description])
    return table(lines)
