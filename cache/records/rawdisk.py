"""A diskcache whose values are bytes or text in the row itself, and nothing else.

diskcache keeps pickles by default, so whoever can write its database runs code in whoever reads
it (CVE-2025-69872, no release without it), and it reads and deletes any file that a row names.
`RawDisk` closes these doors: every other kind of row is *refused*. This module is imported only
when it is needed: diskcache's import takes longer than all of its work in a build.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any, NoReturn

import diskcache  # pyright: ignore[reportMissingTypeStubs]

# Larger than any value, so that diskcache never puts one in a file of its own.
_NEVER = 1 << 62


class Refused(Exception):
    """A row that we did not write."""


class RawDisk(diskcache.Disk):  # type: ignore[misc]
    """Text keys, with bytes or text as values, kept in the row."""

    def __init__(self, directory: str, **_settings: Any) -> None:
        # The settings come from the database, that is, from anybody.
        super().__init__(directory, min_file_size=_NEVER, pickle_protocol=0)

    def put(self, key: Any) -> tuple[Any, Any]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        if type(key) is not str or raw not in (1, True):
            raise Refused("a key that is no text")
        return key

    def store(self, value: Any, read: Any, key: Any = None) -> Any:
        if type(value) is not bytes or read:
            raise TypeError("values are bytes")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> str | bytes:
        if mode != diskcache.core.MODE_RAW or filename is not None or read:
            raise Refused("a value that is not in its row")
        if type(value) is not str and type(value) is not bytes:
            raise Refused("a value of another type")
        return value

    def filename(self, key: Any = None, value: Any = None) -> NoReturn:
        raise TypeError("no value has a file")

    def remove(self, file_path: Any) -> None:
        """Remove nothing: we have no value files, so the name was planted."""


def _vet_settings(database: str) -> None:
    """Refuse a database whose settings diskcache would let overwrite its own attributes.

    It sets every name that it finds there, be it ``_directory`` or ``get``.
    """
    if not os.path.exists(database):
        return
    known = {*diskcache.core.DEFAULT_SETTINGS, *diskcache.core.METADATA}
    with closing(sqlite3.connect(database)) as connection:
        try:
            rows = connection.execute("SELECT key FROM Settings").fetchall()
        except sqlite3.OperationalError:
            return  # no such table: new, or damaged in a way that shows at once
    if {key for (key,) in rows} - known:
        raise Refused("foreign settings")


def open_cache(directory: str, timeout_s: int, max_bytes: int = _NEVER) -> Any:
    """Open, or create, the database in *directory*; raises what SQLite and diskcache raise.

    Args:
        max_bytes: beyond it, those that were stored first go.
    """
    _vet_settings(os.path.join(directory, diskcache.core.DBNAME))
    return diskcache.Cache(
        directory,
        timeout=timeout_s,
        disk=RawDisk,
        eviction_policy="least-recently-stored",
        size_limit=max_bytes,
        statistics=0,
        tag_index=0,
        disk_min_file_size=_NEVER,
        disk_pickle_protocol=0,
        sqlite_auto_vacuum=1,
        sqlite_journal_mode="wal",
        sqlite_mmap_size=0,  # a file truncated by others is an error then, not a SIGBUS
        sqlite_synchronous=0,  # nobody waits for the disk; what a power failure takes is begun anew
    )


def is_damage(error: Exception) -> bool:
    """Return whether the error is of the database, and not of the disk or of others who use it."""
    if isinstance(error, OSError | MemoryError | diskcache.Timeout):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
