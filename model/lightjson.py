"""JSON by the interpreter's own C parts: the modules around them load re and enum, which takes longer than a command.

`loads` and `dumps` are those of `json`, as far as our own files need them.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BLANKS = " \t\n\r"


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not of JSON")


class _Rules:
    """Settings of the scanner: those that `json.loads` has by default."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float  # NaN, Infinity, -Infinity


_rules: Any = _Rules
_scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_rules)


def loads(data: bytes | str) -> Any:
    """Return the value of a text.

    Raises:
        ValueError: it is not JSON. RecursionError: it is nested too deeply.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "surrogatepass")
        text = text.strip(_BLANKS)
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except (StopIteration, ValueError, SystemError):
        pass  # the last of them where json is not loaded, in which the scanner looks for its error
    import json  # which knows other encodings, and says what is wrong

    return json.loads(data)


def dumps(
    value: object,
    *,
    sort_keys: bool = False,
    separators: tuple[str, str] = (", ", ": "),
    ensure_ascii: bool = True,
    default: Callable[[Any], object] = _refuse,
) -> str:
    """Return the text of a value.

    Args:
        separators: of members, and of a key and its value.
        default: returns what to write of a value that JSON has none of.

    Raises:
        ValueError: it holds itself. TypeError: it holds what JSON has none of.
    """
    text = encode_basestring_ascii if ensure_ascii else encode_basestring
    between, behind_key = separators
    encode = make_encoder({}, default, text, None, behind_key, between, sort_keys, False, True)
    return "".join(encode(value, 0))
