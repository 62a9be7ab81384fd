"""The values of expressions, and how HCL makes one kind of another.

A number is an `int` where it is whole, else a `Decimal`; a set is a list in order without doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import TypeAlias

from pybuild.model.errors import UserError

Number: TypeAlias = int | Decimal
Value: TypeAlias = "bool | int | Decimal | str | list[Value] | dict[str, Value] | None"

# HCL counts with 512 bits: 154 decimal digits.
NUMBERS = Context(prec=154)
_NOTHING = Decimal("1e-145")
_MOST_TEXT, _MOST_VALUES = 16 << 20, 1_000_000


class ValueProblem(UserError):
    """A value is not of the kind that is needed; the place is added by the expression it stands in."""


def number(value: Decimal | float) -> Number:
    """Return a number in the form that equal numbers share; a third of three is one."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    whole = exact.to_integral_value()
    return int(whole) if abs(NUMBERS.subtract(exact, whole)) < _NOTHING else exact


def kind(value: Value) -> str:
    """Return the name of a value's kind, as people know it."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | Decimal():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "object"


def bounded(value: Value) -> Value:
    """Return the value of an expression, if it is no longer than one that people mean can be.

    Raises:
        ValueProblem: a few lines that double it again and again would fill the memory.
    """
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise ValueProblem(f"the text has more than {_MOST_TEXT} characters")
    if isinstance(value, list | dict) and len(value) > _MOST_VALUES:
        raise ValueProblem(f"the {kind(value)} has more than {_MOST_VALUES} elements")
    return value


def to_text(value: Value) -> str:
    """Return a value as a string.

    Raises:
        ValueProblem: it is null, a list or an object.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return f"{value.normalize(NUMBERS):f}"
        case _:
            raise ValueProblem(f"string required, not {kind(value)}")


def to_number(value: Value) -> Number:
    """Return a value as a number.

    Raises:
        ValueProblem: it is none, nor the text of one.
    """
    if isinstance(value, str):
        try:
            read = Decimal(value)
        except InvalidOperation:
            read = Decimal("NaN")
        if read.is_finite() and "_" not in value:
            return number(read)
        raise ValueProblem(f'a number is required, not "{value}"')
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueProblem(f"number required, not {kind(value)}")
    return value


def to_whole(value: Value) -> int:
    """Return a value as a whole number.

    Raises:
        ValueProblem: it is none.
    """
    read = to_number(value)
    if not isinstance(read, int):
        raise ValueProblem(f"a whole number is required, not {to_text(read)}")
    return read


def to_bool(value: Value) -> bool:
    """Return a value as true or false.

    Raises:
        ValueProblem: it is neither, nor the text of one.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in ("true", "1", "false", "0"):
        return value in ("true", "1")
    shown = f'"{value}"' if isinstance(value, str) else kind(value)
    raise ValueProblem(f"bool required, not {shown}")


def to_list(value: Value) -> list[Value]:
    """Return a list, or the values of an object in the order of their names.

    Raises:
        ValueProblem: it is neither.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value[name] for name in sorted(value)]
    raise ValueProblem(f"list required, not {kind(value)}")


def to_object(value: Value) -> dict[str, Value]:
    """Return an object.

    Raises:
        ValueProblem: it is none.
    """
    if isinstance(value, dict):
        return value
    raise ValueProblem(f"object required, not {kind(value)}")


def items(value: Value) -> list[tuple[Value, Value]]:
    """Return the keys and values that a loop goes through, those of objects by name.

    Raises:
        ValueProblem: it has no parts.
    """
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return [(name, value[name]) for name in sorted(value)]
    raise ValueProblem(f"a list or an object is required, not {kind(value)}")


def equal(one: Value, other: Value) -> bool:
    """Whether two values are of one kind and the same; a number is never equal to its text."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return kind(one) == kind(other) and one == other


def distinct(values: Sequence[Value]) -> list[Value]:
    """Return *values* without those that are equal to one before."""
    kept: list[Value] = []
    for value in values:
        if not any(equal(value, other) for other in kept):
            kept.append(value)
    return kept


def one_kind(values: Sequence[Value]) -> list[Value]:
    """Return primitive *values* as values of one kind: texts, unless all are of one already."""
    kinds = {kind(value) for value in values if value is not None}
    if len(kinds) > 1 and kinds <= {"bool", "number", "string"}:
        return [None if value is None else to_text(value) for value in values]
    return list(values)


def as_set(values: Sequence[Value]) -> list[Value]:
    """Return *values* as a set: each once, in order."""

    def place(value: Value) -> tuple[str, Number, str]:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return kind(value), value, ""
        return kind(value), 0, value if isinstance(value, str) else repr(value)

    return sorted(distinct(one_kind(values)), key=place)
