"""The builder that is this process. Each answer imports what it needs: most need no engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.builds.builder import BuilderFacts
    from pybuild.builds.buildrecord import BuildRecord
    from pybuild.builds.localbuild import Within
    from pybuild.builds.memo import CommandOptions
    from pybuild.builds.namedbuild import NamedBuild
    from pybuild.builds.request import BuildRequest
    from pybuild.builds.result import BuildResult
    from pybuild.cache.space.prune import Policy
    from pybuild.cache.space.usage import UsageRecord
    from pybuild.cache.store import Store
    from pybuild.engine.settings import Settings
    from pybuild.executor.workers.launch import Ahead
    from pybuild.explain.report import BuildReport
    from pybuild.frontend.question import FileAnswer, Question
    from pybuild.model.events import Emit

_FLUSH_S = 60.0  # that `prune` waits for the disk, so that a file system can be unmounted after it


class LocalBuilder:
    """Satisfies `pybuild.builds.builder.Builder` with the store of the command line *parsed*.

    Args:
        ahead: workers that were started already, for a build.

    Attributes:
        within: what a build's engine is entered with; None: nothing.
    """

    within: Within | None = None

    def __init__(self, parsed: CommandOptions, ahead: Ahead | None = None) -> None:
        self._parsed = parsed
        self._ahead = ahead
        if ahead is not None:  # a build is certain: what it needs is imported with its command
            import pybuild.builds.localbuild  # pyright: ignore[reportUnusedImport] # noqa: F401

    @cached_property
    def settings(self) -> Settings:
        """The settings of the command line."""
        from pybuild.engine.settings import load_settings

        one = self._parsed.one
        return load_settings(
            one("config"),
            one("root"),
            runtime=one("runtime"),
            cache_max=one("cache-max"),
            ca=self._parsed.many("ca"),
        )

    def build(
        self,
        request: BuildRequest,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None = None,
    ) -> BuildResult:
        from pybuild.builds.localbuild import build_here

        def ignore(report: BuildReport) -> None:
            pass

        settings = replace(self.settings, logins=request.logins)
        where = (self._parsed, settings, self._ahead)
        return build_here(*where, request, emit, explained or ignore, self.within)

    def build_all(self, builds: Mapping[str, NamedBuild], emit: Emit) -> dict[str, BuildResult]:
        from pybuild.builds.manymemos import Memos

        memos = Memos(self.settings.root, builds)
        answers = memos.answers(emit)
        if all(name in answers for name, one in builds.items() if one.is_delivered):
            return answers
        from pybuild.builds.localbuild import build_all_here

        where = (self._parsed, self.settings, builds, emit, memos, answers, self.within)
        return {**answers, **build_all_here(*where)}

    def answer(self, question: Question, request: BuildRequest) -> FileAnswer:
        from pybuild.builds.questions import answer_here

        return answer_here(question, request, lambda: self.settings)

    def reports(self, *, everything: bool) -> list[BuildReport]:
        from pybuild.explain.history import reports
        from pybuild.model.errors import UserError

        root = self.settings.root
        if not os.path.isdir(root):
            raise UserError(f"no build is known here: there is no store at {root}")
        with self._store(to_read=True) as store:
            return list(islice(reports(store), None if everything else 1))

    def builds(self) -> list[BuildRecord]:
        from pybuild.builds.keptbuilds import kept_builds

        if not os.path.isdir(self.settings.root):
            return []
        with self._store(to_read=True) as store:
            return kept_builds(store)

    def replay(self, record: BuildRecord, emit: Emit) -> None:
        from pybuild.builds.keptbuilds import replay_build

        with self._store(to_read=True) as store:
            replay_build(store, record.id, emit)

    def forget(self, records: Sequence[BuildRecord]) -> None:
        from pybuild.cache.content.buildhistory import Builds

        with self._store() as store:
            builds = Builds(store)
            for record in records:
                if (stored := builds.find(record.id)) is not None:
                    builds.remove(stored)

    def _store(self, *, to_read: bool = False) -> Store:
        from pybuild.cache.store import Store
        from pybuild.engine.host import SystemClock

        return Store.open(self.settings.root, SystemClock(), to_read=to_read)

    def usage(self, filters: Sequence[str]) -> list[UsageRecord]:
        from pybuild.cache.space.filters import parse_filters
        from pybuild.cache.space.usage import overhead, usage
        from pybuild.engine.localstore import with_store

        def measure(store: Store) -> list[UsageRecord]:
            picks, _ = parse_filters(filters, store.clock.now())
            return [record for record in [*usage(store), overhead(store)] if picks(record)]

        return with_store(self.settings, measure, to_read=True)

    def disk_bytes(self) -> int:
        path = self.settings.root
        while not os.path.isdir(path):  # it is made when it is first needed
            path = os.path.dirname(path)
        disk = os.statvfs(path)
        return disk.f_blocks * disk.f_frsize

    def prune(self, policy: Policy, freed: Callable[[UsageRecord], None]) -> int:
        from pybuild.cache.content.flusher import wait_for_others
        from pybuild.cache.repositories.collect import unlink_at_once
        from pybuild.cache.space.oldbuilds import prune_builds
        from pybuild.cache.space.prune import prune
        from pybuild.engine.localstore import with_store
        from pybuild.engine.servesettings import read_keeping

        keeping = read_keeping(self.settings.registry_server)

        def work(store: Store) -> int:
            unlink_at_once(store, keeping)
            return prune(store, policy, freed).freed + prune_builds(store, policy, freed)

        total = with_store(self.settings, work)
        if not wait_for_others(os.path.join(self.settings.root, "snapshots"), _FLUSH_S):
            sys.stderr.write("warning: what builds made is still being written to the disk\n")
        return total

    def facts(self) -> BuilderFacts:
        from pybuild.builds.builder import BuilderFacts
        from pybuild.engine.host import native_platform
        from pybuild.executor.runnable import runnable
        from pybuild.model.package import VERSION

        platforms = tuple(map(str, runnable(native_platform())))
        return BuilderFacts(version=f"{VERSION} pybuild", platforms=platforms)
