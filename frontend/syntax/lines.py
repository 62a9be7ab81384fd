"""Physical lines to logical lines: comments, continuations, heredoc bodies [LEX, HD-3, HD-4].

Where an instruction's bodies begin is known only when its text is parsed, so the reader is a
cursor: `LineReader.next_line`, then `LineReader.heredoc_body` as often as that line asks for.
"""

from __future__ import annotations

from pybuild.frontend.syntax.physical import Lines, shown
from pybuild.frontend.words.gotext import SPACE
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span

MAX_LINE_BYTES = 65535

# One instruction, continuations included. No kernel takes a longer command line.
MAX_INSTRUCTION_CHARS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, continuations joined, with what stood around it.

    Attributes:
        text: starts with the keyword; not empty.
        comments: the comment lines above, without ``#`` and surrounding space [LEX-8].
        has_empty_line: a blank line was skipped inside [LEX-5].
        pieces: where the text comes from: line number, first column, length.
    """

    text: str
    first_line: int
    last_line: int
    comments: tuple[str, ...]
    has_empty_line: bool
    pieces: tuple[tuple[int, int, int], ...]


class SyntaxFault(Exception):
    """Something is wrong at these lines; the parser makes a `UserError` of it."""

    def __init__(self, message: str, first_line: int, last_line: int) -> None:
        super().__init__(message)
        self.message = message
        self.first_line = first_line
        self.last_line = last_line


class LineReader:
    """A cursor over the physical lines.

    Args:
        lines: with their line ends, directives included.
        escape: the continuation character.
        skip: how many directive lines to pass over; they are no comments.
    """

    def __init__(self, lines: Lines, *, escape: str, skip: int = 0) -> None:
        self._lines = lines
        self._escape = escape
        self._at = skip

    @property
    def lines(self) -> Lines:
        """The physical lines of the whole file."""
        return self._lines

    @property
    def line_number(self) -> int:
        """The number of the last line read, 1-based; 0 before the first."""
        return self._at

    def next_line(self) -> LogicalLine | None:
        """Return the next instruction's text, or None at the end of the file."""
        comments: list[str] = []
        while self._at < len(self._lines):
            read = self._read()
            line = read.lstrip(SPACE)
            if line.startswith("#"):
                comment = line[1:].strip(SPACE)
                # Blank lines do not part a comment from its instruction, a bare "#" does [LEX-8].
                if comment:
                    comments.append(shown(comment))
                else:
                    comments.clear()
                continue
            first = self._at
            text, goes_on = self._without_continuation(line)
            if not goes_on and not text:
                continue
            parts = [text]
            pieces = [(first, len(read) - len(line), len(text))]
            size = len(text)
            has_empty_line = False
            while goes_on and self._at < len(self._lines):
                line = self._read()
                start = line.lstrip(SPACE)
                if start.startswith("#"):
                    continue
                if not start:
                    has_empty_line = True
                    continue
                text, goes_on = self._without_continuation(line)
                parts.append(text)
                pieces.append((self._at, 0, len(text)))
                size += len(text)
                if size > MAX_INSTRUCTION_CHARS:
                    raise SyntaxFault(
                        f"instruction longer than {MAX_INSTRUCTION_CHARS} characters",
                        first,
                        self._at,
                    )
            joined = "".join(parts)
            self._check_text(joined, first)
            if not joined.strip(SPACE):
                continue  # a lone continuation character and nothing behind it
            return LogicalLine(
                joined, first, self._at, tuple(comments), has_empty_line, tuple(pieces)
            )
        return None

    def heredoc_body(self, delimiter: str, *, chomp: bool, first_line: int) -> str:
        """Read a body up to its delimiter line, which is consumed; line ends are kept.

        Raises:
            SyntaxFault: the file ends before [HD-4].
        """
        start, lines = self._at, self._lines
        for at in range(start, len(lines)):
            line = lines[at]
            if delimiter not in line and len(line) * 4 <= MAX_LINE_BYTES:
                continue
            self._at = at
            line = self._read()
            if (line.lstrip("\t") if chomp else line) == delimiter:
                body = lines.joined(start, at)
                self._check_text(body, start + 1, is_body=True)
                return body
        self._at = len(lines)
        raise SyntaxFault("unterminated heredoc", first_line, self._at)

    def _read(self) -> str:
        line = self._lines[self._at]
        self._at += 1
        if len(line) * 4 > MAX_LINE_BYTES:
            size = len(line.removesuffix("\n").encode("utf-8", "surrogateescape"))
            if size > MAX_LINE_BYTES:
                raise SyntaxFault(
                    f"dockerfile line greater than max allowed size of {MAX_LINE_BYTES}",
                    self._at,
                    self._at,
                )
        return line.rstrip("\r\n")

    def _without_continuation(self, line: str) -> tuple[str, bool]:
        """Split off the continuation character; two of them, or three, are data [LEX-3, LEX-4]."""
        cut = line.rstrip(" \t")
        if cut.endswith(self._escape) and not cut[:-1].endswith(self._escape):
            return cut[:-1], True
        return line, False

    def _check_text(self, text: str, first_line: int, *, is_body: bool = False) -> None:
        """Refuse bytes that are no text, except in comments, where they do no harm [IN-2].

        A heredoc may hold NUL: it can be a file.
        """
        if "\0" in text and not is_body:
            raise SyntaxFault("NUL character in an instruction", first_line, self._at)
        if text.isascii():
            return
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) & 0xFF
            raise SyntaxFault(
                f"the file is not UTF-8: byte 0x{byte:02x}", first_line, self._at
            ) from None


def located(error: SyntaxFault | UserError, file: str, first: int, last: int) -> UserError:
    """Return *error* as the user sees it: with its line in text and span [IN-5]."""
    if isinstance(error, SyntaxFault):
        first, last = error.first_line, error.last_line
    return UserError(
        f"dockerfile parse error on line {first}: {error.message}",
        spans=(Span(file, first, max(first, last)),),
        hints=error.hints if isinstance(error, UserError) else (),
    )
