"""The containers that do not run, and their removal."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.cache.space.filters import parse_moment
from pybuild.cache.store import Store
from pybuild.containers.choosing import Choice
from pybuild.containers.containers import Containers
from pybuild.containers.state import CREATED, EXITED
from pybuild.engine.host import SystemClock
from pybuild.model.errors import UserError

_SECOND_NS = 1_000_000_000


def give_up_unfinished(store: Store) -> None:
    """Give back what commands that were killed held for containers which are not there."""
    Containers(store).reservations.give_up_unfinished()


def prune_containers(store: Store, filters: Sequence[str]) -> tuple[list[str], int]:
    """Remove those that were created or have ended; return their ids and the bytes that they wrote.

    Raises:
        UsageError: a filter is none.
    """
    containers, now = Containers(store), SystemClock().now()
    containers.reservations.give_up_unfinished()
    moments = [parse_moment(text[6:], now) for text in filters if text.startswith("until=")]
    choice = Choice(filters, lambda _: (), lambda _: 0, known=("label", "label!", "until"))
    removed: list[str] = []
    freed = 0
    for one in containers.list():
        state = one.state()
        is_late = any(one.config.created > moment * _SECOND_NS for moment in moments)
        if state.status not in (CREATED, EXITED) or is_late or not choice.fits(one.config, state):
            continue
        try:
            size = containers.sizes(one)[0]
            containers.remove(one)
        except (UserError, FileNotFoundError):
            continue  # it was started, or removed
        removed.append(one.config.id)
        freed += size
    return removed, freed
