"""Volumes in docker's words: a row of a list, the document of inspect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pybuild.volumes.mountpoint import LOCAL
from pybuild.volumes.volume import LocalVolume


def row_of(volume: LocalVolume) -> dict[str, Any]:
    return {
        "Availability": "N/A",
        "Driver": LOCAL,
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }


def document(volume: LocalVolume) -> dict[str, Any]:
    """Return a volume as docker's inspect has it."""
    created = datetime.fromtimestamp(volume.created // 1_000_000_000, UTC)
    return {
        "CreatedAt": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        "Driver": LOCAL,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }
