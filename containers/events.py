"""Events of a store as docker tells them: read from the journal, chosen by filters, followed [ENG-45, ENG-49]."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pybuild.cache.disk.journal import FILES, FOLDER, IMAGE
from pybuild.cache.disk.rotatedlines import RotatedLines
from pybuild.containers.choosing import has_label
from pybuild.model.filtertext import refuse_unknown

Event = dict[str, Any]
Fits = Callable[[Event], bool]

_PAUSE_S = 0.05
_KINDS = ("container", "daemon", "image", "network", "plugin", "volume")
_KNOWN = (*_KINDS, "event", "label", "scope", "type")
_BY_PREFIX = ("exec_create", "exec_start", "health_status")
_WITH_STATUS = ("container", "image")


def event_filter(filters: Mapping[str, Sequence[str]]) -> Fits:
    """Return a test of events: of one key any value fits, of labels all must.

    Raises:
        UsageError: an unknown key.
    """
    refuse_unknown(filters, _KNOWN)
    known = {key: tuple(values) for key, values in filters.items() if values}
    return lambda event: all(_fits(event, key, values) for key, values in known.items())


def _fits(event: Event, key: str, values: Sequence[str]) -> bool:
    id, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
    match key:
        case "label":
            return all(has_label(attributes, value) for value in values)
        case "type":
            return event["Type"] in values
        case "scope":
            return event["scope"] in values
        case "event":
            action = event["Action"]
            return any(
                action == value or (action.startswith(_BY_PREFIX) and action.startswith(value))
                for value in values
            )
        case "image":
            name = attributes.get("name" if event["Type"] == IMAGE else "image", "")
            names = (id, name, _without_tag(id), _without_tag(name))
            return not frozenset(names).isdisjoint(values)
        case "daemon" | "plugin":
            return False  # there are none of them
        case _:
            name = attributes.get("name", "")
            begins = any(id.startswith(one) or name.startswith(one) for one in values)
            return event["Type"] == key and begins


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


class EventStream:
    """The events of a store, from a moment on.

    Args:
        root: the store's directory.
        since: nanoseconds since the epoch: what was done before is left out; None: so is all that was
            done before now, unless there is an *until*.
        until: what is done later is left out, and the stream ends then; None: it never does.
    """

    def __init__(
        self,
        root: str,
        *,
        since: int | None = None,
        until: int | None = None,
        fits: Fits = lambda event: True,
    ) -> None:
        self._since = since or 0
        self._until = until
        self._fits = fits
        path = os.path.join(root, FOLDER)
        os.makedirs(path, 0o700, exist_ok=True)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lines = RotatedLines(self._folder, FILES)
        if since is None and until is None:
            self._lines.skip()

    def close(self) -> None:
        self._lines.close()
        os.close(self._folder)

    def read(self) -> list[Event] | None:
        """Return the events since the last call, perhaps none; None: no more will come."""
        is_over = self._until is not None and time.time_ns() > self._until
        # Whoever waits where nothing was returned waits at the journal's end: not at each part without any.
        while lines := self._lines.read():
            events = [event for event in map(_parsed, lines) if event is not None]
            if meant := [event for event in events if self._is_meant(event)]:
                return meant
        return None if is_over else []

    def _is_meant(self, event: Event) -> bool:
        moment = event["timeNano"]
        is_late = self._until is not None and moment > self._until
        return moment >= self._since and not is_late and self._fits(event)


def follow_events(stream: EventStream) -> Iterator[Event]:
    """Yield the events of a stream as they come, until it ends."""
    while (events := stream.read()) is not None:
        yield from events
        if not events:
            time.sleep(_PAUSE_S)


def _parsed(line: bytes) -> Event | None:
    """Return a line's event; None: a power failure has left a part of it."""
    try:
        event: Event = json.loads(line)
        int(event["timeNano"])
        dict(event["Actor"]["Attributes"])
    except (ValueError, KeyError, TypeError):
        return None
    return event


def with_status(event: Event) -> Event:
    """Return an event with the fields that docker has beside them below its version 1.52 [ENG-45]."""
    if event["Type"] not in _WITH_STATUS:
        return event
    actor = event["Actor"]
    older = {"status": event["Action"], "id": actor["ID"]}
    if event["Type"] != IMAGE:
        older["from"] = actor["Attributes"].get("image", "")
    return {**older, **event}
