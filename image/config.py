"""The image config: what the frontend knows, put together with what the build produced [CFG, IMG-18].

Top-level fields are sorted by name, as the reference's exporter leaves them; fields inside
``config`` and ``history`` have the order of the reference's structures, unknown ones follow sorted
[REP-6]. No blanks, UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.border import NamedTuple
from pybuild.model.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


EXPORTER_COMMENT = "buildkit.exporter.image.v0"
INLINE_CACHE = "moby.buildkit.cache.v0"
"""The field that holds a cache document, for `pybuild.image.cacheformat`."""

_CONFIG_ORDER = (
    ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels")
    + ("StopSignal", "ArgsEscaped", "Memory", "MemorySwap", "CpuShares", "Healthcheck", "OnBuild")
    + ("StopTimeout", "Shell")
)
_HISTORY_ORDER = ("created", "created_by", "author", "comment", "empty_layer")
# What engines wrote about the container that an image was committed from [CFG-2].
_NOT_WRITTEN = frozenset(("container", "container_config", "docker_version"))


class NewHistory(NamedTuple):
    """One entry that this build adds [CFG-4].

    Attributes:
        created: seconds since the epoch, or as it is written; None for entries without a layer,
            filled in.
        empty_layer: it has no layer.
    """

    created_by: str
    created: float | str | None = None
    empty_layer: bool = False
    comment: str = "buildkit.dockerfile.v0"
    author: str = ""


def assemble_config(
    config: Mapping[str, Any],
    diff_ids: Sequence[Digest],
    new_history: Sequence[NewHistory],
    *,
    base_layer_count: int | None = None,
    epoch: float | None = None,
) -> bytes:
    """Return the bytes of the image config.

    Args:
        config: without ``rootfs``; ``history`` holds the base's entries, unknown fields are kept;
            ``created`` only where it is not to be that of the newest entry.
        diff_ids: of all layers, base first.
        new_history: the entries that the build adds. Layers without an entry get one [CFG].
        base_layer_count: how many layers are the base's; None: all that *new_history* leaves.
        epoch: SOURCE_DATE_EPOCH: later times become this one; the base's entries keep theirs.

    Raises:
        ValueError: ``os`` or ``architecture`` is missing, or there are more entries with a layer
            than layers that the build made.
    """
    for name in ("os", "architecture"):
        if not config.get(name):
            raise ValueError(f"invalid image config for export: missing {name}")
    if base_layer_count is None:
        base_layer_count = len(diff_ids) - sum(1 for entry in new_history if not entry.empty_layer)
        if base_layer_count < 0:
            raise ValueError(f"history has more entries than the {len(diff_ids)} layers")
    base = _align_base(config.get("history") or [], base_layer_count)
    added = _added(new_history, len(diff_ids) - base_layer_count)
    history = _fill_times(base + added)
    if epoch is not None:
        history = history[: len(base)] + [_clamp(entry, epoch) for entry in history[len(base) :]]
    whole = {
        name: value for name, value in config.items() if name not in _NOT_WRITTEN and value != ""
    }
    whole["config"] = _ordered(config.get("config") or {}, _CONFIG_ORDER)
    whole["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}
    whole["history"] = [_ordered(entry, _HISTORY_ORDER) for entry in history]
    created = str(whole.pop("created", None) or "")
    if created and epoch is not None:
        created = _clamp({"created": created}, epoch)["created"]
    created = created or _last(history)
    if created:
        whole["created"] = created
    return encode({name: whole[name] for name in sorted(whole)})


def encode(value: object) -> bytes:
    """Write JSON as registries store it: fields in the order given, no blanks, always UTF-8.

    What is no text (bytes of an environment value that are not UTF-8) becomes U+FFFD, as in Go.
    """
    import json

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def format_time(seconds: float) -> str:
    """Write a time as Go does: UTC, RFC 3339, microseconds at most, no zeros at the end.

    Raises:
        ValueError: outside the years 1 to 9999.
    """
    from datetime import UTC, datetime, timedelta

    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)
    except OverflowError as error:
        raise ValueError(f"time {seconds} is out of range") from error
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    return moment.strftime(f"{moment.year:04d}-%m-%dT%H:%M:%S") + fraction + "Z"


def parse_time(text: str) -> float | None:
    """Read an RFC 3339 time of a config; None where it is none, as foreign configs may have it."""
    import re
    from datetime import datetime

    match = re.match(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z", text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return None
    return whole.timestamp() + float(fraction or 0)


def _align_base(history: Sequence[Any], layers: int) -> list[dict[str, Any]]:
    """Make the base's entries with a layer as many as its layers, whatever it says [CFG-3]."""
    aligned: list[dict[str, Any]] = []
    count = 0
    for item in history:
        entry: dict[str, Any] = dict(item) if isinstance(item, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
        if not entry.get("empty_layer"):
            if count < layers:
                count += 1
            else:
                entry["empty_layer"] = True
        aligned.append(entry)
    missing: dict[str, Any] = {"comment": EXPORTER_COMMENT}
    aligned.extend(dict(missing) for _ in range(layers - count))
    return aligned


def _added(entries: Sequence[NewHistory], layers: int) -> list[dict[str, Any]]:
    added: list[dict[str, Any]] = []
    for entry in entries:
        made: dict[str, Any] = {"comment": entry.comment} if entry.comment else {}
        if entry.created_by:
            made["created_by"] = entry.created_by
        if entry.author:
            made["author"] = entry.author
        if isinstance(entry.created, str):
            made["created"] = entry.created
        elif entry.created is not None:
            made["created"] = format_time(entry.created)
        if entry.empty_layer:
            made["empty_layer"] = True
        added.append(made)
    count = sum(1 for entry in entries if not entry.empty_layer)
    if count > layers:
        raise ValueError(f"{count} history entries for {layers} new layers")
    added.extend({"comment": EXPORTER_COMMENT} for _ in range(layers - count))
    return added


def _fill_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give entries without a time the one of the first new layer, later of the layer before.

    Source: BuildKit, exporter/containerimage/writer.go, normalizeLayersAndHistory.
    """
    created: str | None = None
    gap = False
    for entry in history:
        if entry.get("created"):
            created = entry["created"]
            if gap:
                break
        else:
            gap = True
    gap = False
    filled: list[dict[str, Any]] = []
    for entry in history:
        if entry.get("created"):
            if gap:
                created = entry["created"]
        else:
            gap = True
            if created is not None:
                entry = {**entry, "created": created}
        filled.append(entry)
    return filled


def _clamp(entry: dict[str, Any], epoch: float) -> dict[str, Any]:
    created = parse_time(str(entry.get("created", "")))
    if created is not None and created <= epoch:
        return entry
    return {**entry, "created": format_time(epoch)}


def _last(history: list[dict[str, Any]]) -> str:
    """Return the time of the last entry that has one; the base's are not clamped."""
    return next((str(entry["created"]) for entry in reversed(history) if entry.get("created")), "")


def _ordered(value: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """Known fields in *order*, the rest after them by name; maps inside by key."""
    names = [name for name in order if name in value]
    names += sorted(set(value) - set(order))
    return {name: _sorted_maps(value[name]) for name in names}


def _sorted_maps(value: Any) -> Any:
    if isinstance(value, Mapping):
        items: list[tuple[str, Any]] = sorted(value.items())  # pyright: ignore
        if any(key in ("Test", "Interval", "Retries") for key, _ in items):
            return dict(value)  # pyright: ignore  # a structure (Healthcheck), in its own order
        return {key: _sorted_maps(item) for key, item in items}
    return value
