"""``format`` and ``formatlist``: texts by the verbs of Go."""

from __future__ import annotations

import json
import re

from pybuild.bake.hcl.functions.encodings import json_of
from pybuild.bake.hcl.values import (
    Value,
    ValueProblem,
    kind,
    to_bool,
    to_number,
    to_text,
    to_whole,
)

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d*))?(?:\[(?P<at>\d+)\])?(?P<verb>.)",
    re.DOTALL,
)
_MOST, _MOST_TEXT = 1_000_000, 16 << 20
_WHOLE = {"b": "b", "d": "d", "o": "o", "x": "x", "X": "X"}


def formatted(template: Value, *arguments: Value) -> str:
    """Return *template* with each verb replaced by an argument.

    Raises:
        ValueProblem: an unknown verb, or not as many arguments as verbs.
    """
    text, at, used, length = to_text(template), 0, 0, 0

    def replace(match: re.Match[str]) -> str:
        nonlocal at, used, length
        if match["verb"] == "%":
            return "%"
        if match["at"]:
            at = _number(match["at"]) - 1
        if not 0 <= at < len(arguments):
            raise ValueProblem(f'not enough arguments for "{match[0]}" at {match.start()}')
        value, at = arguments[at], at + 1
        used = max(used, at)
        shown = _padded(match, value)
        length += len(shown)
        if length > _MOST_TEXT:
            raise ValueProblem(f"the text has more than {_MOST_TEXT} characters")
        return shown

    made = _VERB.sub(replace, text)
    if re.search(r"%\Z", _VERB.sub("", text)):
        raise ValueProblem("unrecognized format character at the end")
    if used < len(arguments):
        raise ValueProblem(f"too many arguments; only {used} used by format string")
    return made


def _number(digits: str) -> int:
    """Return a width, a precision or a place; Go has none above a million either.

    Raises:
        ValueProblem: it is larger.
    """
    if len(digits.lstrip("0")) > len(str(_MOST)) or int(digits[-9:] or 0) > _MOST:
        raise ValueProblem(f"{digits[:20]} in a format: at most {_MOST}")
    return int(digits[-9:] or 0)


def _padded(match: re.Match[str], value: Value) -> str:
    shown = _shown(match, value)
    width, flags = _number(match["width"]), match["flags"]
    if "-" in flags:
        return shown.ljust(width)
    is_number = match["verb"] in "bdoxXeEfgG"
    if "0" in flags and is_number:
        sign = shown[:1] if shown[:1] in "+-" else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _shown(match: re.Match[str], value: Value) -> str:
    verb, precision = match["verb"], match["precision"]
    if verb == "v":
        if "#" in match["flags"] or isinstance(value, list | dict) or value is None:
            return json_of(value)
        return to_text(value)
    if value is None:
        raise ValueProblem(f"unsupported value for {match[0]!r}: null value cannot be formatted")
    if verb in "sq":
        text = to_text(value)
        text = text if precision is None else text[: _number(precision)]
        return json.dumps(text, ensure_ascii=False) if verb == "q" else text
    if verb == "t":
        return "true" if to_bool(value) else "false"
    if verb in _WHOLE:
        whole = to_whole(value)
        return _signed(f"{whole:{_WHOLE[verb]}}", match["flags"])
    if verb in "eEfgG":
        places = 6 if precision is None else _number(precision)
        return _signed(_float(to_number(value), verb, places, precision is None), match["flags"])
    raise ValueProblem(f'unsupported format verb "{verb}" for {kind(value)}')


def _signed(text: str, flags: str) -> str:
    if text.startswith("-"):
        return text
    return "+" + text if "+" in flags else " " + text if " " in flags else text


def _float(value: object, verb: str, places: int, shortest: bool) -> str:
    as_float = float(str(value))
    if verb in "gG" and shortest:
        text = repr(as_float).removesuffix(".0")
        return text.upper() if verb == "G" else text
    return f"{as_float:.{places}{verb}}"


def format_list(template: Value, *arguments: Value) -> list[Value]:
    """Return a text for each element of the arguments that are lists.

    Raises:
        ValueProblem: lists of different lengths.
    """
    lengths = {len(one) for one in arguments if isinstance(one, list)}
    if len(lengths) > 1:
        raise ValueProblem("lists of different lengths cannot be formatted together")
    count = lengths.pop() if lengths else 1
    return [
        formatted(template, *(one[at] if isinstance(one, list) else one for one in arguments))
        for at in range(count)
    ]
