"""Reports of a build for CI systems: ``--annotations``, and the summary of a job of GitHub Actions."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pybuild.exporter.atomicfile import write_whole
from pybuild.exporter.resultfiles import check_result_files
from pybuild.model.errors import PybuildError, UsageError, unwrap
from pybuild.model.events import Emit, Event, VertexLog
from pybuild.model.timeline import TimelineReader

if TYPE_CHECKING:
    from pybuild.explain.report import BuildReport


class GivenOptions(Protocol):
    """The options of a command."""

    def many(self, name: str) -> list[str]: ...


KINDS = ("github", "gitlab", "junit", "none")
_FILES = {"gitlab": "gl-code-quality-report.json", "junit": "pybuild-junit.xml"}
SUMMARY = "GITHUB_STEP_SUMMARY"


class CiReports:
    """The reports of one build, or of several that one command makes.

    Args:
        sources: context and Dockerfile of each, as they were named.

    Raises:
        UsageError: a kind that there is not.
    """

    def __init__(
        self, parsed: GivenOptions, environ: Mapping[str, str], sources: Sequence[tuple[str, str]]
    ) -> None:
        self._kinds = _kinds_of(parsed.many("annotations"), environ)
        check_result_files(*self._kinds.values())
        self._summary = "" if "none" in self._kinds else environ.get(SUMMARY, "")
        self._top = environ.get("GITHUB_WORKSPACE") or environ.get("CI_PROJECT_DIR") or os.getcwd()
        self._sources = sources
        self._title = ", ".join(os.path.normpath(context) for context, _ in sources)
        self._has_cache = bool(parsed.many("cache") or parsed.many("cache-from"))
        self._reader = TimelineReader()

    @property
    def is_on(self) -> bool:
        return bool(self._kinds or self._summary)

    @property
    def wants_reasons(self) -> bool:
        return bool(self._summary)

    def watching(self, emit: Emit) -> Emit:
        """Return an *emit* that the reports hear of, if there are any."""
        if not self.is_on:
            return emit

        def show(event: Event) -> None:
            if not isinstance(event, VertexLog):  # the end of what failed is the error's
                self._reader.take(event)
            emit(event)

        return show

    def write(
        self, reports: Sequence[BuildReport] = (), error: BaseException | None = None
    ) -> None:
        """Write all of them about builds that ended so; that one cannot be written is a warning.

        Args:
            reports: why steps ran, where it is known.
        """
        if not self.is_on:
            return
        cause = None if error is None else unwrap(error)
        if cause is not None and not isinstance(cause, PybuildError):
            return
        files = {**self._kinds, "summary": self._summary} if self._summary else self._kinds
        for kind, path in files.items():
            try:
                self._write(kind, path, cause, reports)
            except (OSError, PybuildError) as fault:
                sys.stderr.write(f"warning: no {kind} report could be written: {fault}\n")

    def _write(
        self,
        kind: str,
        path: str,
        error: PybuildError | None,
        reports: Sequence[BuildReport],
    ) -> None:
        from pybuild.progress.annotations import annotations_of, github, gitlab

        timeline = self._reader.timeline()
        match kind:
            case "github":
                made = annotations_of(error, timeline.warnings, self._place)
                sys.stderr.write(github(made))
            case "gitlab":
                made = annotations_of(error, timeline.warnings, self._place)
                write_whole(path, gitlab(made))
            case "junit":
                from pybuild.progress.junit import junit

                write_whole(path, junit(self._title, timeline.shown, error))
            case "summary":
                from pybuild.progress.jobsummary import job_summary

                text = job_summary(
                    f"pybuild {self._title}", timeline, error, self._reasons(reports)
                )
                with open(path, "a", encoding="utf-8") as file:
                    file.write(text)
            case _:
                pass

    def _reasons(self, reports: Sequence[BuildReport]) -> list[tuple[str, Sequence[str], str]]:
        from pybuild.explain.remedies import remedy_of
        from pybuild.explain.text import miss_lines

        return [
            (
                step.name,
                [" ".join(line.split()) for line in miss_lines(step.miss, step.name)],
                remedy_of(step.miss, has_cache=self._has_cache),
            )
            for report in reports
            for step in report.misses
            if step.miss is not None
        ]

    def _place(self, file: str) -> str:
        """Return the path in the repository of *file*, which its context or the current directory has."""
        paths = [os.path.join("" if named else context, file) for context, named in self._sources]
        path = next((path for path in paths if os.path.exists(path)), file)
        return os.path.relpath(os.path.realpath(path), os.path.realpath(self._top))


def _kinds_of(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the kinds that are wanted, with their files."""
    if not given:
        return {"github": ""} if environ.get("GITHUB_ACTIONS") == "true" else {}
    kinds: dict[str, str] = {}
    for text in given:
        kind, has_file, path = text.partition("=")
        if kind not in KINDS or (has_file and (kind not in _FILES or not path)):
            raise UsageError(
                f'invalid annotations "{text}": github, gitlab[=FILE], junit[=FILE] or none'
            )
        kinds[kind] = path or _FILES.get(kind, "")
    return kinds
