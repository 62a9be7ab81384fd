"""Dockerfile text to instructions and stages [IN]. Pure; the grammar is loaded at the first call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.directives import parse_directives
from pybuild.frontend.syntax.lines import (
    LineReader,
    LogicalLine,
    SyntaxFault,
    located,
)
from pybuild.frontend.syntax.physical import excerpts, split_lines
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span

if TYPE_CHECKING:
    from pybuild.frontend.syntax.instructions import Line

# Far beyond any Dockerfile made by people or programs, and parsed in about a second: a daemon must
# not be kept busy by one file.
MAX_BYTES = 64 * 1024 * 1024
MAX_LINES = 1_000_000
MAX_INSTRUCTIONS = 20_000
MAX_WORDS = 120_000
_BEGIN = "begin with a base image: FROM image"


@dataclass(slots=True)
class Draft:
    """The instructions read so far; after an error, those above it."""

    directives: ast.Directives = field(default_factory=ast.Directives)
    instructions: list[ast.Instruction] = field(default_factory=list[ast.Instruction])
    warnings: list[ast.ParseWarning] = field(default_factory=list[ast.ParseWarning])


def parse_dockerfile(
    text: bytes, filename: str = "Dockerfile", draft: Draft | None = None
) -> ast.Dockerfile:
    """Return the whole file as instructions, grouped in stages.

    Every instruction is checked, also in stages that nobody asks for [IN-7].

    Args:
        text: the file as read.
        filename: for spans.
        draft: is filled while reading, for those who want to know more than an error.

    Raises:
        UserError: with spans; the first fault from the top.
    """
    draft = Draft() if draft is None else draft
    _check_size(text)
    lines = split_lines(text)
    draft.directives, count = _directives(lines, filename)
    escape = draft.directives.escape
    reader = LineReader(lines, escape=escape, skip=count)
    parser = _Parser(reader, escape, filename, draft.warnings)
    global_args: list[ast.Arg] = []
    stages: list[tuple[ast.From, list[ast.Instruction]]] = []
    while (item := parser.next()) is not None:
        draft.instructions.append(item)
        if isinstance(item, ast.From):
            stages.append((item, []))
        elif stages:
            stages[-1][1].append(item)
        elif isinstance(item, ast.Arg):
            global_args.append(item)
        else:
            raise UserError(
                "no build stage in current context", spans=(item.span,), hints=(_BEGIN,)
            )
    if not draft.instructions:
        last = max(1, len(lines))
        span = Span(filename, last, last)
        raise UserError("file with no instructions", spans=(span,), hints=(_BEGIN,))
    if not stages:
        raise UserError(
            "dockerfile contains no stages to build",
            spans=tuple(arg.span for arg in global_args[-1:]),
        )
    return ast.Dockerfile(
        filename=filename,
        directives=draft.directives,
        global_args=tuple(global_args),
        stages=tuple(
            ast.Stage(start=start, body=tuple(body), index=index)
            for index, (start, body) in enumerate(stages)
        ),
        lines=excerpts(text),
        warnings=tuple(draft.warnings),
    )


def _check_size(text: bytes) -> None:
    if not text:
        hint = "write FROM image into it, or name another file with -f"
        raise UserError("the Dockerfile cannot be empty", hints=(hint,))
    if len(text) > MAX_BYTES:
        raise UserError(f"the Dockerfile is larger than {MAX_BYTES} bytes")
    if text.count(b"\n") > MAX_LINES:
        raise UserError(f"the Dockerfile has more than {MAX_LINES} lines")


def _directives(lines: Sequence[str], filename: str) -> tuple[ast.Directives, int]:
    """Return the directives at the top, and how many lines they are."""
    try:
        return parse_directives(lines)
    except SyntaxFault as fault:
        from pybuild.frontend.syntax.advice import advice

        first, last = fault.first_line, fault.last_line
        hints = advice(fault.message, lines, first, last)
        raise located(fault, filename, first, last).hinting(*hints) from None


def parse_instruction(text: str, span: Span, escape: str = "\\") -> ast.Instruction:
    """Return the one instruction that an ONBUILD trigger of a base image consists of [OB-2].

    Args:
        text: as the image's config holds it, heredoc bodies included.
        span: the place that errors point at: the FROM of that image.

    Raises:
        UserError: it is malformed, no single instruction, or not allowed as a trigger [OB-1].
    """
    from pybuild.frontend.syntax.instructions import reject_as_trigger

    lines = split_lines(text.encode("utf-8", "replace"))
    parser = _Parser(LineReader(lines, escape=escape), escape, span.file, [])
    try:
        trigger = parser.next()
        if trigger is None or parser.next() is not None:
            raise UserError("onbuild trigger should be a single expression")
        reject_as_trigger(trigger.keyword.upper())
    except UserError as error:
        message = re.sub(r"^dockerfile parse error on line \d+: ", "", error.message)
        start = text.split("\n", 1)[0]
        raise UserError(
            f"ONBUILD trigger {start!r} of the base image: {message}",
            spans=(span,),
            hints=error.hints,
        ) from None
    return replace(trigger, span=span)


class _Parser:
    """Reads instruction after instruction."""

    def __init__(
        self,
        reader: LineReader,
        escape: str,
        filename: str,
        warnings: list[ast.ParseWarning],
    ) -> None:
        self._reader = reader
        self._escape = escape
        self._filename = filename
        self._instructions = 0
        self._words = 0
        self._warnings = warnings

    def next(self) -> ast.Instruction | None:
        """Return the next instruction, or None at the end."""
        from pybuild.frontend.syntax.instructions import instruction

        first = self._reader.line_number + 1
        try:
            line = self._reader.next_line()
            if line is None:
                return None
            first = line.first_line
            self._check_budget(line)
            if line.has_empty_line:
                self._warnings.append(
                    ast.ParseWarning(
                        rule="NoEmptyContinuation",
                        message="Empty continuation line",
                        span=Span(self._filename, line.last_line, line.last_line),
                        first_line=line.first_line,
                    )
                )
            return instruction(
                *self._with_bodies(line),
                line.comments,
            )
        except (SyntaxFault, UserError) as error:
            raise self._located(error, first) from None

    def _located(self, error: SyntaxFault | UserError, first: int) -> UserError:
        """Return *error* with its line, and what people meant."""
        from pybuild.frontend.syntax.advice import advice, is_utf16

        lines, last = list(self._reader.lines), self._reader.line_number
        if is_utf16(lines):
            return UserError(
                "the Dockerfile is UTF-16, where UTF-8 is needed",
                spans=(Span(self._filename, 1, 1),),
                hints=(f"iconv -f UTF-16 -t UTF-8 {self._filename} > new, and take that",),
            )
        located_error = located(error, self._filename, first, last)
        at = located_error.spans[0]
        return located_error.hinting(*advice(error.message, lines, at.first_line, at.last_line))

    def _with_bodies(self, logical: LogicalLine) -> tuple[Line, Span]:
        from pybuild.frontend.syntax.instructions import read_line

        line = read_line(logical.text, self._escape)
        if line.heredocs:
            bodies = tuple(
                replace(
                    heredoc,
                    content=self._reader.heredoc_body(
                        heredoc.name, chomp=heredoc.chomp, first_line=logical.first_line
                    ),
                )
                for heredoc in line.heredocs
            )
            line = replace(line, heredocs=bodies)
        return line, Span(self._filename, logical.first_line, self._reader.line_number)

    def _check_budget(self, line: LogicalLine) -> None:
        self._instructions += 1
        if self._instructions > MAX_INSTRUCTIONS:
            raise UserError(f"more than {MAX_INSTRUCTIONS} instructions")
        start = line.text[:20].lstrip().upper()
        is_text = start.startswith(("RUN", "CMD", "ENTRYPOINT", "MAINTAINER", "USER", "WORKDIR"))
        if "<<" in line.text:
            self._words += sum(map(line.text.count, "$'\"\\<"))
        if "--mount" in line.text:  # each is a small language, read twice
            self._words += 4 * line.text.count("--mount")
        if not is_text:
            self._words += len(line.text.split())
        if self._words > MAX_WORDS:
            raise UserError(f"more than {MAX_WORDS} words in one Dockerfile")
