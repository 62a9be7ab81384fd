"""Builds a case with pybuild, in this process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pybuild.builds.build import build as build_with
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_secret
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.model.advice import ADVICE
from pybuild.model.errors import InternalError, PybuildError, unwrap
from pybuild.model.events import BuildWarning, Event
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.platform import Platform
from tests.conformance.cases import Build, Case, lay_out
from tests.conformance.outcome import Outcome, failure, line_range, read_image


async def run_case(engine: Engine, case: Case, where: Path, base: Path) -> Outcome:
    """Build *case* below *where*; cases about the cache get a store of their own."""
    try:
        if case.then is None:
            return (await _build(engine, case.build, where / "one", base))[0]
        async with Engine(Settings(root=str(where / "store"))) as fresh:
            first, _ = await _build(fresh, case.build, where / "one", base)
            second, steps = await _build(fresh, case.then, where / "two", base)
        return second if "error" in second else {"ok": "error" not in first, "steps": steps}
    finally:
        shutil.rmtree(where, ignore_errors=True)


async def _build(
    engine: Engine, build: Build, where: Path, base: Path
) -> tuple[Outcome, dict[str, str]]:
    laid = lay_out(build, where, base)
    image = where / "image.tar"
    request = BuildRequest(
        context=str(laid.context),
        dockerfile=str(laid.dockerfile) if build.dockerfile_name != "Dockerfile" else "",
        target=build.target,
        build_args=build.args,
        named_contexts=laid.contexts,
        platforms=(Platform.parse(build.platform),) if build.platform else (),
        labels=build.labels,
        steps=StepSettings(network=NetworkMode(build.network or "default")),
        secrets={
            name: parse_secret(f"id={name},src={path}") for name, path in laid.secrets.items()
        },
        no_cache=build.no_cache,
        outputs=(Output(type="oci", dest=str(image), attrs={"compression": "uncompressed"}),),
    )
    warnings: set[str] = set()

    def watch(event: Event) -> None:
        # Advice is ours, about what the reference says nothing of.
        if isinstance(event, BuildWarning) and event.rule not in ADVICE:
            line = event.spans[0].first_line if event.spans else 0
            warnings.add(f"{event.rule}: {event.message} (line {line})")

    try:
        result = await build_with(engine, request, watch)
    except Exception as raised:
        error = unwrap(raised)
        if not isinstance(error, PybuildError) or isinstance(error, InternalError):
            raise
        lines = [n for span in error.spans for n in (span.first_line, span.last_line)]
        return failure(error.peer or error.message, line_range(lines)), {}
    outcome = read_image(image, build.mtimes)
    steps: dict[str, str] = {}
    for name, word in result.steps:
        if re.match(r"\[[^\]]*\d+/\d+\] (?!FROM)", name):
            step = re.sub(r"^\[[^\]]*\] ", "", name)
            steps[step] = "CACHED" if word == "CACHED" else "RUN"
    found = {"warnings": sorted(warnings)} if warnings else {}
    return outcome | found, dict(sorted(steps.items()))
