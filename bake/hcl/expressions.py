"""The expressions of HCL, as a tree that gives a value in a scope."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from pybuild.bake.hcl import values
from pybuild.bake.hcl.values import Value, ValueProblem, bounded, kind, to_bool, to_number, to_text
from pybuild.model.dataclass import dataclass
from pybuild.model.span import Span
from pybuild.model.suggest import nearest

# HCL's own bound is the stack; a file whose expressions nest deeper than this is no file of people.
MOST_DEPTH = 150


class Function(Protocol):
    """A function; those that look at their arguments unevaluated are `Special`."""

    def __call__(self, *arguments: Value) -> Value: ...


@dataclass(frozen=True, slots=True)
class Special:
    """A function of expressions, such as ``try``."""

    call: Callable[[Sequence[Expression], NameScope], Value]


class NameScope(Protocol):
    """The names that an expression may use."""

    def variable(self, name: str) -> Value:
        """Return the value of a variable.

        Raises:
            ValueProblem: there is none of that name, or its value depends on itself.
        """
        ...

    def function(self, name: str) -> Function | Special:
        """Return a function.

        Raises:
            ValueProblem: there is none of that name.
        """
        ...

    def block(self, path: Sequence[str]) -> Value:
        """Return the value that ``target.NAME`` or ``target.NAME.FIELD`` stands for.

        Raises:
            ValueProblem: there is no such block or field, or it depends on itself.
        """
        ...

    def has_blocks(self, root: str) -> bool:
        """Whether *root* begins the paths of blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Inner:
    """A scope with names of its own inside of another, as in loops and functions."""

    outer: NameScope
    names: Mapping[str, Value]

    def variable(self, name: str) -> Value:
        return self.names[name] if name in self.names else self.outer.variable(name)

    def function(self, name: str) -> Function | Special:
        return self.outer.function(name)

    def block(self, path: Sequence[str]) -> Value:
        return self.outer.block(path)

    def has_blocks(self, root: str) -> bool:
        return root not in self.names and self.outer.has_blocks(root)


@dataclass(frozen=True, slots=True)
class Expression:
    """A part of a file that has a value."""

    span: Span

    def value(self, scope: NameScope) -> Value:
        """Return the value in *scope*.

        Raises:
            ValueProblem: it has none; with the place of the part that is wrong.
        """
        try:
            return bounded(self._value(scope))
        except ValueProblem as problem:
            if problem.spans:
                raise
            raise problem.with_spans([self.span]) from problem

    def _value(self, scope: NameScope) -> Value:
        raise NotImplementedError

    @property
    def keyword(self) -> str:
        """The name that the expression consists of; empty if it is more than a name."""
        return ""

    @property
    def path(self) -> tuple[str, ...]:
        """The names of ``a.b.c``; empty if it is anything else."""
        return ()


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    """A value written down."""

    literal: Value

    def _value(self, scope: NameScope) -> Value:
        return self.literal


@dataclass(frozen=True, slots=True)
class Name(Expression):
    """A variable."""

    name: str

    @property
    def keyword(self) -> str:
        return self.name

    @property
    def path(self) -> tuple[str, ...]:
        return (self.name,)

    def _value(self, scope: NameScope) -> Value:
        if scope.has_blocks(self.name):
            raise ValueProblem(f"cannot access {self.name} as a variable")
        return scope.variable(self.name)


@dataclass(frozen=True, slots=True)
class Parenthesised(Expression):
    """An expression in parentheses; as the key of an object it is no plain name."""

    inner: Expression

    def _value(self, scope: NameScope) -> Value:
        return self.inner.value(scope)


@dataclass(frozen=True, slots=True)
class Attribute(Expression):
    """The value of a name in an object: ``of.name``."""

    of: Expression
    name: str

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.of.path, self.name) if self.of.path else ()

    def _value(self, scope: NameScope) -> Value:
        path = self.path
        if path and scope.has_blocks(path[0]) and len(path) <= 3:
            return scope.block(path)
        return attribute(self.of.value(scope), self.name)


def attribute(of: Value, name: str) -> Value:
    """Return the value of *name* in an object.

    Raises:
        ValueProblem: there is none.
    """
    if not isinstance(of, dict):
        raise ValueProblem(f"unsupported attribute: {kind(of)} has no attribute {name}")
    if name not in of:
        raise ValueProblem(
            f'unsupported attribute: this object does not have an attribute named "{name}"'
        )
    return of[name]


