"""The form of a function: how many arguments it takes, and which of them may be null."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.bake.hcl.values import Value, ValueProblem
from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function of values.

    Attributes:
        least, most: numbers of arguments; most < 0: any.
    """

    call: Callable[..., Value]
    least: int
    most: int
    nulls: bool = False

    def __call__(self, *arguments: Value) -> Value:
        if len(arguments) < self.least or 0 <= self.most < len(arguments):
            few = len(arguments) < self.least
            bound = self.least if few else self.most
            raise ValueProblem(
                f"{'not enough' if few else 'too many'} arguments: "
                f"{len(arguments)} where {bound} are expected"
            )
        if not self.nulls and any(one is None for one in arguments):
            raise ValueProblem("argument must not be null")
        return self.call(*arguments)


def of_none(call: Callable[[], Value]) -> Builtin:
    """Return a function without arguments."""
    return Builtin(call, 0, 0)


def of_one(call: Callable[[Value], Value], *, nulls: bool = False) -> Builtin:
    """Return a function of one value."""
    return Builtin(call, 1, 1, nulls)


def of_two(call: Callable[[Value, Value], Value], *, nulls: bool = False) -> Builtin:
    """Return a function of two values."""
    return Builtin(call, 2, 2, nulls)
