"""A sample of what `reproducible` does with all cases, and that it would see a difference."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conformance.cases import Build
from tests.conformance.reproducible import Compared, Machines, subjects
from tests.needs import needs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: cases have owners and devices"),
    needs("busybox"),
]

_EVERY = 30
ODD = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /uuid\n"


def compare(chosen: list[tuple[str, Build]], where: Path) -> list[Compared]:
    async def work() -> list[Compared]:
        async with Machines(where) as machines:
            return [await machines.compare(name, build) for name, build in chosen]

    return asyncio.run(work())


def test_cases_and_examples_come_out_the_same_on_two_machines(tmp_path: Path) -> None:
    everything = subjects()
    examples = [one for one in everything if one[0].startswith("example ")]
    compared = compare([*everything[::_EVERY], *examples], tmp_path)
    assert [one for one in compared if not one.is_same] == []
    images = [one.name for one in compared if one.outcomes[0].startswith("sha256:")]
    assert len(images) > 10
    assert {name for name, _ in examples} <= set(images)


def test_what_does_not_is_told_by_step_file_and_byte(tmp_path: Path) -> None:
    (compared,) = compare([("odd", Build(dockerfile=ODD))], tmp_path)
    assert not compared.is_same
    (difference,) = compared.differences
    assert (difference.what, difference.path) == ("content", "uuid")
    assert "RUN /bin/sh -c cat" in difference.step
    assert difference.offset is not None
