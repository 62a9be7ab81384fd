"""Events: the journal that is written by whoever acts, its bounds, and what followers read [ENG-45, ENG-46, ENG-49]."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pybuild.cache.disk import journal
from pybuild.containers.events import (
    Event,
    EventStream,
    event_filter,
    follow_events,
    with_status,
)
from pybuild.containers.moments import read_moment
from pybuild.model.errors import UsageError
from pybuild.model.filtertext import filter_values
from tests.watchdog import ends


def note(root: Path, action: str, **attributes: str) -> None:
    journal.note(str(root), journal.CONTAINER, action, "c" * 64, attributes)


def there(root: Path, since: int = 1) -> list[Event]:
    stream = EventStream(str(root), since=since, until=time.time_ns())
    try:
        with ends():
            return list(follow_events(stream))
    finally:
        stream.close()


def test_an_event_has_dockers_shape(tmp_path: Path) -> None:
    before = time.time_ns()
    note(tmp_path, "die", exitCode="7", name="one")
    (event,) = there(tmp_path)
    moment = event.pop("timeNano")
    assert before <= moment <= time.time_ns() and event.pop("time") == moment // 10**9
    assert event == {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "c" * 64, "Attributes": {"exitCode": "7", "name": "one"}},
        "scope": "local",
    }


def test_what_is_meant_is_read_at_once_behind_much_that_is_not(tmp_path: Path) -> None:
    """ENG-45: who follows from now on would else wait at each part of a long journal."""
    for number in range(3000):
        note(tmp_path, "old", name=f"{number:0100}")
    since = time.time_ns()
    note(tmp_path, "new")
    stream = EventStream(str(tmp_path), since=since)
    try:
        assert [event["Action"] for event in stream.read() or ()] == ["new"]
        assert stream.read() == []
    finally:
        stream.close()


def test_the_older_fields_are_of_containers_and_images_alone(tmp_path: Path) -> None:
    note(tmp_path, "start", image="busybox")
    journal.note(str(tmp_path), journal.NETWORK, "create", "n", {})
    journal.note(str(tmp_path), journal.IMAGE, "pull", "busybox:latest", {"name": "busybox"})
    shown = [
        {key: value for key, value in with_status(event).items() if key in ("status", "id", "from")}
        for event in there(tmp_path)
    ]
    assert shown == [
        {"status": "start", "id": "c" * 64, "from": "busybox"},
        {},
        {"status": "pull", "id": "busybox:latest"},
    ]


def test_only_what_comes_is_followed_unless_a_time_is_given(tmp_path: Path) -> None:
    note(tmp_path, "before")
    stream = EventStream(str(tmp_path))
    assert stream.read() == []
    note(tmp_path, "after")
    assert [event["Action"] for event in stream.read() or ()] == ["after"]
    stream.close()
    first, second = there(tmp_path)
    assert there(tmp_path, since=second["timeNano"]) == [second]
    early = EventStream(str(tmp_path), until=first["timeNano"])
    with ends():
        assert list(follow_events(early)) == [first]
    early.close()


def test_the_journal_is_bounded_and_a_follower_loses_nothing(tmp_path: Path) -> None:
    stream = EventStream(str(tmp_path))
    read: list[Event] = []
    for number in range(900):
        note(tmp_path, "top", number=str(number), text="x" * 4000)
        while number % 100 == 99 and (events := stream.read()):
            read += events
    stream.close()
    assert [int(event["Actor"]["Attributes"]["number"]) for event in read] == list(range(900))
    sizes = [(tmp_path / "events" / name).stat().st_size for name in journal.FILES]
    assert max(sizes) <= 1 << 20
    assert len(there(tmp_path)) >= 256


def test_writers_take_turns_and_their_times_never_go_back(tmp_path: Path) -> None:
    def write(who: int) -> None:
        for number in range(50):
            note(tmp_path, "top", who=str(who), number=str(number))

    threads = [threading.Thread(target=write, args=[who]) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = there(tmp_path)
    assert len(events) == 200
    times = [event["timeNano"] for event in events]
    assert times == sorted(times)


def test_a_line_that_was_torn_costs_no_other(tmp_path: Path) -> None:
    note(tmp_path, "one")
    with (tmp_path / "events/journal").open("ab") as file:
        file.write(b'{"Type":"container","Act')
    note(tmp_path, "two")
    assert [event["Action"] for event in there(tmp_path)] == ["one", "two"]


def test_an_event_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """A full disk takes no half of a line; a store that is gone none at all [MON-5]."""
    note(tmp_path, "one")
    size = (tmp_path / "events/journal").stat().st_size
    pid = os.fork()
    if pid == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, size + 10))
        note(tmp_path, "two")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "events/journal").stat().st_size == size
    blocked = tmp_path / "file"
    blocked.write_text("")
    note(blocked, "three")


def test_labels_without_end_are_left_out(tmp_path: Path) -> None:
    note(tmp_path, "create", label="x" * 100_000)
    (event,) = there(tmp_path)
    assert event["Actor"]["Attributes"] == {}


ONE = {"ID": "abc" + "0" * 61, "Attributes": {"name": "web", "image": "nginx:1.27", "tier": "a"}}


def event(kind: str = "container", action: str = "start", actor: object = ONE) -> Event:
    return {"Type": kind, "Action": action, "Actor": actor, "scope": "local", "timeNano": 1}


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({}, True),
        ({"container": ["abc"]}, True),
        ({"container": ["we"]}, True),
        ({"container": ["eb"]}, False),
        ({"container": ["eb", "web"]}, True),
        ({"network": ["web"]}, False),
        ({"image": ["nginx"]}, True),
        ({"image": ["nginx:1.27"]}, True),
        ({"image": ["ngin"]}, False),
        ({"type": ["network", "container"]}, True),
        ({"event": ["start"]}, True),
        ({"event": ["sta"]}, False),
        ({"label": ["tier=a"]}, True),
        ({"label": ["tier=a", "other"]}, False),
        ({"scope": ["swarm"]}, False),
        ({"daemon": ["x"]}, False),
        ({"type": ["container"], "event": ["stop"]}, False),
    ],
)
def test_filters(filters: Mapping[str, Sequence[str]], fits: bool) -> None:
    """As docker's events.Filter has them [ENG-49]."""
    assert event_filter(filters)(event()) is fits


