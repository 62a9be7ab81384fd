"""Frees a layout directory of blobs that its index does not lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pybuild.cache.content.layoutdirectory import LayoutDirectory
from pybuild.exporter.directories import open_output
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError

_MOST_DOCUMENTS = 10_000


def sweep(path: str, before: float) -> int:
    """Delete blobs last written or wanted before then that nothing names; return how many.

    The caller keeps others from changing the index meanwhile. Where a document cannot be read, as
    in a layout that others made in ways of their own, all stays.
    """
    try:
        reachable = set(_reachable(LayoutDirectory(path)))
    except (PybuildError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    deleted = 0
    blobs = os.path.join(path, "blobs")
    for algorithm in os.listdir(blobs):
        fd = open_output(os.path.join(blobs, algorithm))
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if f"{algorithm}:{entry.name}" in reachable:
                        continue
                    if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < before:
                        os.unlink(entry.name, dir_fd=fd)
                        deleted += 1
        finally:
            os.close(fd)
    return deleted


def _reachable(layout: LayoutDirectory) -> Iterator[str]:
    """Yield the digests of all blobs that the index leads to.

    Raises:
        PybuildError, ValueError, KeyError, TypeError, AttributeError: something is broken.
    """
    waiting = layout.entries()
    seen: set[Digest] = set()
    while waiting:
        blob = waiting.pop()
        yield blob.digest
        if blob.digest in seen or blob.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            continue
        seen.add(blob.digest)
        if len(seen) > _MOST_DOCUMENTS:
            raise ValueError("too many manifests")
        body: dict[str, Any] = layout.document(blob, MAX_MANIFEST_BYTES)
        named: list[Any] = [*(body.get("manifests") or ()), *(body.get("layers") or ())]
        named += [body[name] for name in ("config", "subject") if body.get(name)]
        waiting += [Descriptor.from_json(one) for one in named]
