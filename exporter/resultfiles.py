"""``--iidfile`` and ``--metadata-file``, looked at before a build and written after it.

Lean: the fully cached build writes them, too.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def check_result_files(*paths: str) -> None:
    """See that ``--iidfile`` and ``--metadata-file`` can be written, before there is an id.

    Raises:
        UsageError, EnvironmentFault: one cannot be.
    """
    named = [path for path in paths if path]
    if named:
        from pybuild.exporter.check import check_file

        for path in named:
            check_file(path)


def write_results(
    iidfile: str, path: str, image_id: str | None, metadata: Mapping[str, Any]
) -> None:
    """Write *iidfile* and the metadata to *path*; "" is none."""
    if iidfile or path:
        from pybuild.exporter.atomicfile import write_whole

        if iidfile and image_id:
            write_whole(iidfile, image_id)
        if path:
            write_whole(path, json.dumps(metadata, indent=2) + "\n")


def write_digest(path: str, metadata: str) -> None:
    """Write the image's digest that is in the file *metadata* to *path*, and remove that file."""
    import os

    from pybuild.exporter.atomicfile import write_whole

    with open(metadata, encoding="utf-8") as file:
        facts = json.load(file)
    write_whole(path, str(facts.get("containerimage.digest", "")))
    os.unlink(metadata)
