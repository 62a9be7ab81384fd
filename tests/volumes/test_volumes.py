"""The volumes of a store, without containers."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.engine.host import SystemClock
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.volumes.volumes import Volumes


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", SystemClock()) as opened:
        yield opened


def nobody(_: str) -> list[str]:
    return []


def test_one_that_is_there_stays_whatever_is_said(store: Store) -> None:
    """Compose relies on it."""
    volumes = Volumes(store)
    first = volumes.create("one", labels={"a": "b"})
    assert volumes.create("one", labels={"c": "d"}) == first
    assert volumes.list() == [first]
    unnamed = volumes.create()
    assert (len(unnamed.name), unnamed.is_anonymous, first.is_anonymous) == (64, True, False)


def test_many_make_one_at_once(store: Store) -> None:
    made: list[object] = []
    threads = [
        threading.Thread(target=lambda: made.append(Volumes(store).create("one"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [made[0]] * 8


def test_what_is_held_or_used_is_not_removed(store: Store) -> None:
    """Also while a container with it is only just being made."""
    volumes = Volumes(store)
    volumes.create("one")
    with volumes.held("one"), pytest.raises(UserError, match="remove one: volume is in use"):
        volumes.remove("one", nobody)
    with pytest.raises(UserError, match=r"remove one: volume is in use - \[abc\]"):
        volumes.remove("one", lambda _: ["abc"])
    volumes.remove("one", nobody)
    assert volumes.list() == []
    with pytest.raises(UserError, match="get one: no such volume"), volumes.held("one"):
        pass


def test_who_waits_for_one_that_goes_gets_none_of_its_remains(store: Store) -> None:
    """A lock that was taken on what was moved away meanwhile is let go of again."""
    volumes = Volumes(store)
    volumes.create("one")
    seen: list[str] = []

    def users(name: str) -> list[str]:
        waiting.start()
        return []

    def hold() -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(volumes.held("one"))
                seen.append("held")
            except UserError as error:
                seen.append(error.message)

    waiting = threading.Thread(target=hold)
    volumes.remove("one", users)
    waiting.join()
    assert seen == ["get one: no such volume"]


@pytest.mark.parametrize("name", ["", "a", "a b", "../names", "/etc"])
def test_what_no_volume_can_be_called_is_not_there(store: Store, name: str) -> None:
    """A look or a removal says that it is missing; only a creation explains that the name is invalid."""
    volumes = Volumes(store)
    with pytest.raises(UserError, match=f"^get {name}: no such volume$"):
        volumes.find(name)
    with pytest.raises(UserError, match=f"^get {name}: no such volume$"):
        volumes.remove(name, nobody)


def test_a_damaged_record_is_said_and_its_files_stay(store: Store) -> None:
    volumes = Volumes(store)
    one = volumes.create("one")
    Path(one.mountpoint, "f").write_text("x")
    Path(one.mountpoint, "../volume.json").write_text("{")
    with pytest.raises(EnvironmentFault, match="volume one cannot be read") as caught:
        volumes.find("one")
    assert one.mountpoint in caught.value.hints[0]
    assert volumes.list() == []
    assert os.listdir(one.mountpoint) == ["f"]
