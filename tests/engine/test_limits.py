"""Space is freed after builds, seldom, and by the configured limits [GC-2, GC-5]."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.engine.limits import keep_within, policies
from pybuild.engine.settings import StoreLimits, load_settings
from pybuild.model.errors import UsageError
from tests.clocks import FakeClock


@pytest.fixture(autouse=True)
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Say how full the disk is, which is no matter of ours: half full, unless a test says more."""
    real = os.statvfs

    def fill_to(share: float) -> None:
        def shown(path: str) -> os.statvfs_result:
            disk = real(path)
            free = int(disk.f_blocks * (1 - share))
            sizes = (disk.f_bsize, disk.f_frsize, disk.f_blocks, free, free)
            return os.statvfs_result((*sizes, *disk[5:]))

        monkeypatch.setattr(os, "statvfs", shown)

    fill_to(0.5)
    return fill_to


def store_with_garbage(tmp_path: Path, clock: FakeClock, size: int) -> Store:
    """A store with one unreferenced delta of *size* bytes, written by a process that is gone."""
    with Store.open(tmp_path / "s", clock) as store:
        active = store.deltas.begin()
        with open(os.path.join(active.fs, "big"), "wb") as file:
            file.write(os.urandom(size))
        store.deltas.commit(active)
    return Store.open(tmp_path / "s", clock)


def test_the_ceiling_is_kept_once_an_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    limits = StoreLimits(max_used_space="100kB")
    with store_with_garbage(tmp_path, clock, 1 << 20) as store:
        assert keep_within(store, limits) >= 1 << 20
    with store_with_garbage(tmp_path, clock, 1 << 20) as store:
        clock.advance(600)
        assert keep_within(store, limits) == 0
        clock.advance(3600)
        assert keep_within(store, limits) >= 1 << 20


def test_a_nearly_full_disk_is_looked_after_by_every_build(
    tmp_path: Path, fill: Callable[[float], None]
) -> None:
    """[GC-5] However short ago the last look was."""
    clock = FakeClock()
    limits = StoreLimits(max_used_space="100kB")
    with store_with_garbage(tmp_path, clock, 1 << 20) as store:
        assert keep_within(store, limits) >= 1 << 20
    fill(0.96)
    with store_with_garbage(tmp_path, clock, 1 << 20) as store:
        clock.advance(1)
        assert keep_within(store, limits) >= 1 << 20


def test_a_store_just_made_is_first_looked_through_when_it_is_an_hour_old(tmp_path: Path) -> None:
    """Its first build should not wait while what it has pulled is measured."""
    clock = FakeClock(time.time() + 60)
    stamp = tmp_path / "s/gc-stamp"
    with Store.open(tmp_path / "s", clock) as store:
        keep_within(store, StoreLimits())
        assert not stamp.exists()
        keep_within(store, StoreLimits(max_used_space="1GB"))
        assert stamp.exists()
        stamp.unlink()
        clock.advance(3700)
        keep_within(store, StoreLimits())
        assert stamp.exists()


def test_nothing_is_freed_below_the_ceiling_or_when_told_not_to(tmp_path: Path) -> None:
    with store_with_garbage(tmp_path, FakeClock(), 1 << 20) as store:
        assert keep_within(store, StoreLimits(enabled=False, max_used_space="1kB")) == 0
        assert keep_within(store, StoreLimits(max_used_space="1GB")) == 0


def test_the_configuration_gives_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[worker.oci]\ngc = true\nmaxUsedSpace = "2GB"\nreservedSpace = 1000\n')
    with Store.open(tmp_path / "s", FakeClock()) as store:
        (policy,) = policies(store, load_settings(str(path)).limits)
    assert (policy.max_used_space, policy.reserved_space) == (2_000_000_000, 1000)
    assert policy.min_free_space is None


@pytest.mark.parametrize("value", ['"much"', "true", "[1]"])
def test_a_size_that_is_none_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[worker.oci]\nmaxUsedSpace = {value}\n")
    with pytest.raises(UsageError, match='"worker.oci.maxUsedSpace" must be a size'):
        load_settings(str(path))
