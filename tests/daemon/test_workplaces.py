"""Stores of clients are open while somebody uses them, and some of those that were used last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pybuild.daemon.control import workplaces
from pybuild.daemon.control.workplaces import Workplaces, place_of
from pybuild.engine.settings import Share
from pybuild.model.errors import EnvironmentFault

MOST = 2


class Site(Workplaces):
    """Workplaces whose engines are names; *open* has those that are open."""

    def __init__(self, root: Path) -> None:
        self.open: list[str] = []
        self.is_broken = False
        engine: Any = SimpleNamespace(store=SimpleNamespace(root=str(root)))
        super().__init__(engine, Share.OWN, {})

    def _sync(self, engine: Any, stack: AsyncExitStack) -> Any:
        return None

    async def _open(self, root: str, owner: str, stack: AsyncExitStack, place: str = "") -> Any:
        await asyncio.sleep(0)
        if self.is_broken:
            raise EnvironmentFault("cannot be opened")
        self.open.append(owner)
        stack.callback(self.open.remove, owner)
        return workplaces.Workplace(engine=None, sync=None, place=place)  # type: ignore[arg-type]  # pyright: ignore


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplaces, "MOST_IDLE", MOST)


async def use(site: Site, owner: str) -> None:
    async with site.of(owner), site.lent(owner):
        assert site.open.count(owner) == 1


async def until(holds: Callable[[], bool]) -> None:
    """Wait: stores are closed by tasks of their own."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0)


def test_the_stores_used_last_stay_open(tmp_path: Path) -> None:
    async def work() -> None:
        site = Site(tmp_path)
        async with site.of("held"):
            for number in range(10):
                await use(site, f"c{number}")
            await use(site, "c8")
            await use(site, "c10")
            await until(lambda: sorted(site.open) == ["c10", "c8", "held"])
            await asyncio.gather(*(use(site, f"c{number}") for number in range(10)))
        await until(lambda: len(site.open) == MOST)
        await site.close()
        assert site.open == []

    asyncio.run(work())


def test_a_report_keeps_the_store_of_its_build_open(tmp_path: Path) -> None:
    async def work() -> None:
        site = Site(tmp_path)
        async with site.of("a") as place:
            kept = site.kept(place)
            kept.__enter__()
        for number in range(5):
            await use(site, f"c{number}")
        await until(lambda: sorted(site.open) == ["a", "c3", "c4"])
        kept.__exit__(None, None, None)
        await site.close()

    asyncio.run(work())


def test_a_store_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    async def work() -> None:
        site = Site(tmp_path)
        site.is_broken = True
        for _ in range(2):
            with pytest.raises(EnvironmentFault):
                await use(site, "a")
        site.is_broken = False
        await use(site, "a")
        assert site.open == ["a"] and place_of("a")
        await site.close()

    asyncio.run(work())
