"""The records of a store that an earlier pybuild wrote, which had a diskcache keep them all.

They move to the table of `Records` when a build first uses the store. Lists of files do not: they
come again with the steps that read the files.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pybuild.cache.records.rawdisk import is_damage, open_cache
from pybuild.model.errors import EnvironmentFault

if TYPE_CHECKING:
    from pybuild.cache.disk.atomic import Warn

_BUSY_S = 30


def earlier_records(folder: str, warn: Warn) -> list[tuple[str, str, str]]:
    """Return kind, key and text of each record in *folder*; of a damaged database, those it gives.

    Raises:
        EnvironmentFault: it cannot be read now.
    """
    rows: list[tuple[str, str, str]] = []
    try:
        with closing(open_cache(folder, _BUSY_S)) as cache:
            for name in cache:
                kind, _, key = name.partition(":")
                text = None if kind == "listing" else cache.get(name)
                if isinstance(text, str):
                    rows.append((kind, key, text))
    except Exception as error:  # diskcache trips over what it did not write, in whatever way
        if not is_damage(error):
            raise EnvironmentFault(
                f"cannot read the cache records of an earlier pybuild in {folder}: {error}"
            ) from error
        warn(f"cache records of an earlier pybuild were damaged, and are lost: {error}")
    return rows
