"""The builds that a store remembers, read: what commands and pages show of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builds.buildrecord import BuildRecord, from_facts
from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.content.buildlog import read_events
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.model.events import Emit


def kept_builds(store: Store) -> list[BuildRecord]:
    """Return the builds of *store*, the latest first, those that go on among them."""
    return [from_facts(one.id, one.facts) for one in Builds(store).all()]


def replay_build(store: Store, id: str, emit: Emit) -> None:
    """Emit the events of a build; of one that goes on, those so far.

    Raises:
        UserError: its log is gone.
    """
    stored = Builds(store).find(id)
    try:
        if stored is not None:
            for event in read_events(stored.log) if stored.log else stored.events():
                emit(event)
            return
    except FileNotFoundError:
        pass
    raise UserError(f"the log of build {id} is gone")
