"""Bake files in JSON: the same blocks and expressions, texts of which may be templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from pybuild.bake.hcl import expressions as tree
from pybuild.bake.hcl.body import Body, Field, HclBlock
from pybuild.bake.hcl.expressions import Expression
from pybuild.bake.hcl.syntax import read_expression, read_template
from pybuild.bake.hcl.values import Value
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span

_COMMENT = "//"
_INNER = {"variable": ("validation",)}  # blocks inside of blocks
# Fields whose texts are code, not texts with code in them.
_CODE = {"variable": ("type",), "function": ("params", "variadic_params")}


@dataclass(frozen=True, slots=True)
class _Word(tree.Literal):
    """A text that may stand for a name, as the parameters of functions do."""

    @property
    def keyword(self) -> str:
        return str(self.literal)


def read_json(text: bytes, filename: str, blocks: frozenset[str]) -> Body:
    """Read a file.

    Args:
        blocks: names at the top that hold blocks by label.

    Raises:
        UserError: it is not JSON, or a block is no object.
    """
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(
            f"{filename}: invalid JSON: {error}", spans=[Span(filename, line, line)]
        ) from error
    span = Span(filename, 1, 1)
    if not isinstance(read, dict):
        raise UserError(f"{filename}: a bake file is an object", spans=[span])
    return _body(cast("dict[str, object]", read), blocks, "", span)


def _body(read: Mapping[str, object], blocks: frozenset[str], type_: str, span: Span) -> Body:
    fields: dict[str, Field] = {}
    made: list[HclBlock] = []
    for name, value in read.items():
        if name == _COMMENT:
            continue
        if name in blocks:
            made += _labelled(name, value, span)
        elif name in _INNER.get(type_, ()):
            made += [
                HclBlock(name, (), _body(one, frozenset(), name, span), span)
                for one in _objects(name, value, span)
            ]
        else:
            is_code = name in _CODE.get(type_, ())
            made_of = _code(value, span) if is_code else _expression(value, span)
            fields[name] = Field(name, made_of, span)
    return Body(fields, tuple(made))


def _objects(name: str, value: object, span: Span) -> list[dict[str, object]]:
    every = cast("list[object]", value) if isinstance(value, list) else [value]
    for one in every:
        if not isinstance(one, dict):
            raise UserError(f"{span.file}: {name} is an object, or a list of them", spans=[span])
    return cast("list[dict[str, object]]", every)


def _labelled(type_: str, value: object, span: Span) -> list[HclBlock]:
    return [
        HclBlock(type_, (label,), _body(inner, frozenset(), type_, span), span)
        for holder in _objects(type_, value, span)
        for label, under in holder.items()
        if label != _COMMENT
        for inner in _objects(f"{type_} {label}", under, span)
    ]


def _code(value: object, span: Span) -> Expression:
    if isinstance(value, list):
        words = cast("list[object]", value)
        return tree.ListOf(span, tuple(_Word(span, str(word)) for word in words))
    return read_expression(str(value), span)


def _expression(value: object, span: Span) -> Expression:
    if isinstance(value, str):
        if "${" in value or "%{" in value:
            return read_template(value, span)
        return tree.Literal(span, value)
    if isinstance(value, list):
        parts = cast("list[object]", value)
        return tree.ListOf(span, tuple(_expression(part, span) for part in parts))
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return tree.ObjectOf(
            span,
            tuple(
                (_expression(name, span), _expression(one, span))
                for name, one in pairs.items()
                if name != _COMMENT
            ),
        )
    if isinstance(value, float):
        from decimal import Decimal

        from pybuild.bake.hcl.values import number

        return tree.Literal(span, number(Decimal(repr(value))))
    return tree.Literal(span, cast("Value", value))
