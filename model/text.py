"""Texts that several rooms read alike."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def split_csv(text: str) -> list[str]:
    """Split one CSV record: commas inside double quotes do not count."""
    import csv

    for record in csv.reader([text]):
        return record
    return []


def join_csv(fields: Iterable[str]) -> str:
    """Return *fields* as one CSV record, without its line end."""
    import csv
    import io

    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(list(fields))
    return out.getvalue()
