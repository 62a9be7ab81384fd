"""Excerpts of a text, as errors and warnings show them."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.span import Span

_AROUND = 2
_MOST = 30  # marked lines; a heredoc may have a million


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
