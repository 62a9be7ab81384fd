"""Syntax trees as text for golden files: one line an instruction, one a part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from pybuild.frontend.syntax import ast

_COMMON = ("span", "keyword", "original", "comments", "flags")


def dump(file: ast.Dockerfile) -> str:
    """Return *file* as text; parts that have their default value are left out."""
    out: list[str] = []
    for name in ("syntax", "escape", "check"):
        value = getattr(file.directives, name)
        if value is not None and (name, value) != ("escape", "\\"):
            out.append(f"directive {name}={value!r}")
    for arg in file.global_args:
        out += _instruction(arg, "")
    for stage in file.stages:
        out.append(f"stage {stage.index}")
        for item in (stage.start, *stage.body):
            out += _instruction(item, "  ")
    for warning in file.warnings:
        out.append(f"warning {warning.span.first_line} {warning.rule}: {warning.message}")
    return "\n".join(out) + "\n"


def _instruction(item: ast.Instruction, indent: str) -> Iterator[str]:
    span = item.span
    yield f"{indent}{span.first_line}-{span.last_line} {type(item).__name__} {item.original!r}"
    indent += "    "
    if item.keyword != item.keyword.upper():
        yield f"{indent}keyword {item.keyword}"
    for comment in item.comments:
        yield f"{indent}comment {comment!r}"
    for flag in item.flags:
        yield f"{indent}flag {flag.name} {flag.value!r}"
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name not in _COMMON and value != field.default:
            yield from _value(field.name, value, indent)


def _value(name: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, ast.Instruction):
        yield f"{indent}{name}"
        yield from _instruction(value, indent + "  ")
    elif isinstance(value, tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _value(name, item, indent)  # pyright: ignore[reportUnknownArgumentType]
        if not value:
            yield f"{indent}{name} nothing"
    elif is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        shown = [
            f"{key}={parts[key]!r}"
            for key in parts
            if not is_dataclass(parts[key]) and not isinstance(parts[key], tuple)
        ]
        yield f"{indent}{name} {' '.join(shown)}"
        for key, part in parts.items():
            if is_dataclass(part) or (isinstance(part, tuple) and part):
                yield from _value(key, part, indent + "  ")  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield f"{indent}{name} {value!r}"