@dataclass(frozen=True, slots=True)
class ElementOf(Expression):
    """The value at a place of a list or an object: ``of[at]``."""

    of: Expression
    at: Expression

    def _value(self, scope: NameScope) -> Value:
        return element(self.of.value(scope), self.at.value(scope))


def element(of: Value, at: Value) -> Value:
    """Return the value at a place.

    Raises:
        ValueProblem: there is none.
    """
    if isinstance(of, list):
        place = values.to_whole(at)
        if not 0 <= place < len(of):
            raise ValueProblem(f"invalid index: {place} of a list of {len(of)} elements")
        return of[place]
    if isinstance(of, dict):
        name = to_text(at)
        if name not in of:
            raise ValueProblem(f'invalid index: there is no element named "{name}"')
        return of[name]
    raise ValueProblem(f"invalid index: {kind(of)} has no elements")


@dataclass(frozen=True, slots=True)
class Splat(Expression):
    """The same part of every element: ``of[*].name``; of null nothing, of another value itself.

    Attributes:
        steps: the names and places that are taken of each.
    """

    of: Expression
    steps: tuple[str | Expression, ...]

    def _value(self, scope: NameScope) -> Value:
        of = self.of.value(scope)
        every = [] if of is None else of if isinstance(of, list) else [of]
        return [self._part(one, scope) for one in every]

    def _part(self, value: Value, scope: NameScope) -> Value:
        for step in self.steps:
            if isinstance(step, str):
                value = attribute(value, step)
            else:
                value = element(value, step.value(scope))
        return value


@dataclass(frozen=True, slots=True)
class Template(Expression):
    """A text with values in it."""

    parts: tuple[Expression, ...]

    def _value(self, scope: NameScope) -> Value:
        return "".join(_in_text(part, scope) for part in self.parts)


def _in_text(part: Expression, scope: NameScope) -> str:
    value = part.value(scope)
    if value is None:
        problem = ValueProblem("the expression result is null: it cannot be part of a text")
        raise problem.with_spans([part.span])
    try:
        return to_text(value)
    except ValueProblem as problem:
        raise problem.with_spans([part.span]) from problem


@dataclass(frozen=True, slots=True)
class ListOf(Expression):
    """A list, element by element."""

    elements: tuple[Expression, ...]

    def _value(self, scope: NameScope) -> Value:
        return [one.value(scope) for one in self.elements]


@dataclass(frozen=True, slots=True)
class ObjectOf(Expression):
    """An object, pair by pair; a key that is a plain name stands for itself."""

    pairs: tuple[tuple[Expression, Expression], ...]

    def _value(self, scope: NameScope) -> Value:
        made: dict[str, Value] = {}
        for key, value in self.pairs:
            name = key.keyword or _key(key, scope)
            made[name] = value.value(scope)
        return made


def _key(key: Expression, scope: NameScope) -> str:
    try:
        return to_text(key.value(scope))
    except ValueProblem as problem:
        raise problem.with_spans([key.span]) from problem


@dataclass(frozen=True, slots=True)
class ForLoop:
    """The head of a loop: the names of key and value, what it goes over, and which it takes."""

    key: str
    name: str
    over: Expression
    condition: Expression | None

    def scopes(self, scope: NameScope) -> Iterator[NameScope]:
        """Yield a scope for each element that the condition takes."""
        for key, value in values.items(self.over.value(scope)):
            names = {self.name: value} | ({self.key: key} if self.key else {})
            inner = Inner(scope, names)
            if self.condition is None or to_bool(self.condition.value(inner)):
                yield inner


@dataclass(frozen=True, slots=True)
class ListLoop(Expression):
    """``[for name in list: value if condition]``, or such a loop in a template."""

    loop: ForLoop
    each: Expression

    def _value(self, scope: NameScope) -> Value:
        return [self.each.value(inner) for inner in self.loop.scopes(scope)]


@dataclass(frozen=True, slots=True)
class TextLoop(Expression):
    """``%{for name in list}…%{endfor}``."""

    loop: ForLoop
    each: Expression

    def _value(self, scope: NameScope) -> Value:
        return "".join(_in_text(self.each, inner) for inner in self.loop.scopes(scope))


