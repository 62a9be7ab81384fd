"""Lists of things: as a table, for programs, or by a template, as docker's --format has it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_LEAST_WIDTH = 7
"""Of the columns of docker's lists."""


def cut(text: str, most: int) -> str:
    """Return a text, of which too many letters are left out at its end."""
    return text if len(text) <= most else text[: most - 1] + "…"


def table(rows: Sequence[Sequence[str]], least: int = 0) -> str:
    """Columns of at least so many letters, three spaces apart, one line a row."""
    if not all(cell.isprintable() for row in rows for cell in row):
        from pybuild.model.printable import printable

        rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    widths = [max(width, least) for width in widths]
    lines = ["   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


def list_text(
    form: str,
    rows: Iterable[Mapping[str, Any]],
    titles: Mapping[str, str],
    shown: Sequence[str],
    more: Iterable[Mapping[str, Any]] | None = None,
) -> str:
    """Return rows as ``--format`` says.

    Args:
        titles: of the columns, by the names of docker's fields.
        shown: the fields of a table that nobody chose.
        more: for ``json``, what we say beside docker's fields, a mapping a row.

    Raises:
        UsageError: *form* is no template.
    """
    rows = list(rows)
    if form in ("", "table"):
        cells = [[str(row[name]) for name in shown] for row in (titles, *rows)]
        return table(cells, _LEAST_WIDTH)
    from pybuild.model.gotemplate import go_json, rendered

    if form == "json":
        nothing: Mapping[str, Any] = {}
        beside = [nothing] * len(rows) if more is None else more
        lines = [go_json({**row, **ours}) for row, ours in zip(rows, beside, strict=True)]
    elif form == "{{json .}}":
        lines = list(map(go_json, rows))
    elif form.startswith("table "):
        template = form.removeprefix("table ").strip()
        lines = [rendered(template, titles, is_head=True), *(rendered(template, r) for r in rows)]
        cells = [line.split("\t") for line in lines]
        most = max(map(len, cells))
        return table([[*line, *[""] * (most - len(line))] for line in cells], _LEAST_WIDTH)
    else:
        lines = [rendered(form, row) for row in rows]
    return "".join(f"{line}\n" for line in lines)
