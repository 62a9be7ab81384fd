"""The parts of a bake file: fields with expressions, blocks with labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pybuild.bake.hcl.expressions import Expression
from pybuild.model.dataclass import dataclass
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True)
class Field:
    """``name = expression``."""

    name: str
    expression: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Body:
    """The fields and blocks between braces, or of a file."""

    fields: Mapping[str, Field] = field(default_factory=dict[str, Field])
    blocks: tuple[HclBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class HclBlock:
    """``type "label" {…}``."""

    type: str
    labels: tuple[str, ...]
    body: Body
    span: Span
