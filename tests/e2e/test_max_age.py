"""Steps whose stored results are too old run again: ``# pybuild: max-age=…`` [KEY-11]."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.caches import Built, Machines
from tests.e2e.remotes import Remote
from tests.harness import Pybuild, write

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


def test_an_option_is_about_the_steps_that_no_comment_is_about(machines: Machines) -> None:
    machine = machines.fresh()
    _write(machines)
    machines.build(machine)
    assert machines.build(machine, "--max-age", "7d").ran == []
    made_anew = machines.build(machine, "--explain", "--max-age", "7d", "--max-age", "Build=1ms")
    assert made_anew.ran and "a max-age that is over" in made_anew.log
    assert len(machines.build(machine, "--max-age", "1ms").ran) == 4
    assert machines.build(machine, "--max-age", "1ms", "--max-age", "build=7d").ran == [
        "COPY --from=build /copy /made"
    ]
    _write(machines, stage="# pybuild: max-age=7d")
    assert machines.build(machine, "--max-age", "build=1ms").ran == []


def test_an_age_of_no_stage_is_refused(machines: Machines) -> None:
    _write(machines)
    failed = machines.build(machines.fresh(), "--max-age", "tests=1d", code=1)
    assert 'error: --max-age: no stage "tests"\nhint: stages: build\n' in failed.log


def test_a_server_knows_the_age_of_its_results(machines: Machines, tmp_path: Path) -> None:
    """A comment counts there whoever asks; the option is told to servers of ours."""
    (tmp_path / "sockets").mkdir()
    with machines.server(tmp_path / "sockets") as server:
        remote = Remote(tmp_path / "here", host=server.address)
        _write(machines)
        first = machines.build(remote)
        assert machines.build(remote, "--max-age", "7d").ran == []
        _write(machines, step="# pybuild: max-age=7d")
        young = machines.build(remote, "--max-age", "build=1ms")
        assert len(young.ran) == 4  # `echo`, of which no comment speaks, and what is made from it
        _write(machines, step="# pybuild: max-age=1ms")
        old = machines.build(remote)
        assert [name.split()[1] for name in old.ran] == ["--from=build", "cat", "cat"]
        assert old.made != first.made
        failed = machines.build(remote, "--max-age", "tests=1d", code=1)
    assert 'error: --max-age: no stage "tests"\nhint: stages: build\n' in failed.log


def test_a_target_that_others_read_has_the_ages_of_its_own_file(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    bake = (
        'target "lib" {\n dockerfile = "lib"\n}\n'
        'target "default" {\n contexts = { lib = "target:lib" }\n}\n'
    )
    lib = "# one\n# two\nFROM scratch\n{note}\nCOPY f /f\n"
    # The age above its second line would be that of the step of `lib` that stands there.
    app = "FROM scratch\nCOPY f /g\n# pybuild: max-age=7d\nCOPY --from=lib /f /f\n"
    write(tmp_path, **{"docker-bake.hcl": bake, "Dockerfile": app, "f": "f"})

    def ran(note: str) -> list[str]:
        write(tmp_path, lib=lib.format(note=note))
        out = f"type=local,dest={tmp_path}/out"
        words = ("bake", "--progress", "plain", "--set", f"default.output={out}")
        return sorted(Built(pybuild(*words, cwd=tmp_path).err, "").ran)

    assert ran("#") == ["COPY --from=lib /f /f", "COPY f /f", "COPY f /g"]
    assert ran("# pybuild: max-age=7d") == []
    assert ran("# pybuild: max-age=1ms") == ["COPY f /f"]  # the same file, so nothing above it


def test_all_targets_of_bake_have_one_age(pybuild: Pybuild, tmp_path: Path) -> None:
    bake = (
        'target "default" {\n name = "t${n}"\n matrix = { n = ["1", "2"] }\n args = { N = n }\n}\n'
    )
    write(tmp_path, **{"docker-bake.hcl": bake, "Dockerfile": "FROM scratch\nARG N\nCOPY f /f$N\n"})
    write(tmp_path, f="f")

    def cached(*words: str) -> int:
        shown = pybuild("bake", "--progress", "plain", *words, cwd=tmp_path).err.splitlines()
        return sum(line.endswith(" CACHED") for line in shown)

    assert cached() == 0
    assert cached("--max-age", "7d") == cached() > 0
    assert cached("--max-age", "1ms") == 0
