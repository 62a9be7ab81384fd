"""The memos of builds that are made together: those that hold are answered without an engine.

A memo is that of a build alone (`pybuild.builds.memo`), with what it reads of others in its name, in its files
and in its contexts. What several memos name is looked at once a command.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pybuild.builds import memo
from pybuild.builds.namedbuild import NamedBuild
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.cache.disk.ownership import is_private
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.events import Emit, VertexAdded, VertexCached, VertexCompleted, VertexStarted


class CommandWords:
    """The words of a command line that would ask for the same."""

    def __init__(self, context: str, values: Mapping[str, list[str]]) -> None:
        self.positionals = [context]
        self.values = dict(values)

    def one(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]


class Looks:
    """Looks at files, each made once; of any thread."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, look: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            if (look, *args) not in self._seen:
                self._seen[look, *args] = look(*args)
            return self._seen[look, *args]

    def sign_context(
        self, path: str, prefixes: list[str], exclude: list[str]
    ) -> dict[str, Any] | None:
        """Describe the state of a context as `memo.sign_context` does, by the first look that tells it.

        A look that was made before anything of this command ran says no more than one made now would.
        """
        scan = (memo.scan, path, tuple(prefixes), tuple(exclude))
        try:
            looked, signature, newest = self(*scan)
        except OSError:
            return None
        if memo.is_young(newest, looked):
            self._seen.pop(scan, None)
            return None
        return {"path": path, "prefixes": prefixes, "exclude": exclude, "signature": signature}


class Memos:
    """The memos of one command's builds.

    Args:
        root: of the store.
    """

    def __init__(self, root: str, builds: Mapping[str, NamedBuild]) -> None:
        self._root = root
        self._builds = builds
        self.looks = Looks()

    def words(self, name: str) -> CommandWords | None:
        """Return the words that the memo of a build is named by; None: it has none."""
        build = self._builds[name]
        if not build.flags or not _may_have(build.request):
            return None
        if build.is_delivered and build.request.outputs:
            return None
        values = dict(build.flags)
        if build.request.dockerfile_text is not None:
            values["dockerfile-text"] = [memo.file_digest(build.request.dockerfile_text)]
        read: list[str] = []
        for context, other in sorted(build.links.items()):
            words = self.words(other)
            key = None if words is None else memo.key_of(words)
            if key is None:
                return None
            read.append(f"{context}={key}")
        if read:
            values["links"] = read
        return CommandWords(build.request.context, values)

    def record(self, name: str) -> dict[str, Any] | None:
        """Return the record of a build that was made here, whether it holds or not."""
        words = self.words(name) if is_private(self._root) else None
        key = None if words is None else memo.key_of(words)
        return memo.load(self._root, key) if key else None

    def unchanged(self) -> dict[str, dict[str, Any]]:
        """Return the records of the builds that are as they were."""
        if not is_private(self._root) or any(name in os.environ for name in memo.POLICY_VARIABLES):
            return {}
        records: dict[str, dict[str, Any]] = {}
        for name, build in self._builds.items():
            words = self.words(name) if build.is_delivered else None
            key = None if words is None else memo.key_of(words)
            record = memo.load(self._root, key) if key else None
            if record is not None and memo.holds(record, self._root, self.looks):
                records[name] = record
        return records

    def answers(self, emit: Emit) -> dict[str, BuildResult]:
        """Return the results of the builds that are as they were, shown and kept in the history."""
        began, results = time.time(), dict[str, BuildResult]()
        for name, record in self.unchanged().items():
            results[name] = _result(record)
            _show(record["steps"], name if len(self._builds) > 1 else "", emit)
            with suppress(OSError):
                memo.keep_answer(self._root, began, record)
        return results


def _may_have(request: BuildRequest) -> bool:
    """Whether a build with that request may have a memo at all; `remembering.sign` looks closer."""
    return not (
        request.secrets
        or request.ssh
        or request.policies
        or request.allow
        or request.cache_to
        or request.no_cache
        or request.no_cache_filter
        or request.max_ages
        or request.pull
        or request.attestations
        or request.fail_on_miss
    )


def _result(record: dict[str, Any]) -> BuildResult:
    return BuildResult(
        image=Descriptor.from_json(record["image"]),
        image_id=Digest(record["image_id"]),
        names=tuple(record["names"]),
        steps=tuple((name, word) for name, word in record["steps"]),
        metadata=record["metadata"],
    )


def _show(steps: list[list[str]], build: str, emit: Emit) -> None:
    now = time.time()
    for number, (name, word) in enumerate(steps):
        vertex = Digest.of(f"{build}\0{number}\0{name}".encode())
        emit(VertexAdded(vertex=vertex, name=titled(build, name)))
        if word == "CACHED":
            emit(VertexCached(vertex=vertex, time=now))
        else:
            emit(VertexStarted(vertex=vertex, time=now))
            emit(VertexCompleted(vertex=vertex, time=now))


def titled(build: str, name: str) -> str:
    """Return a step's name with that of its build, where it is one of several."""
    if not build:
        return name
    return f"[{build} {name[1:]}" if name.startswith("[") else f"[{build}] {name}"
