"""Keeps the record of a build in process: what was asked for, how it went, and its whole log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.builds.contextkinds import ContextKind, kind_of, origin_of
from pybuild.builds.request import BuildRequest, Secret
from pybuild.cache.content.buildhistory import Builds, OpenRecord
from pybuild.frontend.lowering.interface import NeedsFrontend
from pybuild.model.errors import StepError, unwrap
from pybuild.model.events import Emit, Event
from pybuild.model.secrets import redacted_variables, secret_values, without_secrets

if TYPE_CHECKING:
    from pybuild.builds.result import BuildResult
    from pybuild.engine.engine import Engine

_MOST_LINES = 20


class Recording:
    """The record of one build under way.

    Attributes:
        request: to be built, so that the values of secrets that are read stay out of the log.
        record: where it is kept; *emit* is what events of the build go to.
        result: of the build, once it has gone well.
    """

    def __init__(self, engine: Engine, request: BuildRequest, emit: Emit) -> None:
        facts = facts_of(request)
        secrets = secret_values(request.build_args)
        self.record: OpenRecord = Builds(engine.store).begin(engine.clock.now(), facts, secrets)
        self.request = self._noting(request) if request.secrets else request
        self.result: BuildResult | None = None
        self._emit = emit

    def emit(self, event: Event) -> None:
        self._emit(event)
        self.record.emit(event)

    def _noting(self, request: BuildRequest) -> BuildRequest:
        def noted(secret: Secret) -> Callable[[], bytes]:
            def read() -> bytes:
                value = secret.read()
                self.record.log.add_secrets([value.decode("utf-8", "surrogateescape")])
                return value

            return read

        return replace(
            request,
            secrets={id: replace(one, read=noted(one)) for id, one in request.secrets.items()},
        )

    def end(self, error: BaseException | None) -> None:
        """Keep the build, which ended so."""
        facts, log = self.record.facts, self.record.log
        if error is not None:
            cause = unwrap(error)
            if isinstance(cause, asyncio.CancelledError):
                self.record.end("canceled")
                return
            facts["error"] = error_facts(cause, log.without_secrets)
            self.record.end("error")
            return
        result = self.result
        if result is not None:
            facts["images"] = [str(result.image.digest)] if result.image else []
            facts |= {"image_id": result.image_id or "", "names": list(result.names)}
            facts["warnings"] = len(result.warnings)
        self.record.end("completed")


@contextmanager
def recorded(engine: Engine, request: BuildRequest, emit: Emit) -> Generator[Recording]:
    """Record the build of the block."""
    recording = Recording(engine, request, emit)
    try:
        yield recording
    except NeedsFrontend:  # who builds with that begins anew, with a record of its own
        recording.record.drop()
        raise
    except BaseException as error:
        recording.end(error)
        raise
    recording.end(None)


def facts_of(request: BuildRequest) -> dict[str, Any]:
    """Return the facts of a request for its record; nothing secret."""
    context, dockerfile, target = origin_of(request)
    kind = kind_of(request.context)
    is_local = kind is ContextKind.DIRECTORY
    if kind is ContextKind.HTTP:
        context = context.partition("?")[0]  # signed addresses have their signature there
    if request.dockerfile == "-":
        dockerfile = "-"
    attrs = {f"label:{name}": value for name, value in request.labels.items()}
    attrs |= {f"context:{name}": value for name, value in request.named_contexts.items()}
    if request.platforms:
        attrs["platform"] = ",".join(map(str, request.platforms))
    if request.no_cache or request.no_cache_filter:
        attrs["no-cache"] = ",".join(sorted(request.no_cache_filter))
    args = [f"{name}={value}" for name, value in sorted(request.build_args.items())]
    return {
        "name": build_name(os.path.basename(context) if is_local else context, dockerfile, target),
        "context": without_secrets(context),
        "dockerfile": dockerfile,
        "target": target,
        "args": redacted_variables(args),
        "attrs": {name: without_secrets(value) for name, value in sorted(attrs.items())},
        "tags": list(map(str, request.tags)),
    }


def build_name(context: str, dockerfile: str, target: str) -> str:
    """Return a build's name as in docker's history: its directory, or its Dockerfile's, and its target."""
    folder, file = os.path.split(dockerfile)
    name = os.path.normpath(os.path.join(context, folder)) if folder else context
    if file not in ("", "-", "Dockerfile"):
        name = os.path.join(name, file)
    return f"{name} ({target})" if target else name


def error_facts(cause: BaseException, clean: Callable[[str], str]) -> dict[str, Any]:
    """Return the error of a build for its record.

    Args:
        clean: takes secrets out of texts.
    """
    message = str(getattr(cause, "message", "")) or str(cause)
    facts: dict[str, Any] = {"message": clean(message)}
    if isinstance(cause, StepError):
        facts |= {"step": clean(cause.step), "status": cause.status}
        facts["log"] = [clean(line) for line in cause.log_tail[-_MOST_LINES:]]
    return facts
