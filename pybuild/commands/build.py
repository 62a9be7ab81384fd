"""``pybuild build``."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pybuild.arguments.build import request_from
from pybuild.commandline.parser import Parsed
from pybuild.exporter.resultfiles import check_result_files, write_results
from pybuild.frontend.lowering.interface import NeedsFrontend
from pybuild.progress.display import make_display
from pybuild.progress.screen import result_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builds.builder import Builder
    from pybuild.builds.request import OnFail
    from pybuild.commands.askatbreak import AskAtBreak
    from pybuild.explain.report import BuildReport
    from pybuild.progress.cireports import CiReports


def main(parsed: Parsed, builder: Builder) -> int:
    """Run one build as the command line asks for it, or again as whoever is asked wants it; returns the exit code."""
    if not parsed.one("on-fail"):
        return _build(parsed, builder, _on_fail(parsed))
    from pybuild.commands.askonfail import AskOnFail

    ask = AskOnFail(_on_fail(parsed), debug=parsed.flag("debug"))
    while True:
        try:
            return _build(parsed, builder, ask.at_step, ask.begin)
        except Exception as error:
            if not ask.hear(error):
                raise
        if ask.status is not None and not ask.retries:
            return ask.status


def _on_fail(parsed: Parsed) -> OnFail | None:
    name = parsed.one("on-fail-container")
    if not name:
        return None
    from pybuild.commands.failedcontainer import container_of

    return partial(container_of, name)


def _build(
    parsed: Parsed,
    builder: Builder,
    on_fail: OnFail | None,
    begun: Callable[[Callable[[], None]], None] | None = None,
) -> int:
    """Run one build.

    Args:
        begun: is given the function that ends its display.
    """
    request = request_from(parsed)
    if on_fail is not None:
        request = replace(request, on_fail=on_fail)
    asks: AskAtBreak | None = None
    if places := parsed.many("break"):
        from pybuild.commands.askatbreak import AskAtBreak

        asks = AskAtBreak(debug=parsed.flag("debug"))
        request = replace(request, breaks=asks.breaks(places))
    files = parsed.one("iidfile"), parsed.one("metadata-file")
    check_result_files(*files)
    quiet = parsed.flag("quiet")
    kind = "quiet" if quiet else parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    ci = ci_reports(parsed, [(request.context, request.dockerfile)])
    display = make_display(kind)
    if asks is not None:
        display = asks.held(display)
    show = display.show if ci is None else ci.watching(display.show)
    reports: list[BuildReport] = []
    with ExitStack() as ending:
        ending.callback(_explain, parsed, reports)
        ending.callback(display.close)
        if begun is not None:
            begun(ending.close)
        try:
            # A server is not asked why for the sake of a page: it may be one that cannot say it.
            is_here = type(builder).__name__ == "LocalBuilder"
            wants = parsed.flag("explain") or (ci is not None and ci.wants_reasons and is_here)
            explained = reports.append if wants else None
            try:
                result = builder.build(request, show, explained)
            except (
                NeedsFrontend
            ):  # of a builder that is this process: a build server runs it itself
                from pybuild.builds.localbuilder import LocalBuilder
                from pybuild.frontendbuild import build_here

                settings = replace(LocalBuilder(parsed).settings, logins=request.logins)
                result = build_here(settings, request, show, explained)
            if ci is not None:
                ci.write(reports)
        except Exception as error:
            if ci is not None:
                ci.write(reports, error)
            raise
    write_results(*files, result.image_id, result.metadata)
    is_there = bool(result.names or (result.image and request.is_kept))
    if kind in ("auto", "plain", "tty") and result.image_id and is_there:
        sys.stderr.write(result_line(result.names, result.image_id))
    if quiet:
        sys.stdout.write(f"{result.image_id or ''}\n")
    return 0


def _explain(parsed: Parsed, reports: Sequence[BuildReport]) -> None:
    if reports and parsed.flag("explain"):
        from pybuild.explain.text import report_text

        sys.stderr.write(report_text(reports[-1]))


def ci_reports(parsed: Parsed, sources: Sequence[tuple[str, str]]) -> CiReports | None:
    """Return the reports of a command for CI systems; None where nobody wants any, as on most machines."""
    names = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
    if "annotations" not in parsed.values and not any(name in os.environ for name in names):
        return None
    from pybuild.progress.cireports import CiReports

    return CiReports(parsed, os.environ, sources)
