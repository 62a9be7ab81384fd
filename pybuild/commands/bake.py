"""``pybuild bake``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pybuild.arguments.build import request_from
from pybuild.bake import command
from pybuild.commandline.parser import Parsed
from pybuild.commands.build import ci_reports
from pybuild.exporter.resultfiles import check_result_files, write_results
from pybuild.progress.display import make_display

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder
    from pybuild.builds.request import BuildRequest


def main(parsed: Parsed, builder: Builder) -> int:
    """Build the targets that the command line names, or print them; returns the exit code."""
    if (text := command.text_of(parsed, request_of)) is not None:
        sys.stdout.write(text)
        return 0
    builds = command.builds_of(parsed, request_of)
    if not any(one.is_delivered for one in builds.values()):
        return 0  # --since: nothing of what was asked for has changed
    check_result_files(parsed.one("metadata-file"))
    kind = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    ci = ci_reports(
        parsed, [(one.request.context, one.request.dockerfile) for one in builds.values()]
    )
    display = make_display(kind)
    try:
        show = display.show if ci is None else ci.watching(display.show)
        results = builder.build_all(builds, show)
        if ci is not None:
            ci.write()
    except Exception as error:
        if ci is not None:
            ci.write(error=error)
        raise
    finally:
        display.close()
    metadata = {name: dict(result.metadata) for name, result in sorted(results.items())}
    write_results("", parsed.one("metadata-file"), None, metadata)
    if kind in ("auto", "plain", "tty"):
        for name, result in sorted(results.items()):
            sys.stderr.write(command.summary(name, result))
    return 0


def request_of(context: str, flags: dict[str, list[str]]) -> BuildRequest:
    parsed = Parsed()
    parsed.positionals = [context]
    parsed.values = flags
    return request_from(parsed)
