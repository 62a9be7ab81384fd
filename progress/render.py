"""Makes text of errors; the only place that does (STYLE section 6)."""

from __future__ import annotations

import os
import re
import traceback
from typing import TextIO

from pybuild.model.errors import ExitCode, InternalError, PybuildError, StepError, unwrap
from pybuild.model.excerpt import excerpt
from pybuild.model.printable import without_controls
from pybuild.progress.screen import RED, may_colour, painted, size_of
from pybuild.progress.terminalguard import direct

_LINE_END = re.compile("\r\n|\r|\n")
_CONTINUED = "| "
"""The prefix of a step's line, or of the rest of a text. White space would not do: a command may have it."""


def report(error: BaseException, out: TextIO, *, debug: bool = False) -> int:
    """Write *error* for a person and return the exit code it stands for.

    Args:
        debug: where it was raised, and how BuildKit words it, too.
    """
    if debug:
        out.writelines(traceback.format_exception(error))
    error = unwrap(error)
    if debug and isinstance(error, PybuildError) and error.peer:
        out.write(_guarded([f"BuildKit says: {error.peer}"]))
    if not isinstance(error, PybuildError):
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else _without_directory()
            out.write(_guarded([f"error: {where}{error.strerror.lower()}"]))
            return ExitCode.ENVIRONMENT
        out.write(_guarded([f"error: internal: {type(error).__name__}: {error}"]))
        out.write(_where_it_broke(error))
        out.write("hint: this is a bug in pybuild; run again with --debug and report it\n")
        return ExitCode.INTERNAL
    terminal = direct(out)
    if terminal is None:
        out.write(text(error))
    else:
        from pybuild.progress.folding import folded

        shown = folded(without_controls(text(error)), size_of(terminal).columns)
        terminal.write(_coloured(shown) if may_colour() else shown)
    return error.exit_code


def _coloured(shown: str) -> str:
    """Return the text of an error with its first word and the failed step's header in colour.

    Its lines are clean: they go past the guard of the terminal.
    """
    lines = shown.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            lines[number] = painted("error:", RED) + line.removeprefix("error:")
        elif line.startswith(" > "):
            lines[number] = painted(line, RED)
    return "\n".join(lines)


def _without_directory() -> str:
    """Return the reason why relative paths fail."""
    try:
        os.getcwd()
    except OSError:
        return "the current directory is gone: "
    return ""


def text(error: PybuildError) -> str:
    """Return the last log lines of a failed step, the message, hints, and marked excerpts.

    The way out stands directly under the cause: many read two lines.
    """
    lines: list[str] = []
    if isinstance(error, StepError) and error.log_tail:
        header = [f" > {error.step}:"] if error.step else []
        lines += ["------", *header, *(_CONTINUED + line for line in error.log_tail), "------"]
    prefix = "error: internal: " if isinstance(error, InternalError) else "error: "
    lines.append(prefix + error.message)
    lines += [f"hint: {hint}" for hint in error.hints]
    for span in error.spans:
        lines += excerpt(span, error.sources.get(span.file))
    return _guarded(lines)


def _guarded(lines: list[str]) -> str:
    """Return the lines, in which nothing that others wrote begins one: CI systems obey such lines."""
    parts = (_LINE_END.sub("\n" + _CONTINUED, line) for line in lines)
    return "\n".join(parts) + "\n"


def _where_it_broke(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    last = frames[-1]
    return f"  at {os.path.basename(last.filename)}:{last.lineno} in {last.name}\n"
