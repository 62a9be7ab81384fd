"""The last builds of a store, two files each in ``<root>/builds/``: a record, and the log while and after it runs.

A record is a small JSON file, written whole or not at all when its build has ended. A log
without one is that of a build which goes on, or was killed. Another process may remove what we are about to read.
"""

from __future__ import annotations

import json
import os
import re

from pybuild.cache.disk.plainfile import plain
from pybuild.model.jsontext import as_list, as_number, as_object, is_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from pybuild.cache.content.buildlog import BuildLog
    from pybuild.cache.store import Store
    from pybuild.model.events import Event

MAX_BUILDS = 100
"""That are kept with their logs, and as many again that had everything in the cache."""
MAX_BYTES = 256 << 20
"""That the logs take together; under a ceiling no more than a fiftieth of that."""
_CEILING_PART = 50
_MAX_RECORD_BYTES = 16 << 20
# When it began in milliseconds, so that names sort by time, and what people call it.
_NAME = re.compile(r"[0-9a-f]{11}-[0-9a-f]{8}\Z")
_LOG = ".log"
FACTS = "build"
"""The field of a record that is about the build itself; those beside it explain its steps."""


class StoredBuild:
    """A build as the store has it.

    Attributes:
        name: of its record, by which they sort; *id* is what people call it.
        facts: those of its record, or of its log's header before there is one; *status* among them.
        log: the path of its log; empty where it has none, because nothing ran.
    """

    __slots__ = ("facts", "id", "log", "name")

    def __init__(self, name: str, facts: dict[str, Any], log: str) -> None:
        self.name = name
        self.id = name.rpartition("-")[2]
        self.facts = facts
        self.log = log

    @property
    def is_running(self) -> bool:
        return bool(self.facts["status"] == "running")

    def events(self) -> Iterator[Event]:
        """Yield the events of a build without a log: of each step that it was in the cache."""
        from pybuild.model.digest import Digest
        from pybuild.model.events import VertexAdded, VertexCached, VertexCompleted

        time = as_number(self.facts.get("at"))
        for number, row in enumerate(as_list(self.facts.get("rows"))):
            vertex = Digest.of(f"{number}".encode())
            yield VertexAdded(vertex=vertex, name=str(row[0]))
            ends = VertexCached if row[1] == "CACHED" else VertexCompleted
            yield ends(vertex=vertex, time=time)


class OpenRecord:
    """The record of a build under way, and its log. For one thread at a time.

    Attributes:
        facts: of the build, as its record will have them.
        report: of its steps, if somebody explains them.
        log: takes its events.
    """

    def __init__(self, builds: Builds, name: str, facts: dict[str, Any], log: BuildLog) -> None:
        self.id = name.rpartition("-")[2]
        self.facts = facts
        self.report: Mapping[str, Any] = {}
        self.log = log
        self._builds = builds
        self._name = name
        self._seconds: float | None = None

    def stop_clock(self) -> None:
        """Let what comes from now on be no part of the time that the build took; the first call counts."""
        if self._seconds is None:
            now = self._builds.store.clock.now()
            self._seconds = round(max(0.0, now - self.facts["at"]), 3)

    def emit(self, event: Event) -> None:
        """Take one event of the build."""
        self.log.emit(event)

    def drop(self) -> None:
        """Keep nothing of the build."""
        self.log.close()
        self._builds.discard(self._name)

    def end(self, status: str) -> None:
        """Keep the build; that it cannot be kept is a warning, once."""
        log, store = self.log, self._builds.store
        log.close()
        counts = {"total": log.total, "completed": log.completed, "cached": log.cached}
        self.stop_clock()
        self.facts |= {"status": status, "seconds": self._seconds, "steps": counts}
        fault = log.fault
        if fault is None:
            try:
                self._builds.write(self._name, {**self.report, FACTS: self.facts})
                self._builds.trim()
            except OSError as error:
                fault = error
        if fault is not None:
            store.warn(f"this build is not in the history: {_reason(fault)}")


