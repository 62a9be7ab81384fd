"""Records: small JSON values under a kind and a key, in a table of their own.

Nothing read here is believed: each value carries a digest over its kind, key and text, and a
database that SQLite finds damaged is moved aside as ``records.damaged-<n>`` and begun anew, with a
warning. Losing records costs time, never a build.
"""

from __future__ import annotations

import os
import time
from _thread import RLock, allocate_lock

from pybuild.cache.disk.atomic import Disk, discard, fault, faults
from pybuild.cache.disk.locks import locked
from pybuild.model.jsontext import as_object, is_object, parse
from pybuild.model.lightlib import sha256_of, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    from pybuild.cache.disk.atomic import Warn

    T = TypeVar("T")

MAX_VALUE_BYTES = 256 << 10
BUSY_S = 30
FORM = 1
_TABLE = """
    CREATE TABLE records (
        kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
    )
"""
_INSERT = "INSERT OR REPLACE INTO records (kind, key, value) VALUES (?, ?, ?)"
# Of stores whose connections end with the process.
_LEFT_OPEN: list[object] = []
# A database that breaks again and again is the disk's fault; then reads miss and writes fail.
_REBUILDS = 3


class RecordTooLarge(ValueError):
    """The value exceeds `MAX_VALUE_BYTES`; keep its bulk as a blob."""


