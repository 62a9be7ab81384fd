"""The builder that is a build server, and what it cannot do.

Imported only when there is one to be used; each answer imports what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pybuild.client.connect import connected
from pybuild.engine.interruptible import run_interruptible
from pybuild.exporter.output import Output
from pybuild.model.errors import PybuildError, UsageError

if TYPE_CHECKING:
    from pybuild.builds.builder import BuilderFacts
    from pybuild.builds.buildrecord import BuildRecord
    from pybuild.builds.namedbuild import NamedBuild
    from pybuild.builds.request import BuildRequest
    from pybuild.builds.result import BuildResult
    from pybuild.cache.space.prune import Policy
    from pybuild.cache.space.usage import UsageRecord
    from pybuild.client.builders import BuilderRecord, Options
    from pybuild.explain.report import BuildReport
    from pybuild.frontend.question import FileAnswer, Question
    from pybuild.model.events import Emit
    from pybuild.net.grpc.channel import Channel

T = TypeVar("T")

_REFUSED = {
    "runtime": (
        "--runtime is the build server's to choose",
        "start the server with it: pybuild daemon --runtime NAME",
    ),
    "ca": (
        "--ca is about the files of this machine",
        "start the server with it: pybuild daemon --ca host",
    ),
    "cache-max": (
        "--cache-max is about the store of this machine",
        "start the server with it: pybuild daemon --cache-max SIZE",
    ),
    "break": (
        "--break gives a shell in steps of this machine",
        "leave out -H",
    ),
    "on-fail": (
        "--on-fail ask gives a shell in steps of this machine",
        "get files of the step instead: --on-fail-output DIR; or leave out -H",
    ),
    "on-fail-container": (
        "--on-fail-container is about the containers of this machine",
        "get files of the step instead: --on-fail-output DIR; or leave out -H",
    ),
    "volume": (
        "-v is about the directories of this machine, and steps run on another",
        "send the files: --build-context NAME=DIR and RUN --mount=from=NAME,target=PATH",
    ),
}
"""Options that a server cannot honour: the cause, and the way out."""


def check_request(request: BuildRequest) -> None:
    """Refuse what a server cannot honour, by the values of options.

    Raises:
        UsageError: with the way out.
    """
    if request.pull == "never":
        raise UsageError(
            "--pull=never is about the store of this machine",
            hints=["leave it out; a build server asks registries by its own rules"],
        )
    if any(secret.in_key for secret in request.secrets.values()):
        raise UsageError(
            "--secret key=true is about the keys of this machine's store",
            hints=["let its version count: ARG in the Dockerfile, and --build-arg NAME=VERSION"],
        )


class RemoteBuilder:
    """Satisfies `pybuild.builds.builder.Builder` with the build server of *record*.

    Args:
        options: of the command line; ``--root`` and ``--config`` tell where ``--load`` brings images.

    Raises:
        UsageError: an option that a server cannot honour.
    """

    def __init__(self, record: BuilderRecord, options: Options) -> None:
        for name, (cause, hint) in _REFUSED.items():
            if options.one(name):
                raise UsageError(cause, hints=[hint])
        self._record = record
        self._options = options

    def build(
        self,
        request: BuildRequest,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None = None,
    ) -> BuildResult:
        check_request(request)
        if request.load is not None:
            return self._load(replace(request, load=None), request.load, emit, explained)
        return run_interruptible(self._build(request, emit, explained))

    def build_all(self, builds: Mapping[str, NamedBuild], emit: Emit) -> dict[str, BuildResult]:
        reading = next((name for name, one in builds.items() if one.links), None)
        if reading is not None:
            raise UsageError(
                f"target {reading} reads the result of another, which build servers are not told of",
                hints=["leave out -H: this machine builds it"],
            )
        return {name: self.build(one.request, emit) for name, one in builds.items()}

    async def _build(
        self,
        request: BuildRequest,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None,
    ) -> BuildResult:
        from pybuild.client.build import build

        async with connected(self._record) as channel:
            if request.max_ages:
                from pybuild.client import disk

                await disk.require_ours(channel, "--max-age")
            if explained is None and not request.fail_on_miss:
                return await build(channel, request, emit)
            from pybuild.client.explain import reports

            ref = os.urandom(16).hex()
            await reports(channel, ref=ref)  # or nothing runs for the sake of what cannot be said
            try:
                result = await build(channel, request, emit, ref=ref)
            except PybuildError:
                await _explain_failed(channel, ref, explained)
                raise
            if explained is not None:
                for report in await reports(channel, ref=ref):
                    explained(report)
            return result

    def _load(
        self,
        request: BuildRequest,
        load: Output,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None,
    ) -> BuildResult:
        """Build there, and take the image into the store here (``--load``)."""
        from pybuild.cache.store import Store
        from pybuild.client.load import take
        from pybuild.engine.host import SystemClock
        from pybuild.engine.settings import load_settings
        from pybuild.exporter.docker.load import load_if_running

        settings = load_settings(self._options.one("config"), self._options.one("root"))
        with Store.open(settings.root, SystemClock()) as store:
            folder = store.scratch("load")
            os.mkdir(folder)
            try:
                layout = Output(type="oci", dest=folder, attrs={**load.attrs, "tar": "false"})
                request = replace(request, outputs=(*request.outputs, layout))
                result = run_interruptible(self._build(request, emit, explained))
                take(store, folder, result)
                if result.image is not None:
                    image = replace(result.image, annotations={})
                    where = (store, SystemClock(), os.environ)
                    run_interruptible(load_if_running(*where, image, result.names, emit))
            finally:
                store.discard(folder)
        return result

    def answer(self, question: Question, request: BuildRequest) -> FileAnswer:
        from pybuild.client.ask import ask
        from pybuild.client.checks import answer_of

        check_request(request)

        async def work() -> FileAnswer:
            async with connected(self._record) as channel:
                metadata, offered = await ask(channel, request, question)
            return answer_of(question, metadata, offered.filenames)

        return run_interruptible(work())

    def reports(self, *, everything: bool) -> list[BuildReport]:
        from pybuild.client.explain import reports

        async def work() -> list[BuildReport]:
            async with connected(self._record) as channel:
                return await reports(channel, everything=everything)

        return run_interruptible(work())

    def builds(self) -> list[BuildRecord]:
        from pybuild.client import history

        return run_interruptible(history.builds(self._record))

    def replay(self, record: BuildRecord, emit: Emit) -> None:
        from pybuild.client import history

        run_interruptible(history.replay(self._record, record, emit))

    def forget(self, records: Sequence[BuildRecord]) -> None:
        from pybuild.client import history

        run_interruptible(history.forget(self._record, records))

    def usage(self, filters: Sequence[str]) -> list[UsageRecord]:
        from pybuild.client import disk

        return run_interruptible(disk.usage(self._record, filters))

    def disk_bytes(self) -> int:
        raise UsageError("a share of a disk is the build server's to know", hints=["write 10GB"])

    def prune(self, policy: Policy, freed: Callable[[UsageRecord], None]) -> int:
        from pybuild.client import disk

        return run_interruptible(disk.prune(self._record, policy, freed))

    def facts(self) -> BuilderFacts:
        from pybuild.client import disk

        return run_interruptible(disk.facts(self._record))


async def _explain_failed(
    channel: Channel, ref: str, explained: Callable[[BuildReport], None] | None
) -> None:
    """Hand on why the steps of a failed build ran; that it cannot be said is not the failure."""
    if explained is None:
        return
    from pybuild.client.explain import reports

    try:
        for report in await reports(channel, ref=ref):
            explained(report)
    except PybuildError:
        pass