class Builds:
    """The builds that one store remembers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folder = os.path.join(store.root, "builds")

    @staticmethod
    def new_id() -> str:
        """Return a name for a new build."""
        return os.urandom(4).hex()

    def begin(self, at: float, facts: Mapping[str, Any], secrets: Iterable[str]) -> OpenRecord:
        """Open the record of a build that begins at *at*; without faults, which `OpenRecord.end` tells.

        Args:
            secrets: values that are not to be kept.
        """
        from pybuild.cache.content.buildlog import BuildLog

        id = self.new_id()
        name = name_of(at, id)
        facts = {"id": id, "at": at, **facts}
        try:
            self._make_folder()
        except OSError:
            pass  # then there is no log either
        log = BuildLog(self.store.disk, os.path.join(self._folder, name + _LOG), facts, secrets)
        return OpenRecord(self, name, facts, log)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a record. Raises OSError."""
        from pybuild.cache.disk.atomic import write_file

        store = self.store
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        self._make_folder()
        path = os.path.join(self._folder, name)
        write_file(store.disk, store.scratch("build"), path, data, 0o600, flush=False)

    def _make_folder(self) -> None:
        try:
            self.store.disk.mkdir(self._folder, 0o700)
        except FileExistsError:
            pass

    def trim(self) -> None:
        """Forget the oldest of those that are too many, or too large together."""
        names = listed(self._folder)
        logs = [name for name in reversed(names) if names[name]]
        for name in [*logs[MAX_BUILDS:], *[n for n in names if not names[n]][:-MAX_BUILDS]]:
            self.discard(name)
        budget = self.store.budget
        most = MAX_BYTES if budget is None else min(MAX_BYTES, budget.ceiling // _CEILING_PART)
        size = 0
        for number, name in enumerate(logs[:MAX_BUILDS]):
            try:
                size += os.stat(os.path.join(self._folder, name + _LOG)).st_size
            except OSError:
                continue
            if size > most and number:  # the latest stays, whatever its size
                self.discard(name)

    def size(self, build: StoredBuild) -> int:
        """Return the bytes that a build takes on the disk."""
        size = 0
        for name in (build.name, build.name + _LOG):
            try:
                size += os.stat(os.path.join(self._folder, name)).st_blocks * 512
            except OSError:
                pass
        return size

    def remove(self, build: StoredBuild) -> None:
        """Forget a build that has ended. Raises OSError."""
        for name in (build.name, build.name + _LOG):
            try:
                self.store.disk.unlink(os.path.join(self._folder, name))
            except FileNotFoundError:
                pass

    def discard(self, name: str) -> None:
        """Remove what is left of a build that is not under way."""
        from pybuild.cache.disk.atomic import discard
        from pybuild.cache.disk.locks import is_alive

        log = os.path.join(self._folder, name + _LOG)
        if not is_alive(log):
            discard(log)
            discard(os.path.join(self._folder, name))

    def all(self) -> Iterator[StoredBuild]:
        """Yield the builds, the latest first."""
        names = listed(self._folder)
        for name in reversed(names):
            log = os.path.join(self._folder, name + _LOG) if names[name] else ""
            record = self._read(name) or {}
            facts = as_object(record.get(FACTS)) or _earlier(record)
            yield StoredBuild(name, facts or self._unfinished(name, log), log)

    def find(self, id: str) -> StoredBuild | None:
        """Return the build of that id."""
        return next((build for build in self.all() if build.id == id), None)

    def latest(self) -> Iterator[dict[str, Any]]:
        """Yield the records that explain steps, the latest first; what is broken is passed over."""
        for name in reversed(listed(self._folder)):
            value = self._read(name)
            if value is not None and value.keys() != {FACTS}:
                yield value

    def _unfinished(self, name: str, log: str) -> dict[str, Any]:
        """Return the facts of a build without a record: one that goes on, or was killed."""
        from pybuild.cache.content.buildlog import read_header
        from pybuild.cache.disk.locks import is_alive

        at, _, id = name.partition("-")
        facts: dict[str, Any] = {"id": id, "at": int(at, 16) / 1000}
        if not log:
            return {**facts, "status": "error", "error": {"message": "its record is broken"}}
        facts |= read_header(log)
        if is_alive(log):
            return {**facts, "status": "running"}
        try:
            facts["seconds"] = max(0.0, os.stat(log).st_mtime - facts["at"])
        except (OSError, TypeError):
            pass
        message = "it was killed, or the machine went down"
        return {**facts, "status": "canceled", "error": {"message": message}}

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with open(os.path.join(self._folder, name), "rb", opener=plain) as file:
                value = parse(file.read(_MAX_RECORD_BYTES))
        except OSError:
            return None
        return as_object(value) if is_object(value) else None


def listed(folder: str) -> dict[str, bool]:
    """Return the names of all builds, the oldest first, with whether there is a log."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return {}
    names = {name: False for name in entries if _NAME.match(name)}
    for name in entries:
        if name.endswith(_LOG) and _NAME.match(stem := name.removesuffix(_LOG)):
            names[stem] = True
    return dict(sorted(names.items()))


def name_of(at: float, id: str) -> str:
    """Return the name of the record of a build that began at *at*."""
    return f"{int(at * 1000) & 0xFFF_FFFF_FFFF:011x}-{id}"


def _earlier(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts in a record of a pybuild that kept nothing but explanations."""
    if "seconds" not in record:
        return {}
    facts = {
        key: record.get(key) for key in ("id", "at", "seconds", "context", "dockerfile", "target")
    }
    message = record.get("error")
    if not message:
        return {**facts, "status": "completed"}
    return {**facts, "status": "error", "error": {"message": message}}


def _reason(error: OSError) -> str:
    name = f": {os.fsdecode(error.filename)}" if error.filename else ""
    return f"cannot write it{name}: {(error.strerror or str(error)).lower()}"
