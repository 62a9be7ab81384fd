"""Steps whose stored results are too old run again: ``# pybuild: max-age=…`` [KEY-11]."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.caches import Machines

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

TEXT = """\
{stage}
FROM base AS build
RUN echo early > /early
{step}
RUN cat /proc/sys/kernel/random/uuid > /made
RUN cat /made > /copy
FROM scratch
COPY --from=build /copy /made
"""


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def _write(machines: Machines, stage: str = "#", step: str = "#") -> None:
    (machines.context / "Dockerfile").write_text(TEXT.format(stage=stage, step=step))


def test_a_result_that_is_too_old_is_made_anew_with_what_follows_it(machines: Machines) -> None:
    machine = machines.fresh()
    _write(machines)
    first = machines.build(machine)
    _write(machines, step="# pybuild: max-age=7d")
    young = machines.build(machine)
    assert (young.ran, young.made) == ([], first.made)
    _write(machines, step="# pybuild: max-age=1ms")
    old = machines.build(machine)
    assert [name.split()[1] for name in old.ran] == ["--from=build", "cat", "cat"]
    assert old.made != first.made
    _write(machines)
    again = machines.build(machine)
    assert (again.ran, again.made) == ([], old.made)


def test_above_a_from_it_is_about_all_steps_of_the_stage(machines: Machines) -> None:
    machine = machines.fresh()
    _write(machines)
    machines.build(machine)
    _write(machines, stage="# pybuild: max-age=1ms", step="# pybuild: max-age=7d")
    assert len(machines.build(machine).ran) == 4
    _write(machines, stage="# pybuild: max-age=7d")
    assert machines.build(machine).ran == []


def test_a_memo_does_not_answer_for_a_result_that_grows_old(machines: Machines) -> None:
    machine = machines.fresh()
    _write(machines, step="# pybuild: max-age=1ms")
    ran = [len(machines.build(machine, output="type=image,name=x").ran) for _ in range(2)]
    assert ran == [4, 3]


def test_results_of_a_cache_elsewhere_have_their_age(machines: Machines) -> None:
    place = str(machines.where / "cache")
    _write(machines)
    machines.build(machines.fresh(), "--cache", place)
    _write(machines, step="# pybuild: max-age=7d")
    assert machines.build(machines.fresh(), "--cache", place).ran == []
    _write(machines, step="# pybuild: max-age=1ms")
    assert len(machines.build(machines.fresh(), "--cache", place).ran) == 3


def test_a_wrong_duration_is_refused_with_its_line(machines: Machines) -> None:
    _write(machines, step="# pybuild: max-age=soon")
    failed = machines.build(machines.fresh(), code=1)
    assert 'error: # pybuild: max-age=soon: invalid duration "soon"' in failed.log
    assert "Dockerfile:5\n" in failed.log