@dataclass(frozen=True, slots=True)
class ObjectLoop(Expression):
    """``{for key, value in object: key => value if condition}``; grouped: a list for each key."""

    loop: ForLoop
    key: Expression
    each: Expression
    grouped: bool

    def _value(self, scope: NameScope) -> Value:
        made: dict[str, Value] = {}
        groups: dict[str, list[Value]] = {}
        for inner in self.loop.scopes(scope):
            name = _key(self.key, inner)
            value = self.each.value(inner)
            if self.grouped:
                groups.setdefault(name, []).append(value)
            elif name in made:
                raise ValueProblem(f'duplicate object key: "{name}" (… groups equal keys)')
            else:
                made[name] = value
        return {**groups} if self.grouped else made


@dataclass(frozen=True, slots=True)
class Conditional(Expression):
    """``condition ? then : otherwise``; only the branch that is taken has to have a value."""

    condition: Expression
    then: Expression
    otherwise: Expression

    def _value(self, scope: NameScope) -> Value:
        condition = self.condition.value(scope)
        if condition is None:
            raise ValueProblem("the condition value is null: it must be true or false")
        taken, other = self.then, self.otherwise
        if not to_bool(condition):
            taken, other = other, taken
        value = taken.value(scope)
        if value is None or isinstance(value, str | list | dict):
            return value
        try:
            beside = other.value(scope)
        except ValueProblem:
            return value
        return values.one_kind([value, beside])[0]


def total(one: values.Number, other: values.Number) -> values.Number:
    """Return the sum of two numbers."""
    return values.number(values.NUMBERS.add(one, other))


def difference(one: values.Number, other: values.Number) -> values.Number:
    """Return one number less another."""
    return values.number(values.NUMBERS.subtract(one, other))


def product(one: values.Number, other: values.Number) -> values.Number:
    """Return the product of two numbers."""
    return values.number(values.NUMBERS.multiply(one, other))


def quotient(one: values.Number, other: values.Number) -> values.Number:
    """Return one number divided by another.

    Raises:
        ValueProblem: by zero.
    """
    if other == 0:
        raise ValueProblem("division by zero")
    return values.number(values.NUMBERS.divide(one, other))


def remainder(one: values.Number, other: values.Number) -> values.Number:
    """Return the rest of one number divided by another; it has the sign of the first.

    Raises:
        ValueProblem: by zero.
    """
    if other == 0:
        raise ValueProblem("division by zero")
    return values.number(values.NUMBERS.remainder(one, other))


_NUMBERS: dict[str, Callable[[values.Number, values.Number], Value]] = {
    "+": total,
    "-": difference,
    "*": product,
    "/": quotient,
    "%": remainder,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    """Two values and what is made of them."""

    sign: str
    left: Expression
    right: Expression

    def _value(self, scope: NameScope) -> Value:
        left, right = self.left.value(scope), self.right.value(scope)
        if self.sign in ("==", "!="):
            return values.equal(left, right) == (self.sign == "==")
        for side, value in ((self.left, left), (self.right, right)):
            if value is None:
                raise ValueProblem("argument must not be null").with_spans([side.span])
        if self.sign == "&&":
            return to_bool(left) and to_bool(right)
        if self.sign == "||":
            return to_bool(left) or to_bool(right)
        return _NUMBERS[self.sign](to_number(left), to_number(right))


@dataclass(frozen=True, slots=True)
class Unary(Expression):
    """``-value`` or ``!value``."""

    sign: str
    of: Expression

    def _value(self, scope: NameScope) -> Value:
        of = self.of.value(scope)
        return not to_bool(of) if self.sign == "!" else -to_number(of)


@dataclass(frozen=True, slots=True)
class FunctionCall(Expression):
    """A function and its arguments; *spread*: the last one is a list of arguments."""

    name: str
    arguments: tuple[Expression, ...]
    spread: bool = False

    def _value(self, scope: NameScope) -> Value:
        function = scope.function(self.name)
        if isinstance(function, Special):
            return function.call(self.arguments, scope)
        given = [one.value(scope) for one in self.arguments]
        if self.spread:
            given = given[:-1] + values.to_list(given[-1])
        try:
            return function(*given)
        except ValueProblem as problem:
            if problem.spans:
                raise
            raise problem.saying(
                f'error in function call: call to function "{self.name}" failed: {problem.message}'
            ) from problem


def unknown(what: str, name: str, known: Sequence[str]) -> ValueProblem:
    """Return the error that there is no *what* of that name."""
    near = nearest(name, known)
    hints = [f"did you mean {near}?"] if near else []
    return ValueProblem(f'there is no {what} named "{name}"', hints=hints)
