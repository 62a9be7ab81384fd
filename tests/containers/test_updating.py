"""Limits of a container after an update, and the files that they are written to. Pure [CTR-65]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.containers.config import ContainerConfig
from pybuild.containers.updating import limits_with
from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.zygote import cgroups
from pybuild.executor.zygote.limits import MEMORY, files
from pybuild.model.errors import UserError

MIB = 1 << 20


def config(*, has_cpus: bool = False, **limits: Any) -> ContainerConfig:
    return ContainerConfig("i", "one", "", "", (), limits=StepLimits(**limits), has_cpus=has_cpus)


def test_halves_of_a_pair_are_told_together() -> None:
    known = config(memory_bytes=64 * MIB, cpu_period_us=50_000)
    given = StepLimits(memory_swap_bytes=96 * MIB, cpu_quota_us=25_000, pids=-1)
    limits, changes = limits_with(known, given, has_cpus=False)
    whole = StepLimits(64 * MIB, 96 * MIB, cpu_period_us=50_000, cpu_quota_us=25_000)
    assert limits == whole
    assert changes == whole._replace(pids=cgroups.default_pids())
    assert limits_with(known, StepLimits(), has_cpus=False) == (known.limits, StepLimits())


def test_memory_keeps_the_swap_that_it_had() -> None:
    known = config(memory_bytes=64 * MIB)
    limits, changes = limits_with(known, StepLimits(memory_bytes=128 * MIB), has_cpus=False)
    assert limits == changes == StepLimits(128 * MIB, 128 * MIB)
    limits, _ = limits_with(config(), StepLimits(memory_bytes=128 * MIB), has_cpus=False)
    assert limits == StepLimits(128 * MIB)


@pytest.mark.parametrize(
    ("known", "given", "has_cpus", "words"),
    [
        (config(), StepLimits(memory_swap_bytes=MIB), False, "always set the Memory limit"),
        (config(memory_bytes=9), StepLimits(memory_swap_bytes=8), False, "larger than memory"),
        (config(memory_bytes=9), StepLimits(memory_bytes=19), False, "at the same time"),
        (config(cpu_quota_us=9), StepLimits(), True, "as CPU Quota has already been set"),
        (config(has_cpus=True), StepLimits(cpu_quota_us=9), False, "as NanoCPUs has already"),
    ],
)
def test_contradictions_are_refused(
    known: ContainerConfig, given: StepLimits, has_cpus: bool, words: str
) -> None:
    with pytest.raises(UserError, match=f"cannot update container one: .*{words}"):
        limits_with(known, given, has_cpus=has_cpus)


@pytest.mark.parametrize(
    ("swap", "old", "new"), [(0, str(2 * MIB), str(MIB)), (3 * MIB, str(3 * MIB), str(2 * MIB))]
)
def test_swap_of_both_versions(swap: int, old: str, new: str) -> None:
    """A limit that nobody named has no name to be warned by."""
    limits, name = StepLimits(MIB, swap), "memory-swap" if swap else ""
    assert files(MEMORY, 1, limits)[1] == ("memory.memsw.limit_in_bytes", old, name)
    assert files(MEMORY, 2, limits)[1] == ("memory.swap.max", new, name)
