"""The stress of `tests.stress.containers`, in small: hundreds and thousands are the command line's [MON-6]."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, make_base
from tests.needs import needs
from tests.stress.containers import Kills, Summary, many_at_once, settled, short_runs

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]


@pytest.fixture
def machine(tmp_path: Path) -> Generator[Pybuild]:
    pybuild = Pybuild(tmp_path / "store")
    make_base(pybuild, tmp_path / "context", "base")
    yield pybuild
    ids = pybuild("ps", "-aq").out.split()
    if ids:
        pybuild("rm", "-f", *ids)
    assert settled(lambda: not leftovers(pybuild.store))


@needs("nft")
def test_no_byte_and_no_status_is_lost(machine: Pybuild) -> None:
    summary = Summary()
    short_runs(machine, 3, summary)
    assert (summary.wrong, summary.done["runs"]) == ([], 6)


def test_nothing_is_left_of_many(machine: Pybuild) -> None:
    summary = Summary()
    many_at_once(machine, 5, 2, summary)
    assert (summary.wrong, summary.done["rounds"]) == ([], 2)


def test_whatever_is_killed_no_container_and_no_line_is_lost(machine: Pybuild) -> None:
    summary = Summary()
    Kills(machine, 3, summary, containers=2).run(10)
    assert summary.wrong == []
