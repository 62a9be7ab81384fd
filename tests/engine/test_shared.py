"""Builds of one event loop share an engine, for as long as one of them is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.engine.settings import Settings
from pybuild.engine.shared import engine_for
from pybuild.engine.table import Table
from pybuild.model.errors import PybuildError


class Resource:
    """A thing that is open until it is closed."""

    def __init__(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


def test_equal_settings_share_an_engine_until_the_last_is_out(tmp_path: Path) -> None:
    settings = Settings(root=str(tmp_path / "store"))

    async def work() -> None:
        async with engine_for(settings) as one:
            async with engine_for(replace(settings)) as two:
                assert two is one
                resource = one.shared("thing", Resource)
            assert resource.is_open
        assert not resource.is_open
        async with engine_for(settings) as again:
            assert again is not one

    asyncio.run(work())


def test_other_settings_have_another_engine_and_a_servers_part_counts_for_nothing(
    tmp_path: Path,
) -> None:
    settings = Settings(root=str(tmp_path / "store"))
    table = Table("", "registry-server", {"listen": "x"})

    async def work() -> None:
        async with (
            engine_for(settings) as one,
            engine_for(replace(settings, registry_server=table)) as same,
            engine_for(replace(settings, max_parallelism=3)) as other,
        ):
            assert same is one
            assert other is not one

    asyncio.run(work())


def test_an_engine_that_cannot_be_opened_fails_who_waits_and_is_tried_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").write_text("in the way")
    settings = Settings(root=str(tmp_path / "store"))

    async def work() -> None:
        for _ in range(2):
            with pytest.raises(PybuildError):
                async with engine_for(settings):
                    pass
        (tmp_path / "store").unlink()
        async with engine_for(settings) as engine:
            assert engine.store.root == str(tmp_path / "store")

    asyncio.run(work())
