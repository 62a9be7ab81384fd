"""Checks, outlines and targets as text for people and as JSON of the shape that tools know [UI-6]."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pybuild.frontend.outline import MountInfo, Outline, StageInfo
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning
from pybuild.model.excerpt import excerpt
from pybuild.model.span import Span

# --- check ----------------------------------------------------------------------------------------


def check_text(warnings: Sequence[BuildWarning], lines: Sequence[str]) -> str:
    """Return the number of warnings, then each warning with its lines."""
    if not warnings:
        return "Check complete, no warnings found.\n"
    count = len(warnings)
    have = "1 warning has" if count == 1 else f"{count} warnings have"
    out = [f"Check complete, {have} been found!"]
    for warning in warnings:
        out += ["", f"WARNING: {warning.rule} - {warning.url}", warning.message]
        for span in warning.spans:
            out += excerpt(span, lines)
    return "\n".join(out) + "\n"


def check_json(
    warnings: Iterable[BuildWarning], error: PybuildError | None, filename: str, text: bytes
) -> str:
    result: dict[str, Any] = {
        "warnings": [
            {
                "ruleName": warning.rule,
                "description": " ".join(warning.detail),
                "url": warning.url,
                "detail": warning.message,
                "location": _location(warning.spans),
            }
            for warning in warnings
        ],
        "sources": [{"filename": filename, "language": "Dockerfile", "data": _source(text)}],
    }
    if error is not None:
        result["buildError"] = _present(
            message=error.message, location=_location(error.spans), hints=list(error.hints)
        )
    return _json(result)


# --- outline --------------------------------------------------------------------------------------


def outline_text(outline: Outline) -> str:
    """A table for each kind of thing that there is."""
    out = ""
    if outline.name or outline.description:
        rows = [["TARGET:", outline.name or "(default)"]]
        rows += [["DESCRIPTION:", outline.description]] if outline.description else []
        out += _table(rows, 1) + "\n"
    if outline.args:
        rows = [[arg.name, arg.value, arg.description] for arg in outline.args]
        out += _table([["BUILD ARG", "VALUE", "DESCRIPTION"], *rows], 3) + "\n"
    for title, mounts in (("SECRET", outline.secrets), ("SSH", outline.ssh)):
        if mounts:
            rows = [[mount.name, "true" if mount.required else ""] for mount in mounts]
            out += _table([[title, "REQUIRED"], *rows], 3) + "\n"
    if outline.caches:
        out += _table([["CACHE"], *([mount.name] for mount in outline.caches)], 3) + "\n"
    return out


def outline_json(outline: Outline, text: bytes) -> str:
    args = [
        _present(
            name=arg.name,
            description=arg.description,
            value=arg.value,
            location=_location((arg.span,)),
        )
        for arg in outline.args
    ]
    caches = [{"ID": mount.name, "location": _location((mount.span,))} for mount in outline.caches]
    return _json(
        _present(
            name=outline.name,
            description=outline.description,
            args=args,
            secrets=[_mount(mount) for mount in outline.secrets],
            ssh=[_mount(mount) for mount in outline.ssh],
            cache=caches,
            sources=[_source(text)],
        )
    )


def _mount(mount: MountInfo) -> dict[str, Any]:
    location = _location((mount.span,))
    return _present(name=mount.name, required=mount.required, location=location)


# --- targets --------------------------------------------------------------------------------------


def targets_text(stages: Sequence[StageInfo]) -> str:
    rows = [["TARGET", "DESCRIPTION"]]
    for stage in stages:
        words = [stage.name, "(default)" if stage.default else ""]
        rows.append([" ".join(filter(None, words)), stage.description])
    return _table(rows, 1)


def targets_json(stages: Sequence[StageInfo], text: bytes) -> str:
    targets = [
        _present(
            name=stage.name,
            default=stage.default,
            description=stage.description,
            base=stage.base,
            platform=stage.platform,
            location=_location((stage.span,)),
        )
        for stage in stages
    ]
    return _json({"targets": targets, "sources": [_source(text)]})


# --- parts ----------------------------------------------------------------------------------------


def _location(spans: Iterable[Span]) -> dict[str, Any]:
    return {
        "ranges": [
            {"start": {"line": span.first_line}, "end": {"line": span.last_line}} for span in spans
        ]
    }


def _source(text: bytes) -> str:
    return base64.b64encode(text).decode("ascii")


def _present(**fields: Any) -> dict[str, Any]:
    """Leave out what is empty."""
    return {key: value for key, value in fields.items() if value not in ("", False, [])}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _table(rows: Sequence[Sequence[str]], gap: int) -> str:
    """Columns as wide as they must be; no spaces at the ends of lines."""
    widths = [max(map(len, column)) + gap for column in zip(*rows, strict=True)]
    lines = (
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines) + "\n"
