"""Filters of lists, ``--filter name=value``, as all commands and both engines' clients read them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pybuild.model.errors import UsageError


def filter_values(
    texts: Sequence[str], known: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Return the values of each name of ``name=value`` texts, in the order given.

    Args:
        known: names that mean something; without them any does.

    Raises:
        UsageError: a text that is none, or an unknown name.
    """
    values: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: invalid filter \'{text}\''
            )
        values.setdefault(name, []).append(value)
    if known is not None:
        refuse_unknown(values, known)
    return values


def refuse_unknown(names: Iterable[str], known: Collection[str]) -> None:
    """Raise for the first of *names* that means nothing.

    Raises:
        UsageError: there is one.
    """
    for name in names:
        if name not in known:
            raise UsageError(
                f"invalid filter '{name}'", hints=[f"known: {', '.join(sorted(known))}"]
            )
