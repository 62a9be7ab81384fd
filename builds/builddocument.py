"""A build of the history as a JSON document, by docker's names for its parts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pybuild.builds.buildrecord import BuildRecord, BuildStatus


def document_of(record: BuildRecord) -> dict[str, Any]:
    """Return *record* as docker's ``history inspect`` writes it, and the parts that are ours alone."""
    took = time.time() - record.at if record.seconds is None else record.seconds
    attrs = dict(record.attrs)
    no_cache = attrs.pop("no-cache", None)
    contexts, labels = _taken(attrs, "context:"), _taken(attrs, "label:")
    platforms = attrs.pop("platform", "")
    rest = {name: value for name, value in attrs.items() if ":" not in name}
    document: dict[str, Any] = {
        "Name": record.name,
        "Ref": record.id,
        "Context": record.context,
        "Dockerfile": record.dockerfile,
        "VCSRepository": attrs.get("vcs:source", ""),
        "VCSRevision": attrs.get("vcs:revision", ""),
        "Target": record.target,
        "Platform": platforms.split(",") if platforms else [],
        "NamedContexts": contexts,
        "StartedAt": rfc3339(record.at),
        "CompletedAt": "" if record.seconds is None else rfc3339(record.at + record.seconds),
        "Duration": int(took * 1e9),
        "Status": "failed" if record.status is BuildStatus.ERROR else str(record.status),
        "Error": {"Message": record.error, "Name": record.step, "Logs": list(record.log)}
        if record.error
        else {},
        "NumCompletedSteps": record.completed,
        "NumTotalSteps": record.total,
        "NumCachedSteps": record.cached,
        "BuildArgs": _pairs(arg.partition("=")[::2] for arg in record.args),
        "Labels": labels,
        "Config": {
            "NoCache": no_cache == "",
            "NoCacheFilter": no_cache.split(",") if no_cache else [],
            "RestRaw": _pairs(rest.items()),
        },
        "ClientRef": record.ref,
        "Images": list(record.images),
        "ImageID": record.image_id,
        "Names": list(record.names),
        "Tags": list(record.tags),
        "NumWarnings": record.warnings,
    }
    return document


def _taken(attrs: dict[str, str], start: str) -> list[dict[str, str]]:
    names = [name for name in attrs if name.startswith(start)]
    return _pairs((name.removeprefix(start), attrs.pop(name)) for name in names)


def _pairs(items: Iterable[tuple[str, ...]]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in items]


def rfc3339(seconds: float) -> str:
    """Return a time as docker writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
