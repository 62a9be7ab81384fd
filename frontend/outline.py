"""What a file offers, without building anything: ``--call=targets`` [UI-5, UI-6]."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybuild.frontend import ast
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInfo:
    """A stage as ``--call=targets`` lists it [UI-5, UI-6]."""

    name: str
    base: str
    platform: str
    description: str
    default: bool
    span: Span


def list_stages(dockerfile: ast.Dockerfile) -> tuple[StageInfo, ...]:
    """Return all stages in file order; nothing is expanded."""
    last = len(dockerfile.stages) - 1
    return tuple(
        StageInfo(
            name=stage.start.name,
            base=stage.start.base,
            platform=stage.start.platform,
            description=doc_comment(stage.start.comments, stage.start.name),
            default=index == last,
            span=stage.start.span,
        )
        for index, stage in enumerate(dockerfile.stages)
    )


def doc_comment(comments: Iterable[str], name: str) -> str:
    """Return what the comment above a definition says about *name* [UI-5]."""
    for line in comments:
        if name and line.strip().startswith(name + " "):
            return line.strip()[len(name) + 1 :]
    return ""
