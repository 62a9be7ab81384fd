"""The builds of a history as tables of SQL, in memory, filled from their records for one question."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing

from pybuild.builds.buildrecord import BuildRecord
from pybuild.explain.report import BuildReport
from pybuild.explain.text import miss_lines
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

SCHEMA = """\
CREATE TABLE builds (
  id TEXT PRIMARY KEY, ref TEXT, name TEXT, status TEXT, at REAL, seconds REAL, context TEXT, dockerfile TEXT,
  target TEXT, steps INTEGER, completed INTEGER, cached INTEGER, warnings INTEGER, error TEXT, failed_step TEXT);
CREATE TABLE steps (
  build TEXT REFERENCES builds, number INTEGER, name TEXT, status TEXT, seconds REAL, cpu_seconds REAL,
  peak_memory_bytes INTEGER, key TEXT, reason TEXT, why TEXT,
  PRIMARY KEY (build, number));
CREATE TABLE args (build TEXT REFERENCES builds, name TEXT, value TEXT);
CREATE TABLE images (build TEXT REFERENCES builds, digest TEXT);
CREATE TABLE tags (build TEXT REFERENCES builds, name TEXT);
CREATE INDEX steps_by_name ON steps (name);
"""
"""*at* is seconds since the epoch, *seconds* null for a build that goes on; *why* has a line a difference."""

Cell = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """Rows of an answer, with the names of their columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def text(self) -> list[list[str]]:
        """Return a table of text, its titles first."""
        return [list(self.columns), *([_cell(cell) for cell in row] for row in self.rows)]

    def json(self) -> str:
        """Return a line for each row, an object with its columns."""
        objects = [
            {
                name: cell.hex() if isinstance(cell, bytes) else cell
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


def answer(
    question: str, records: Iterable[BuildRecord], reports: Iterable[BuildReport]
) -> SqlAnswer:
    """Return the answer to a question in SQL about the builds of a history.

    It is about a copy: nothing that a question changes is kept, and none reaches a file.

    Raises:
        UserError: it is wrong.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.executescript(SCHEMA)
        database.execute("BEGIN")
        _fill(database, records, reports)
        database.execute("COMMIT")
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        try:
            cursor = database.execute(question)
            rows = tuple(cursor.fetchall())
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise UserError(
                f"history sql: {error}", hints=[f"the tables are {_tables()}"]
            ) from error
        except UnicodeEncodeError as error:
            raise UserError("history sql: the question is no text in UTF-8") from error
        columns = tuple(column[0] for column in cursor.description or ())
        return SqlAnswer(columns, rows)


def _fill(
    database: sqlite3.Connection, records: Iterable[BuildRecord], reports: Iterable[BuildReport]
) -> None:
    known: set[str] = set()
    for one in records:
        if one.id in known:
            continue
        known.add(one.id)
        row = (
            *(
                one.id,
                one.ref,
                one.name,
                str(one.status),
                one.at,
                one.seconds,
                one.context,
                one.dockerfile,
            ),
            *(one.target, one.total, one.completed, one.cached, one.warnings, one.error, one.step),
        )
        _insert(database, "builds", [row])
        _insert(database, "args", [(one.id, *arg.partition("=")[::2]) for arg in one.args])
        _insert(database, "images", [(one.id, digest) for digest in one.images])
        _insert(database, "tags", [(one.id, name) for name in one.tags])
    for report in reports:
        id = report.id if report.id in known else report.ref  # a server's builds are known by it
        if id in known:
            known.remove(id)
            _insert(database, "steps", _steps(id, report))


def _steps(id: str, report: BuildReport) -> list[tuple[Cell, ...]]:
    rows: dict[int, tuple[Cell, ...]] = {}
    for step in report.steps:
        reason = None if step.miss is None else str(step.miss.reason)
        why = None if step.miss is None else "\n".join(miss_lines(step.miss, step.name))
        row = (
            id,
            step.number,
            step.name,
            str(step.status),
            step.seconds,
            step.cpu_seconds,
            step.peak_memory_bytes,
            step.key,
            reason,
            why,
        )
        rows[step.number] = row
    return list(rows.values())


def _insert(database: sqlite3.Connection, table: str, rows: Sequence[Sequence[Cell]]) -> None:
    if rows:
        places = ", ".join("?" * len(rows[0]))
        clean = [[_clean(cell) for cell in row] for row in rows]
        database.executemany(f"INSERT INTO {table} VALUES ({places})", clean)


def _clean(cell: Cell) -> Cell:
    """Return text that SQLite takes: file names may have bytes that are no UTF-8."""
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell


def _tables() -> str:
    return "; ".join(
        line.partition("(")[0].removeprefix("CREATE TABLE ").strip()
        for line in SCHEMA.splitlines()
        if line.startswith("CREATE TABLE")
    )


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case float():
            return f"{cell:.3f}".rstrip("0").rstrip(".")
        case bytes():
            return cell.hex()
        case _:
            return str(cell).replace("\n", "; ")
