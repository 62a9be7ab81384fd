"""``pybuild build``."""

from __future__ import annotations

import os
import sys
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
    from collections.abc import Sequence

    from pybuild.builds.builder import Builder
    from pybuild.explain.report import BuildReport
    from pybuild.progress.cireports import CiReports


def main(parsed: Parsed, builder: Builder) -> int:
    """Run one build as the command line asks for it; returns the exit code."""
    request = request_from(parsed)
    if name := parsed.one("on-fail-container"):
        from pybuild.commands.failedcontainer import container_of

        request = replace(request, on_fail=partial(container_of, name))
    files = parsed.one("iidfile"), parsed.one("metadata-file")
    check_result_files(*files)
    quiet = parsed.flag("quiet")
    kind = "quiet" if quiet else parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    ci = ci_reports(parsed, [(request.context, request.dockerfile)])
    display = make_display(kind)
    show = display.show if ci is None else ci.watching(display.show)
    reports: list[BuildReport] = []
    try:
        # A server is not asked why for the sake of a page: it may be one that cannot say it.
        is_here = type(builder).__name__ == "LocalBuilder"
        wants = parsed.flag("explain") or (ci is not None and ci.wants_reasons and is_here)
        explained = reports.append if wants else None
        try:
            result = builder.build(request, show, explained)
        except NeedsFrontend:  # of a builder that is this process: a build server runs it itself
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
    finally:
        display.close()
        if reports and parsed.flag("explain"):
            from pybuild.explain.text import report_text

            sys.stderr.write(report_text(reports[-1]))
    write_results(*files, result.image_id, result.metadata)
    is_there = bool(result.names or (result.image and request.is_kept))
    if kind in ("auto", "plain", "tty") and result.image_id and is_there:
        sys.stderr.write(result_line(result.names, result.image_id))
    if quiet:
        sys.stdout.write(f"{result.image_id or ''}\n")
    return 0


def ci_reports(parsed: Parsed, sources: Sequence[tuple[str, str]]) -> CiReports | None:
    """Return the reports of a command for CI systems; None where nobody wants any, as on most machines."""
    names = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
    if "annotations" not in parsed.values and not any(name in os.environ for name in names):
        return None
    from pybuild.progress.cireports import CiReports

    return CiReports(parsed, os.environ, sources)
