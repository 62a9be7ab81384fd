"""HTML of pages: the document around them, and whatever somebody wrote as text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from pybuild.model.printable import without_controls

_LONG = 1000


def document(title: str, body: str, head: str = "") -> str:
    """Return a whole page.

    Args:
        title: plain text.
        body, head: markup.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{as_text(title)}</title>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def style() -> str:
    """Return the style sheet of the pages."""
    return (files("pybuild.history") / "page.css").read_text("utf-8")


def as_text(text: str) -> str:
    """Return *text* for a page: one line, of a bearable length."""
    line = " ".join(plain_lines(text).split())
    return escape(line if len(line) <= _LONG else line[:_LONG] + "…")


def as_lines(text: str) -> str:
    """Return an output for a page, with its lines."""
    return escape(plain_lines(text))


def plain_lines(text: str) -> str:
    """Return lines as a terminal leaves them, without its commands: plain text, not yet markup."""
    return "\n".join(map(without_controls, _lines(text)))


def _lines(text: str) -> Iterable[str]:
    """Return lines as a terminal leaves them: what was written over is gone."""
    return (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