class _Link:
    """A connection that stays until `close`, for one thread at a time.

    Who closes the last one has SQLite flush the database and remove what lies beside it, which
    the next makes anew and flushes, too: five times in a build, if each read had its own.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(Exception):  # closing a damaged database may fail; we are done with it
                connection.close()


class Records:
    """The records of one store. Safe to use from threads and processes at once.

    Attributes:
        read_only: make and change nothing; there may be no space, or no right, to. A database that
            turns out damaged is rebuilt all the same, if that can be.
        close_after_us: `close` leaves that to the end of the process. Whoever closes the last
            connection waits for the disk, and so does the next one, who makes the log anew.
    """

    def __init__(self, root: str, disk: Disk, warn: Warn) -> None:
        self._root = root
        self._folder = os.path.join(root, "records")
        self._database = os.path.join(self._folder, "records.db")
        self._earlier = os.path.join(self._folder, "cache.db")
        self._mutex = os.path.join(root, "locks", "records")
        self._disk = disk
        self._warn = warn
        self.read_only = False
        self.close_after_us = False
        # Two, so that no reader waits while a writer waits for another process.
        self._reader = _Link()
        self._writer = _Link()
        self._lock = allocate_lock()
        self._rebuilt = 0

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the value; None if there is none, or none that is sound.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        name = _name(kind, key)
        rows = self._read("SELECT value FROM records WHERE kind = ? AND key = ?", kind, key)
        return _decode(name, rows[0][0]) if rows else None

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store *value*, in place of what was there.

        Raises:
            RecordTooLarge: more than 256 KiB of JSON.
            EnvironmentFault: it cannot be written; what was there stays.
        """
        text = _encode(_name(kind, key), value)
        if len(text) > MAX_VALUE_BYTES:
            raise RecordTooLarge(f"{kind} record {key}: {len(text)} bytes of {MAX_VALUE_BYTES}")
        if not self._write("write", _INSERT, kind, key, text):
            self._fail("write", "the database is damaged, and so was the new one")

    def prepare(self) -> None:
        """Open the database as for a write.

        Raises:
            EnvironmentFault: it cannot be opened.
        """
        self._do("open", self._writer, lambda _connection: None, None)

    def delete(self, kind: str, key: str) -> None:
        """Remove the record if it is there.

        Raises:
            EnvironmentFault: it cannot be removed.
        """
        _name(kind, key)
        # Where it was damaged: a rebuilt database does not hold the record either.
        self._write("delete", "DELETE FROM records WHERE kind = ? AND key = ?", kind, key)

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the sound records of *kind* by key, as they were when this began.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        select = "SELECT key, value FROM records WHERE kind = ? ORDER BY key"
        for key, text in self._read(select, kind):
            value = _decode(f"{kind}:{key}", text)
            if value is not None:
                yield key, value

    def keys(self, kind: str) -> list[str]:
        """Return the keys of *kind*, sorted, whether their records are sound or not.

        Cheap: values, of which some are large, stay where they are.

        Raises:
            EnvironmentFault: the database cannot be read, for another reason than damage.
        """
        rows = self._read("SELECT key FROM records WHERE kind = ? ORDER BY key", kind)
        return [key for (key,) in rows if isinstance(key, str)]

    def kinds(self) -> list[str]:
        """Return the kinds that have records, sorted."""
        rows = self._read("SELECT DISTINCT kind FROM records ORDER BY kind")
        return [kind for (kind,) in rows if isinstance(kind, str)]

    def version(self) -> object:
        """Return a value that changes when another process, or another `Records`, changed any record.

        Who only reads sees no changes.
        """
        if self.read_only:
            return None

        def version(connection: sqlite3.Connection) -> object:
            return self._writer.file, connection.execute("PRAGMA data_version").fetchone()

        return self._do("read", self._writer, version, None)

    def _read(self, query: str, *values: str) -> list[Any]:
        """Return the rows of a query; none where there is no database yet."""
        if not os.path.exists(self._database):
            self._take_over()
        return self._do("read", self._reader, lambda link: self._select(link, query, values), [])

    def _select(
        self, connection: sqlite3.Connection, query: str, values: tuple[str, ...]
    ) -> list[Any]:
        import _sqlite3 as sqlite3  # sqlite3 loads datetime

        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            if self.read_only:
                # No place for the files beside it that a reader keeps, too: take it as it lies there.
                from contextlib import closing
                from urllib.parse import quote

                where = f"file:{quote(self._database)}?immutable=1"
                with closing(sqlite3.connect(where, uri=True)) as reading:
                    return [] if not _form(reading) else reading.execute(query, values).fetchall()
            if not _form(connection):
                return []  # somebody makes it at this moment
            return connection.execute(query, values).fetchall()  # made meanwhile, or damaged

    def _write(self, doing: str, statement: str, *values: str) -> bool:
        """Execute a statement that changes something; False where no database can be had."""

        def write(connection: sqlite3.Connection) -> bool:
            self._disk.gate("sqlite")
            connection.execute(statement, values)
            return True

        return self._do(doing, self._writer, write, False)

    def _do(
        self, doing: str, link: _Link, action: Callable[[sqlite3.Connection], T], otherwise: T
    ) -> T:
        """Run *action* on the database; if that is damaged, rebuild it and try once more."""
        for _ in range(2):
            opened = self._identity()
            if opened is None and link is self._reader:
                break  # there is none, and a reader makes none
            try:
                with link.lock:
                    return action(self._connected(link))
            except Exception as error:
                if not self._is_damage(error, doing):
                    raise
                if not self._rebuild(opened, error):
                    break
        return otherwise

    def _connected(self, link: _Link) -> sqlite3.Connection:
        """Return the connection of *link*, whose lock is held: made now, if another process has
        moved a damaged database aside."""
        import _sqlite3 as sqlite3  # sqlite3 loads datetime

        if link.connection is not None and link.file == self._identity():
            return link.connection
        link.close()
        if link is self._writer:
            with faults("cannot open the cache records", self._root):
                if not os.path.isdir(self._folder):
                    with suppress(FileExistsError):
                        self._disk.mkdir(self._folder)
        link.file = self._identity()
        link.connection = sqlite3.connect(
            self._database, timeout=BUSY_S, check_same_thread=False, isolation_level=None
        )
        if link is self._writer:
            self._begin(link.connection)
            link.file = self._identity()
        return link.connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Make the table if there is none; what an earlier pybuild kept comes with it."""
        connection.execute("PRAGMA synchronous = NORMAL")
        if _form(connection):
            return
        self._disk.gate("sqlite")
        connection.execute("PRAGMA auto_vacuum = FULL")
        _use_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not _form(connection):
                connection.execute(_TABLE)
                if os.path.exists(self._earlier):
                    from pybuild.cache.records.earlier import earlier_records

                    rows = earlier_records(self._folder, self._warn)
                    connection.executemany(_INSERT, rows)
                connection.execute(f"PRAGMA user_version = {FORM}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(Exception):  # the fault is that which led here
                connection.execute("ROLLBACK")
            raise
        for suffix in ("", "-wal", "-shm"):
            discard(self._earlier + suffix)

    def _take_over(self) -> None:
        """Make the database now, if an earlier pybuild left records."""
        if os.path.exists(self._earlier):
            if self.read_only:
                self._warn(
                    f"store {self._root} is an earlier pybuild's; a build has its records shown"
                )
            else:
                self.prepare()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._database)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _is_damage(self, error: Exception, doing: str) -> bool:
        """Return whether the error is damage; for trouble that others can mend, raise the fault."""
        import _sqlite3 as sqlite3  # sqlite3 loads datetime

        if isinstance(error, OSError):
            raise fault(error, f"cannot {doing} the cache records", self._root) from error
        if not isinstance(error, sqlite3.Error):
            return False
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            full = OSError(28, os.strerror(28))
            raise fault(full, f"cannot {doing} the cache records", self._root) from error
        if code == sqlite3.SQLITE_BUSY:
            self._fail(doing, f"the database was locked for {BUSY_S} s", error)
        if code in (
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_NOMEM,
            sqlite3.SQLITE_INTERRUPT,
        ):
            self._fail(doing, str(error), error)
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            self._writable(doing)
        return True  # a broken file, or a table that is not what we wrote

    def _writable(self, doing: str) -> None:
        """Raise the fault that keeps SQLite from its files, if there is one."""
        with faults(f"cannot {doing} the cache records", self._root):
            probe = os.path.join(self._folder, f".probe-{os.urandom(8).hex()}")
            try:
                fd = self._disk.create(probe)
            except FileNotFoundError:
                return  # somebody has just moved a damaged database aside
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
                return True
            if self._rebuilt >= _REBUILDS:
                return False
            self._rebuilt += 1
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
        import _sqlite3 as sqlite3  # sqlite3 loads datetime

        if self.read_only or self._identity() is None:
            return
        with self._reader.lock, suppress(sqlite3.Error):
            connection = self._connected(self._reader)
            connection.execute("PRAGMA busy_timeout = 200")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")

    def close(self) -> None:
        for link in (self._writer, self._reader):
            with link.lock:
                if self.close_after_us:
                    _LEFT_OPEN.append(link.connection)
                    link.connection = None
                link.close()


def _form(connection: sqlite3.Connection) -> int:
    """Return the form of what the database holds; 0 while it holds nothing."""
    row: tuple[int] = connection.execute("PRAGMA user_version").fetchone()
    return row[0]


def _use_log(connection: sqlite3.Connection) -> None:
    """Have changes written to a log beside the database; SQLite itself does not wait for others here."""
    import _sqlite3 as sqlite3

    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = wal").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.001)


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
    import json

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _seal(name, text) + text


def _decode(name: str, text: object) -> dict[str, Any] | None:
    if not isinstance(text, str) or text[:64] != _seal(name, text[64:]):
        return None
    value: Any = parse(text[64:])
    return as_object(value) if is_object(value) else None


def _seal(name: str, body: str) -> str:
    return sha256_of(f"{name}\n{body}".encode())
