"""``pybuild events``: what is done to containers, images, networks and volumes, as it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.containers.events import (
    Event,
    EventStream,
    event_filter,
    follow_events,
    with_status,
)
from pybuild.containers.moments import read_moment
from pybuild.model.filtertext import filter_values
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.printable import printable


def events(parsed: Parsed) -> int:
    """Show events until somebody ends it, or until a time."""
    now, form = time.time_ns(), parsed.one("format")
    since, until = (read_moment(parsed.one(name), now) for name in ("since", "until"))
    fits = event_filter(filter_values(parsed.many("filter")))
    with open_store(parsed) as store:
        root = store.root
    stream = EventStream(root, since=since, until=until, fits=fits)
    try:
        for event in follow_events(stream):
            sys.stdout.write(_text(with_status(event), form) + "\n")
            sys.stdout.flush()
    finally:
        stream.close()
    return 0


def _fields(event: Event) -> Mapping[str, Any]:
    """Return an event by the names that docker's templates have, all of which each event has."""
    older = {name: event.get(name.lower(), "") for name in ("Status", "ID", "From")}
    own = {name: event[name] for name in ("Type", "Action", "Actor")}
    times = {"Scope": event["scope"], "Time": event["time"], "TimeNano": event["timeNano"]}
    return {**older, **own, **times}


def _text(event: Event, form: str) -> str:
    if form in ("json", "{{json .}}"):
        return go_json(event)
    if form:
        return rendered(form, _fields(event))
    actor = event["Actor"]
    seconds, rest = divmod(event["timeNano"], 1_000_000_000)
    moment = datetime.fromtimestamp(seconds).astimezone()
    zone = f"{moment:%z}" if moment.utcoffset() else "Z"
    zone = zone if zone == "Z" else f"{zone[:3]}:{zone[3:]}"
    about = ", ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
    words = [f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}{zone}", event["Type"], event["Action"]]
    return printable(" ".join([*words, actor["ID"], f"({about})"]))
