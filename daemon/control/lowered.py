"""Between what our frontend knows of an image and the config that travels with a reference [6].

In the config that a client sees, entries of the history that this build adds have no time yet:
when their layers were made is known once they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pybuild.frontend.lowering import HistoryItem, Lowered
from pybuild.image.config import encode, format_time
from pybuild.model.errors import UserError
from pybuild.model.ops import Vertex
from pybuild.model.platform import Platform

EXPORTER_COMMENT = "buildkit.exporter.image.v0"


def gateway_config(lowered: Lowered) -> bytes:
    """Return the image config of a reference as clients read it."""
    base: list[dict[str, Any]] = lowered.config.get("history") or []
    history = [dict(entry) for entry in base]
    for item in lowered.history:
        entry: dict[str, Any] = {"created_by": item.created_by, "comment": item.comment}
        if lowered.epoch is not None:
            entry["created"] = format_time(lowered.epoch)
        if item.vertex is None:
            entry["empty_layer"] = True
        history.append(entry)
    config = {**lowered.config, "history": history, "rootfs": {"type": "layers"}}
    return encode({name: config[name] for name in sorted(config)})


def lowered_from(
    vertex: Vertex, config: Mapping[str, Any] | None, platform: Platform, epoch: int | None
) -> Lowered:
    """Return what an exporter needs to know of a reference that some other frontend made.

    Args:
        config: as it came with the reference; None for a tree without one.

    Raises:
        UserError: it cannot be the config of an image.
    """
    document: dict[str, Any] = json.loads(json.dumps(config)) if config else {}
    document.pop("rootfs", None)
    history: list[dict[str, Any]] = document.pop("history", None) or []
    given: object = history
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in history):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError("failed to parse image config: history is no list of objects")
    added = len(history)
    while added and not history[added - 1].get("created"):
        added -= 1
    base = [entry for entry in history[:added] if not entry.get("empty_layer")]
    document["history"] = history[:added]
    document.setdefault("os", platform.os)
    document.setdefault("architecture", platform.arch)
    if platform.variant:
        document.setdefault("variant", platform.variant)
    return Lowered(
        result=vertex,
        config=document,
        base_layer_count=len(base),
        history=tuple(
            HistoryItem(
                created_by=str(entry.get("created_by", "")),
                vertex=None if entry.get("empty_layer") else vertex,
                comment=str(entry.get("comment", "")),
            )
            for entry in history[added:]
        ),
        contexts=frozenset(),
        platform=platform,
        epoch=epoch,
    )
