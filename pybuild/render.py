"""Makes text of errors; the only place that does (STYLE section 6)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import TextIO

from pybuild.cache.blobs import BlobMissing
from pybuild.model.errors import EnvironmentFault, ExitCode, InternalError, PybuildError, StepError
from pybuild.model.span import Span

_AROUND = 2
_MOST = 30  # marked lines; a heredoc may have a million


def report(error: BaseException, out: TextIO) -> int:
    """Write *error* for a person and return the exit code it stands for."""
    error = unwrap(error)
    if not isinstance(error, PybuildError):
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else _without_directory()
            out.write(f"error: {where}{error.strerror.lower()}\n")
            return ExitCode.ENVIRONMENT
        out.write(f"error: internal: {type(error).__name__}: {error}\n")
        out.write(_where_it_broke(error))
        out.write("hint: this is a bug in pybuild; run again with --debug and report it\n")
        return ExitCode.INTERNAL
    out.write(text(error))
    return error.exit_code


def _without_directory() -> str:
    """Return what relative paths then fail for."""
    try:
        os.getcwd()
    except OSError:
        return "the current directory is gone: "
    return ""


def unwrap(error: BaseException) -> BaseException:
    """Take the one error out of the exception groups that structured concurrency wraps it in."""
    while isinstance(error, BaseExceptionGroup):
        members = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        ours = [e for e in members if isinstance(e, PybuildError)]  # pyright: ignore
        error = ours[0] if ours else members[0]  # pyright: ignore
    if isinstance(error, BlobMissing):
        hint = "build or pull again what it is part of: that mends the store"
        return EnvironmentFault(str(error), hints=[hint]).with_traceback(error.__traceback__)
    return error  # pyright: ignore[reportUnknownVariableType]


def text(error: PybuildError) -> str:
    """Message, last log lines of a failed step, marked excerpts, hints; one line end each."""
    lines: list[str] = []
    if isinstance(error, StepError) and error.log_tail:
        lines += ["------", *error.log_tail, "------"]
    prefix = "error: internal: " if isinstance(error, InternalError) else "error: "
    lines.append(prefix + error.message)
    for span in error.spans:
        lines += excerpt(span, error.sources.get(span.file))
    lines += [f"hint: {hint}" for hint in error.hints]
    return "\n".join(lines) + "\n"


def excerpt(span: Span, lines: Sequence[str] | None) -> list[str]:
    """The lines of *span* marked ``>>>``, with two lines around; only the place without *lines*.

    Of a very long span, only the beginning.
    """
    head = f"{span.file}:{span.first_line}"
    if lines is None:
        return [head]
    first = max(1, span.first_line - _AROUND)
    hidden = max(0, min(len(lines), span.last_line) - span.first_line + 1 - _MOST)
    last = min(len(lines), span.last_line + _AROUND)
    if hidden:
        last = span.first_line + _MOST - 1
    width = max(4, len(str(last)) + 1)
    out = [head]
    for number in range(first, last + 1):
        mark = ">>>" if span.first_line <= number <= span.last_line else "   "
        body = lines[number - 1]
        clipped = body if len(body) <= 200 else body[:199] + "…"
        out.append(f"{number:>{width}} | {mark} {clipped}".rstrip())
    if hidden:
        out.append(f"{'':>{width}} | >>> … {hidden} more lines")
    return out


def _where_it_broke(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    last = frames[-1]
    return f"  at {os.path.basename(last.filename)}:{last.lineno} in {last.name}\n"
