"""From our frontend's facts of an image to the config that travels with a reference, and back [6].

In the config that a client sees, entries of the history that this build adds have no time yet:
when their layers were made is known once they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pybuild.frontend.lowering.interface import HistoryItem, Lowered
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
    vertex: Vertex,
    config: Mapping[str, Any] | None,
    platform: Platform,
    *,
    base: Mapping[str, Any] | None = None,
    layers: int = 0,
    epoch: int | None = None,
) -> Lowered:
    """Return the facts of another frontend's tree that an exporter needs.

    Args:
        config: as it came with the reference; None for a tree without one.
        base: the config of the base image; without it nothing is taken for the base's, whose
            times are not to be changed.
        layers: of the tree.
        epoch: SOURCE_DATE_EPOCH as the frontend says it.

    Raises:
        UserError: it cannot be the config of an image.
    """
    document: dict[str, Any] = json.loads(json.dumps(config)) if config else {}
    document.pop("rootfs", None)
    history = _entries(document.pop("history", None))
    of_base = _entries((base or {}).get("history"))
    kept = 0
    while kept < min(len(history), len(of_base)) and _same(history[kept], of_base[kept]):
        kept += 1
    rootfs: Any = (base or {}).get("rootfs")
    diff_ids: Any = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    base_layers = min(len(diff_ids) if isinstance(diff_ids, list) else 0, layers)  # pyright: ignore[reportUnknownArgumentType]
    document["history"] = history[:kept]
    document["os"] = document.get("os") or platform.os
    document["architecture"] = document.get("architecture") or platform.arch
    if platform.variant:
        document.setdefault("variant", platform.variant)
    left = layers - base_layers
    added: list[HistoryItem] = []
    for entry in history[kept:]:
        has_layer = not entry.get("empty_layer") and left > 0
        left -= has_layer
        added.append(
            HistoryItem(
                created_by=str(entry.get("created_by", "")),
                vertex=vertex if has_layer else None,
                comment=str(entry.get("comment", "")),
                created=str(entry.get("created") or ""),
                author=str(entry.get("author", "")),
            )
        )
    return Lowered(
        result=vertex,
        config=document,
        base_layer_count=base_layers,
        history=tuple(added),
        contexts=frozenset(),
        platform=platform,
        epoch=epoch,
    )


def _entries(history: object) -> list[dict[str, Any]]:
    entries: Any = [] if history is None else history
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):  # pyright: ignore[reportUnknownVariableType]
        raise UserError("failed to parse image config: history is no list of objects")
    return entries  # pyright: ignore[reportUnknownVariableType]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Compare entries of a history; a missing field and an empty one are the same."""
    return {k: v for k, v in one.items() if v} == {k: v for k, v in other.items() if v}
