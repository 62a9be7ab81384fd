"""The types that a variable may be declared to have, and values made to be of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

from pybuild.bake.hcl import values
from pybuild.bake.hcl.expressions import (
    Expression,
    Function,
    FunctionCall,
    ListOf,
    ObjectOf,
    Special,
)
from pybuild.bake.hcl.values import Number, Value, ValueProblem, kind
from pybuild.model.dataclass import dataclass

_PRIMITIVES = ("string", "number", "bool")
_COLLECTIONS = ("list", "set", "map")


@dataclass(frozen=True, slots=True)
class Simple:
    """``string``, ``number``, ``bool`` or ``any``."""

    name: str

    def __str__(self) -> str:
        return "dynamic" if self.name == "any" else self.name


@dataclass(frozen=True, slots=True)
class Collection:
    """``list(T)``, ``set(T)`` or ``map(T)``."""

    name: str
    of: Type

    def __str__(self) -> str:
        return f"{self.name} of {self.of}"


@dataclass(frozen=True, slots=True)
class Tuple:
    """``tuple([T, …])``."""

    of: tuple[Type, ...]

    def __str__(self) -> str:
        return "tuple"


@dataclass(frozen=True, slots=True)
class Object:
    """``object({name = T, …})``; those in *optional* may be missing, and then have that value."""

    of: Mapping[str, Type]
    optional: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def __str__(self) -> str:
        return "object"


Type: TypeAlias = Simple | Collection | Tuple | Object
ANY = Simple("any")


def is_primitive(type_: Type) -> bool:
    """Whether values of it are texts, numbers or truths."""
    return isinstance(type_, Simple) and type_.name in _PRIMITIVES


def read_type(written: Expression) -> Type:
    """Return the type that an expression names.

    Raises:
        ValueProblem: it names none.
    """
    if written.keyword in (*_PRIMITIVES, "any"):
        return Simple(written.keyword)
    if isinstance(written, FunctionCall) and len(written.arguments) == 1:
        inner = written.arguments[0]
        if written.name in _COLLECTIONS:
            return Collection(written.name, read_type(inner))
        if written.name == "tuple" and isinstance(inner, ListOf):
            return Tuple(tuple(map(read_type, inner.elements)))
        if written.name == "object" and isinstance(inner, ObjectOf):
            return _object(inner)
    named = "string, number, bool, any, list(…), set(…), map(…), tuple([…]), object({…})"
    problem = ValueProblem("invalid type specification", hints=[f"a type is one of {named}"])
    raise problem.with_spans([written.span])


def _object(written: ObjectOf) -> Object:
    of: dict[str, Type] = {}
    optional: dict[str, Value] = {}
    for key, value in written.pairs:
        if not key.keyword:
            raise ValueProblem("object constructor map keys must be attribute names").with_spans(
                [key.span]
            )
        if isinstance(value, FunctionCall) and value.name == "optional" and value.arguments:
            of[key.keyword] = read_type(value.arguments[0])
            rest = value.arguments[1:]
            optional[key.keyword] = rest[0].value(_NO_NAMES) if rest else None
        else:
            of[key.keyword] = read_type(value)
    return Object(of, optional)


class _NoNames:
    """A scope in which nothing has a name."""

    def variable(self, name: str) -> Value:
        raise ValueProblem(f"no variables here: {name}")

    def function(self, name: str) -> Function | Special:
        raise ValueProblem(f"no functions here: {name}")

    def block(self, path: Sequence[str]) -> Value:
        raise ValueProblem(f"no blocks here: {path[0]}")

    def has_blocks(self, root: str) -> bool:
        return False


_NO_NAMES = _NoNames()


def converted(value: Value, type_: Type) -> Value:
    """Return *value* as one of *type_*.

    Raises:
        ValueProblem: it cannot be one.
    """
    if value is None or type_ == ANY:
        return value
    match type_:
        case Simple("string"):
            return values.to_text(value)
        case Simple("number"):
            return values.to_number(value)
        case Simple():
            return values.to_bool(value)
        case Collection("map", of):
            inside = values.to_object(value)
            return {name: converted(one, of) for name, one in inside.items()}
        case Collection(name, of):
            if not isinstance(value, list):
                raise ValueProblem(f"{type_} required, not {kind(value)}")
            made = [converted(one, of) for one in value]
            if of == ANY:
                made = values.one_kind(made)
            return values.as_set(made) if name == "set" else made
        case Tuple(of):
            if not isinstance(value, list) or len(value) != len(of):
                raise ValueProblem(f"tuple of {len(of)} elements required")
            return [converted(one, part) for one, part in zip(value, of, strict=True)]
        case Object(of, optional):
            return _converted_object(values.to_object(value), of, optional)


def _converted_object(
    value: Mapping[str, Value], of: Mapping[str, Type], optional: Mapping[str, Value]
) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for name, part in of.items():
        if name in value:
            given = value[name]
        elif name in optional:
            given = optional[name]
        else:
            raise ValueProblem(f'attribute "{name}" is required')
        made[name] = converted(given, part)
    return made


def primitive_from(name: str, text: str, type_: Type) -> str | bool | Number:
    """Return the value of a text from outside, as one of a primitive type.

    Args:
        name: of the variable, for errors.

    Raises:
        ValueProblem: it has none.
    """
    from pybuild.model.text import boolean

    if not is_primitive(type_):
        raise ValueProblem(f"{name} of type {type_} is not a primitive")
    if type_ == Simple("string"):
        return text
    if type_ == Simple("bool"):
        truth = boolean(text)
        if truth is None:
            raise ValueProblem(f'failed to parse {name} as bool: "{text}" is none')
        return truth
    try:
        return values.to_number(text)
    except ValueProblem as problem:
        raise problem.saying(f'failed to parse {name} as number: "{text}" is none') from problem


def fields_from(name: str, fields: Sequence[str], type_: Type) -> Value:
    """Return the value of the *fields* of a CSV record, as one of a list, set, map or tuple.

    Raises:
        ValueProblem: the type holds more than primitives, or a field is none.
    """
    match type_:
        case Tuple(of):
            if len(of) != len(fields):
                raise ValueProblem(
                    f"tuple expects {len(of)} elements but only {len(fields)} provided"
                )
            return [primitive_from(name, *one) for one in zip(fields, of, strict=True)]
        case Collection("map", of):
            made: dict[str, Value] = {}
            for one in fields:
                key, colon, value = one.partition(":")
                if not colon:
                    raise ValueProblem(f'expected one key:value pair in {name}, not "{one}"')
                made[key] = primitive_from(name, value, of)
            return made
        case Collection(kind_, of):
            each: list[Value] = [primitive_from(name, one, of) for one in fields]
            return values.as_set(each) if kind_ == "set" else each
        case _:
            raise ValueProblem(f"unsupported type {type_} for CSV specification")
