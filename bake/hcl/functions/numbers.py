"""Functions of numbers and truths."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from pybuild.bake.hcl import expressions, values
from pybuild.bake.hcl.functions.builtin import Builtin, of_one, of_two
from pybuild.bake.hcl.values import (
    Number,
    Value,
    ValueProblem,
    number,
    to_bool,
    to_number,
    to_text,
    to_whole,
)


def _two(of: Callable[[Number, Number], Value]) -> Builtin:
    return of_two(lambda one, other: of(to_number(one), to_number(other)))


def _rounded(way: str) -> Builtin:
    def call(value: Value) -> Value:
        return int(Decimal(to_number(value)).to_integral_value(way))

    return Builtin(call, 1, 1)


def _log(value: Value, base: Value) -> Value:
    of, by = to_number(value), to_number(base)
    if of <= 0 or by <= 0 or by == 1:
        raise ValueProblem("a logarithm is of a number above 0, to a base above 0 that is not 1")
    return number(math.log(of) / math.log(by))


def _pow(value: Value, power: Value) -> Value:
    of, to = to_number(value), to_number(power)
    if isinstance(of, int) and isinstance(to, int) and 0 <= to <= 10_000:
        return int(of**to)
    try:
        return number(math.pow(of, to))
    except (OverflowError, ValueError) as error:
        raise ValueProblem(f"no number that can be told: {error}") from error


def _extreme(choose: Callable[[list[Number]], Number]) -> Builtin:
    return Builtin(lambda *given: choose([to_number(one) for one in given]), 1, -1)


def _parse_int(text: Value, base: Value) -> Value:
    digits, to = to_text(text), to_whole(base)
    if not 2 <= to <= 62:
        raise ValueProblem("base must be a whole number between 2 and 62 inclusive")
    read, sign = 0, -1 if digits.startswith("-") else 1
    for digit in digits.removeprefix("-") or "?":
        place = _digit(digit, to)
        if not 0 <= place < to:
            raise ValueProblem(f'cannot parse "{digits}" as a base {to} integer')
        read = read * to + place
    return sign * read


def _digit(character: str, base: int) -> int:
    if base <= 36:
        character = character.lower()
    return "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".find(character)


NUMBER_FUNCTIONS: dict[str, Builtin] = {
    "absolute": of_one(lambda value: abs(to_number(value))),
    "add": _two(expressions.total),
    "and": of_two(lambda one, other: to_bool(one) and to_bool(other)),
    "ceil": _rounded(ROUND_CEILING),
    "divide": _two(expressions.quotient),
    "equal": Builtin(values.equal, 2, 2, nulls=True),
    "floor": _rounded(ROUND_FLOOR),
    "greaterthan": _two(lambda one, other: one > other),
    "greaterthanorequalto": _two(lambda one, other: one >= other),
    "int": of_one(lambda value: int(to_number(value))),
    "lessthan": _two(lambda one, other: one < other),
    "lessthanorequalto": _two(lambda one, other: one <= other),
    "log": Builtin(_log, 2, 2),
    "max": _extreme(max),
    "min": _extreme(min),
    "modulo": _two(expressions.remainder),
    "multiply": _two(expressions.product),
    "negate": of_one(lambda value: -to_number(value)),
    "not": of_one(lambda value: not to_bool(value)),
    "notequal": of_two(lambda one, other: not values.equal(one, other), nulls=True),
    "or": of_two(lambda one, other: to_bool(one) or to_bool(other)),
    "parseint": Builtin(_parse_int, 2, 2),
    "pow": Builtin(_pow, 2, 2),
    "signum": of_one(lambda value: (to_number(value) > 0) - (to_number(value) < 0)),
    "subtract": _two(expressions.difference),
}
