"""Templates: texts with values in them, quoted or between the lines of a heredoc."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pybuild.bake.hcl import expressions as tree
from pybuild.bake.hcl.expressions import Expression
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|\$\$\{|%%\{", re.DOTALL)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class TemplatePiece:
    """A text, or the expression *inner*; *trims*: white space before it, and after it, goes."""

    text: str
    span: Span
    inner: Expression | None = None
    trims: tuple[bool, bool] = (False, False)


def quoted_text(text: str) -> str:
    """Return the text between quotes with its escapes read.

    Raises:
        UserError: an escape that means nothing.
    """

    def read(match: re.Match[str]) -> str:
        escape = match[1]
        if escape is None:
            return match[0][1:]
        if escape[0] in "uU" and len(escape) > 1:
            return chr(int(escape[1:], 16))
        if escape not in _SIMPLE:
            raise UserError(
                f'invalid escape sequence "\\{escape}"',
                hints=[r"there is \n, \r, \t, \", \\, \uNNNN and \UNNNNNNNN"],
            )
        return _SIMPLE[escape]

    return _ESCAPE.sub(read, text)


def _unescaped(text: str) -> str:
    return text.replace("$${", "${").replace("%%{", "%{")


def heredoc_pieces(pieces: Sequence[TemplatePiece], *, flush: bool) -> list[TemplatePiece]:
    """Return the pieces of a heredoc; *flush*: without the blanks that all its lines begin with."""
    texts = [piece.text for piece in pieces]
    if flush:
        texts = _flushed([piece.text if piece.inner is None else None for piece in pieces])
    return [
        TemplatePiece(_unescaped(text), piece.span, piece.inner, piece.trims)
        for text, piece in zip(texts, pieces, strict=True)
    ]


def _flushed(texts: Sequence[str | None]) -> list[str]:
    """Return the texts without the indentation that the lines share; None stands for a value."""
    starts = True
    indents: list[int] = []
    for at, text in enumerate(texts):
        for number, line in enumerate((text or "").split("\n")):
            begins = number > 0 or (starts and text is not None)
            blank = not line.strip(" \t")
            followed = text is not None and number == text.count("\n") and at + 1 < len(texts)
            if begins and (not blank or followed):
                indents.append(len(line) - len(line.lstrip(" \t")))
        starts = text is not None and text.endswith("\n")
    margin = min(indents, default=0)
    made: list[str] = []
    starts = True
    for text in texts:
        lines = (text or "").split("\n")
        kept = [
            line[min(margin, len(line) - len(line.lstrip(" \t"))) :]
            if number > 0 or starts
            else line
            for number, line in enumerate(lines)
        ]
        made.append("\n".join(kept))
        starts = text is not None and text.endswith("\n")
    return made


def template_of(
    pieces: Sequence[TemplatePiece], span: Span, *, unwrapped: bool = True
) -> Expression:
    """Return the expression that the pieces make; one value alone, *unwrapped*, stays what it is."""
    texts = [piece.text for piece in pieces]
    for at, piece in enumerate(pieces):
        if piece.trims[0] and at:
            texts[at - 1] = texts[at - 1].rstrip()
        if piece.trims[1] and at + 1 < len(texts):
            texts[at + 1] = texts[at + 1].lstrip()
    parts: list[Expression] = []
    for text, piece in zip(texts, pieces, strict=True):
        if piece.inner is not None:
            parts.append(piece.inner)
        elif text:
            parts.append(tree.Literal(piece.span, text))
    has_values = any(piece.inner is not None for piece in pieces)
    if unwrapped and has_values and len(parts) == 1:
        return parts[0]
    if not has_values:
        return tree.Literal(span, "".join(texts))
    return tree.Template(span, tuple(parts))
