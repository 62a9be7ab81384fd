"""The layers of files in lists of an image's contents, as BuildKit adds them to SPDX documents [ATT-3]."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pybuild.model.digest import Digest
from pybuild.model.package import VERSION

Layers = Sequence[tuple[str, Digest]]


def supplemented(document: Any, layers: Layers) -> Any:
    """Return *document* with a comment for each file that has none: the layer that it came with.

    What is no SPDX document stays as it is.

    Args:
        layers: directory and digest of each, the base first; those that are not unpacked have no files.
    """
    if not isinstance(document, dict) or not isinstance(document.get("spdxVersion"), str):  # pyright: ignore[reportUnknownMemberType]
        return document  # pyright: ignore[reportUnknownVariableType]
    known = cast(dict[str, Any], document)
    files = [_object(file) for file in _list(known.get("files"))]
    names = {_name(file) for file in files if not file.get("comment")}
    digests = _layers_of(names, layers)
    commented = [
        {**file, "comment": f"layerID: {digests[_name(file)]}"}
        if not file.get("comment") and _name(file) in digests
        else file
        for file in files
    ]
    about = _object(known.get("creationInfo"))
    creators = [*_list(about.get("creators")), f"Tool: pybuild-{VERSION}"]
    made: dict[str, Any] = {**known, "creationInfo": {**about, "creators": creators}}
    if files:
        made["files"] = commented
    return made


def _layers_of(names: set[str], layers: Layers) -> dict[str, Digest]:
    """Return the uppermost layer that has each file; one that took it away does not count."""
    digests: dict[str, Digest] = {}
    for top, digest in reversed(layers):
        missing = names - digests.keys()
        if not missing:
            break
        for folder, directories, files in os.walk(top):
            inside = folder.removeprefix(top)
            for name in (*directories, *files):
                path = f"{inside}/{name}"
                if path in missing and not _is_whiteout(f"{folder}/{name}"):
                    digests[path] = digest
    return digests


def _is_whiteout(path: str) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _name(file: Mapping[str, Any]) -> str:
    return os.path.normpath("/" + str(file.get("fileName") or "").lstrip("/"))


def _list(value: object) -> list[object]:
    return cast(list[object], value) if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
