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


_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def boolean(text: str) -> bool | None:
    """Return the value of *text* as Go's ``strconv.ParseBool`` reads it; None where it has none."""
    return text in _TRUE if text in _TRUE or text in _FALSE else None


def switch(attrs: Mapping[str, str], name: str, default: bool, subject: str) -> bool:
    """Return the value of an attribute of *subject* that is true or false.

    Raises:
        UsageError: it is neither.
    """
    text = attrs.get(name)
    if text is None:
        return default
    value = boolean(text.lower())
    if value is None:
        from pybuild.model.errors import UsageError

        raise UsageError(f'{subject} attribute {name}="{text}": expected true or false')
    return value
