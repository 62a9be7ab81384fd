"""The few Go templates that scripts use with ``--format``: ``{{.A.B}}`` and ``{{json .A}}``."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from pybuild.model.errors import UsageError

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIELD = re.compile(r"\s*(json\s+)?\.((?:[A-Za-z_][\w]*)(?:\.[A-Za-z_][\w]*)*)?\s*\Z")
_INDEX = re.compile(r'\s*(json\s+)?\(?\s*index\s+\.([\w.]+)\s+"([^"]*)"\s*\)?((?:\.\w+)*)\s*\Z')


def rendered(template: str, values: dict[str, Any]) -> str:
    """Return *template* with its actions replaced; names are found in any case.

    Raises:
        UsageError: an action that is none of the known ones, or names nothing.
    """

    def replace(match: re.Match[str]) -> str:
        action = match[1]
        plain = _FIELD.match(action)
        if plain is not None:
            return _text(_walk(values, plain[2] or "", action), as_json=bool(plain[1]))
        indexed = _INDEX.match(action)
        if indexed is not None:
            outer = _walk(values, indexed[2], action)
            inner = _member(outer, indexed[3], action, exact=True)
            value = _walk(inner, indexed[4].lstrip("."), action)
            return _text(value, as_json=bool(indexed[1]))
        raise UsageError(
            f'template "{{{{{action}}}}}": expected {{{{.Name}}}}, {{{{json .Name}}}} or '
            '{{index .Name "key"}}'
        )

    return _ACTION.sub(replace, template)


def _walk(value: object, path: str, action: str) -> object:
    for name in filter(None, path.split(".")):
        value = _member(value, name, action)
    return value


def _member(value: object, name: str, action: str, *, exact: bool = False) -> object:
    known = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if name in known:
        return known[name]
    for key, member in known.items():
        if not exact and key.lower() == name.lower():
            return member
    raise UsageError(
        f'template "{{{{{action}}}}}": nothing is called "{name}"',
        hints=[f"there is {', '.join(sorted(known))}"] if known else [],
    )


def _text(value: object, *, as_json: bool) -> str:
    if as_json or not isinstance(value, str | int):
        return json.dumps(value, indent=None if as_json else 2)
    return str(value)
