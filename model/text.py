"""Texts that several rooms read alike."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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


def switch(attrs: Mapping[str, str], name: str, default: bool, subject: str) -> bool:
    """Return the value of an attribute of *subject* that is true or false.

    Raises:
        UsageError: it is neither.
    """
    text = attrs.get(name)
    if text is None:
        return default
    if text.lower() not in {"true", "false", "1", "0"}:
        from pybuild.model.errors import UsageError

        raise UsageError(f'{subject} attribute {name}="{text}": expected true or false')
    return text.lower() in {"true", "1"}