@pytest.mark.parametrize("value", ["exec_create", "exec_create: sh", "health_status"])
def test_some_actions_are_matched_by_their_beginning(value: str) -> None:
    action = "health_status: healthy" if value == "health_status" else "exec_create: sh -c x"
    assert event_filter({"event": [value]})(event(action=action))


def test_a_tag_is_no_part_of_an_image_that_is_filtered_by() -> None:
    pulled = event("image", "pull", {"ID": "host:5000/a:1", "Attributes": {"name": "host:5000/a"}})
    assert event_filter({"image": ["host:5000/a"]})(pulled)
    assert event_filter({"image": ["host:5000/a:1"]})(pulled)
    assert not event_filter({"image": ["host"]})(pulled)


def test_filters_that_are_none() -> None:
    with pytest.raises(UsageError, match="invalid filter 'colour'"):
        event_filter({"colour": ["red"]})
    with pytest.raises(UsageError, match='invalid argument "type"'):
        filter_values(["type"])
    assert filter_values(["a=b=c", "a=d"]) == {"a": ["b=c", "d"]}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("0", None),
        ("1700000000", 1700000000_000000000),
        ("1700000000.000000007", 1700000000_000000007),
        ("2023-11-14T22:13:20Z", 1700000000_000000000),
        ("2023-11-14T22:13:20.000000007Z", 1700000000_000000007),
        ("2023-11-14T23:13:20.5+01:00", 1700000000_500000000),
        ("10s", 90_000_000_000),
    ],
)
def test_times(text: str, moment: int | None) -> None:
    assert read_moment(text, 100_000_000_000) == moment


@pytest.mark.parametrize("text", ["yesterday", "2023-13-01T00:00:00", "-1x"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="invalid time"):
        read_moment(text, 0)


def test_the_journal_is_its_owners_alone(tmp_path: Path) -> None:
    note(tmp_path, "one")
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "events").iterdir()}
    assert modes == {"0o600"}
    assert json.loads((tmp_path / "events/journal").read_text())["Action"] == "one"
