"""Records: small JSON values under a kind and a key, kept in a diskcache made safe.

Nothing read here is believed: rows that are not ours are passed over, each value carries a digest
over its kind, key and text, and a database that SQLite finds damaged is moved aside as
``records.damaged-<n>`` and begun anew, with a warning. Losing records costs time, never a build.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from pybuild.cache.disk.atomic import Disk, Warn, fault, faults
from pybuild.cache.disk.locks import locked
from pybuild.model.jsontext import as_object, is_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any, TypeVar

    T = TypeVar("T")

MAX_VALUE_BYTES = 256 << 10
BUSY_S = 30
# Rows of ours only: text in the row itself.
_SELECT = (
    "SELECT key, value FROM Cache WHERE raw = 1 AND mode = 1 AND filename IS NULL"
    " AND typeof(key) = 'text' AND typeof(value) = 'text'"
)
# Of stores whose connections end with the process.
_LEFT_OPEN: list[object] = []
_SELECT_KEYS = _SELECT.replace("value", "''", 1)
# A database that breaks again and again is the disk's fault; then reads miss and writes fail.
_REBUILDS = 3


class RecordTooLarge(ValueError):
    """The value exceeds `MAX_VALUE_BYTES`; keep its bulk as a blob."""


class Records:
    """The records of one store. Safe to use from threads and processes at once.

    Attributes:
        read_only: read without diskcache, which writes when it opens; there may be no space, or
            no right, to. A database that turns out damaged is rebuilt all the same, if that can be.
        close_after_us: `close` leaves that to the end of the process. Whoever closes the last
            connection waits for the disk, and so does the next one, who makes the log anew.
    """

    def __init__(self, root: str, disk: Disk, warn: Warn) -> None:
        self._root = root
        self._folder = os.path.join(root, "records")
        self._database = os.path.join(self._folder, "cache.db")
        self._mutex = os.path.join(root, "locks", "records")
        self._disk = disk
        self._warn = warn
        self.read_only = False
        self.close_after_us = False
        self._lock = threading.RLock()
        self._cache: Any = None
        self._opened: tuple[int, int] | None = None
        self._reader: sqlite3.Connection | None = None
        self._reads: tuple[int, int] | None = None
        self._rebuilt = 0

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the value; None if there is none, or none that is sound.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        name = _name(kind, key)
        peeked, text = self._peek(name)
        if not peeked:
            text = self._do("read", lambda cache: _fetch(cache, name), None)
        return None if text is None else _decode(name, text)

    def _peek(self, name: str) -> tuple[bool, str | None]:
        """Read without diskcache as long as nothing else has needed it; tell if that worked.

        A fully cached build reads some records and writes none, and diskcache's import alone
        takes longer than all of its other work on the store.
        """
        if self._cache is not None:
            return False, None
        if not os.path.exists(self._database):
            return True, None
        import sqlite3

        try:
            rows = self._selected(f"{_SELECT} AND key = ?", (name,))
        except sqlite3.Error:
            return False, None  # diskcache will meet it too, and then it is dealt with
        return True, rows[0][1] if rows else None

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store *value*, in place of what was there.

        Raises:
            RecordTooLarge: more than 256 KiB of JSON.
            EnvironmentFault: it cannot be written; what was there stays.
        """
        name = _name(kind, key)
        text = _encode(name, value)
        if len(text) > MAX_VALUE_BYTES:
            raise RecordTooLarge(f"{kind} record {key}: {len(text)} bytes of {MAX_VALUE_BYTES}")

        def write(cache: Any) -> bool:
            self._disk.gate("sqlite")
            cache.set(name, text)
            return True

        if not self._do("write", write, False):
            self._fail("write", "the database is damaged, and so was the new one")

    def prepare(self) -> None:
        """Open the database as for a write.

        Raises:
            EnvironmentFault: it cannot be opened.
        """
        self._do("open", lambda _cache: None, None)

    def delete(self, kind: str, key: str) -> None:
        """Remove the record if it is there.

        Raises:
            EnvironmentFault: it cannot be removed.
        """
        name = _name(kind, key)

        def delete(cache: Any) -> bool:
            self._disk.gate("sqlite")
            cache.delete(name)
            return True

        self._do("delete", delete, True)  # a rebuilt database does not hold it either

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the sound records of *kind* by key, as they were when this began.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        prefix = _name(kind, "")
        for name, text in self._all(prefix):
            value = _decode(name, text)
            if value is not None:
                yield name[len(prefix) :], value

    def keys(self, kind: str) -> list[str]:
        """Return the keys of *kind*, sorted, whether their records are sound or not.

        Cheap: values, of which some are large, stay where they are.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        prefix = _name(kind, "")
        return [name[len(prefix) :] for name, _ in self._all(prefix, _SELECT_KEYS)]

    def kinds(self) -> list[str]:
        """Return the kinds that have records, sorted."""
        names = (name for name, _ in self._all("", _SELECT_KEYS))
        return sorted({name.partition(":")[0] for name in names if ":" in name})

    def version(self) -> object:
        """Return a value that changes when another thread or process changed any record.

        Comparable only with values of the same thread. Who only reads sees no changes.
        """
        if self.read_only:
            return None
        return self._do(
            "read",
            lambda cache: (
                self._opened,
                cache._sql("PRAGMA data_version").fetchone(),  # pyright: ignore[reportPrivateUsage]
            ),
            None,
        )

    def _all(self, prefix: str, what: str = _SELECT) -> list[tuple[str, str]]:
        """Return keys and texts in one go: diskcache's own iteration asks for each row twice."""
        import sqlite3

        select = f"{what} AND key >= ? AND key < ? ORDER BY key"
        # The character after ":" ends the range of a kind.
        upper = prefix[:-1] + ";" if prefix else "\U0010ffff"
        if self.read_only:
            try:
                found = os.path.exists(self._database)
                return self._selected(select, (prefix, upper)) if found else []
            except sqlite3.Error:
                pass  # as above
        return self._do("read", lambda _cache: self._selected(select, (prefix, upper)), [])

    def _selected(self, query: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the rows of a query, without diskcache. Raises sqlite3.Error."""
        import sqlite3
        from contextlib import closing

        try:
            with self._lock:
                return self._reading().execute(query, values).fetchall()
        except sqlite3.OperationalError:
            if not self.read_only:
                raise
            # No place for the files beside it that a reader keeps, too: take it as it lies there.
            from urllib.parse import quote

            where = f"file:{quote(self._database)}?immutable=1"
            with closing(sqlite3.connect(where, uri=True)) as connection:
                return connection.execute(query, values).fetchall()

    def _reading(self) -> sqlite3.Connection:
        """Return a connection that stays until `close`; under the lock, for it is all threads'.

        Who closes the last one has SQLite flush the database and remove what lies beside it, which
        the next makes anew and flushes, too: five times in a build, if each read had its own.
        """
        import sqlite3

        if self._reader is None or self._reads != self._identity():
            self._stop_reading()
            self._reads = self._identity()
            self._reader = sqlite3.connect(
                self._database, timeout=BUSY_S, check_same_thread=False, isolation_level=None
            )
        return self._reader

    def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _do(self, doing: str, action: Callable[[Any], T], otherwise: T) -> T:
        """Run *action* on the database; if that is damaged, rebuild it and try once more."""
        for _ in range(2):
            try:
                return action(self._open())
            except Exception as error:
                opened = self._opened
                if not self._is_damage(error, doing):
                    raise
                if not self._rebuild(opened, error):
                    break
        return otherwise

    def _open(self) -> Any:
        with self._lock:
            if self._cache is not None and self._opened == self._identity():
                return self._cache
            # First use, or another process has moved a damaged database aside.
            self._close_cache()
            from pybuild.cache.records.textdisk import open_cache

            with faults("cannot open the cache records", self._root):
                if not os.path.isdir(self._folder):
                    try:
                        self._disk.mkdir(self._folder)
                    except FileExistsError:
                        pass
            self._opened = self._identity()
            if self._opened is not None:
                self._hold()
            self._cache = open_cache(self._folder, BUSY_S)
            self._opened = self._identity()
            return self._cache

    def _hold(self) -> None:
        """Have the connection that stays be the first: diskcache opens and closes some."""
        import sqlite3

        with suppress(sqlite3.Error):  # diskcache will meet it too, and then it is dealt with
            self._reading().execute("PRAGMA schema_version").fetchone()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._database)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _forget(self) -> None:
        self._close_cache()
        with suppress(Exception):  # as below
            self._stop_reading()

    def _close_cache(self) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            with suppress(Exception):  # closing a damaged database may fail; we are done with it
                cache.close()

    def _is_damage(self, error: Exception, doing: str) -> bool:
        """Return whether the error is damage; for trouble that others can mend, raise the fault."""
        import sqlite3

        import diskcache  # pyright: ignore[reportMissingTypeStubs]

        from pybuild.model.errors import PybuildError

        if isinstance(error, PybuildError | RecordTooLarge | MemoryError):
            return False
        if isinstance(error, OSError):
            raise fault(error, f"cannot {doing} the cache records", self._root) from error
        if isinstance(error, diskcache.Timeout):
            self._writable(doing)
            self._fail(doing, f"the database was locked for {BUSY_S} s", error)
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                full = OSError(28, os.strerror(28))
                raise fault(full, f"cannot {doing} the cache records", self._root) from error
            if code in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_PERM,
                sqlite3.SQLITE_NOMEM,
                sqlite3.SQLITE_INTERRUPT,
            ):
                self._fail(doing, str(error), error)
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
                self._writable(doing)
        # What remains is a broken file or broken contents: diskcache trips over a table or
        # setting that is not what it wrote, in whatever way.
        return True

    def _writable(self, doing: str) -> None:
        """Raise the fault that keeps SQLite from its files, if there is one."""
        with faults(f"cannot {doing} the cache records", self._root):
            probe = os.path.join(self._folder, f".probe-{os.urandom(8).hex()}")
            fd = self._disk.create(probe)
            try:
                self._disk.write(fd, bytes(4096))
            finally:
                os.close(fd)
                os.unlink(probe)

    def _fail(self, doing: str, reason: str, cause: Exception | None = None) -> None:
        from pybuild.model.errors import EnvironmentFault

        raise EnvironmentFault(
            f"cannot {doing} the cache records in {self._folder}: {reason}"
        ) from cause

    def _rebuild(self, opened: tuple[int, int] | None, error: Exception) -> bool:
        """Move the damaged database aside, unless another has done so; tell if it is worth it."""
        with (
            self._lock,
            faults("cannot rebuild the cache records", self._root),
            locked(self._mutex),
        ):
            if opened != self._identity():
                self._forget()
                return True
            if self._rebuilt >= _REBUILDS:
                return False
            self._rebuilt += 1
            self._forget()
            number = 1
            while os.path.lexists(f"{self._folder}.damaged-{number}"):
                number += 1
            aside = f"{self._folder}.damaged-{number}"
            try:
                self._disk.rename(self._folder, aside)
            except FileNotFoundError:
                return True
        self._warn(f"the cache records were damaged ({error}); begun anew, old ones in {aside}")
        return True

    def shrink(self) -> None:
        """Empty SQLite's log into the database: while a connection stays, it keeps what was deleted.

        Left alone where others are busy with it; it is shorter again after some hundred writes.
        """
        import sqlite3

        with self._lock, suppress(sqlite3.Error):
            if self.read_only or self._identity() is None:
                return
            reader = self._reading()
            reader.execute("PRAGMA busy_timeout = 200")
            try:
                reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                reader.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")

    def close(self) -> None:
        with self._lock:
            if self.close_after_us:
                _LEFT_OPEN.extend((self._cache, self._reader))
                self._cache = self._reader = None
            self._forget()


def _fetch(cache: Any, name: str) -> str | None:
    from pybuild.cache.records.textdisk import Refused

    try:
        text = cache.get(name)
    except Refused:
        return None
    return text if isinstance(text, str) else None


def _name(kind: str, key: str) -> str:
    if not kind or ":" in kind:
        raise ValueError(f"invalid record kind {kind!r}")
    name = f"{kind}:{key}"
    try:
        name.encode()
    except UnicodeEncodeError as error:  # in a value it may stand, but SQLite refuses it as a key
        raise ValueError(f"invalid record key {key!r}: not UTF-8") from error
    return name


def _encode(name: str, value: Mapping[str, Any]) -> str:
    # ASCII: names that are not UTF-8 are lone surrogates, which SQLite's text could not hold.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _seal(name, text) + text


def _decode(name: str, text: str) -> dict[str, Any] | None:
    body = text[64:]
    if text[:64] != _seal(name, body):
        return None
    value: Any = parse(body)
    return as_object(value) if is_object(value) else None


def _seal(name: str, body: str) -> str:
    return hashlib.sha256(f"{name}\n{body}".encode()).hexdigest()
