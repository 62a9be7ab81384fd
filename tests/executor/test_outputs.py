"""Steps whose results are left in mounts, as definitions from elsewhere have them."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace

import pytest

from pybuild.model.errors import StepError, UserError
from pybuild.model.ops import Copy, Mkdir, Mkfile, Mount
from pybuild.model.snapshot import Result, Snapshot
from tests.executor.runner_site import Run, Site, site, step

__all__ = ["site"]
pytestmark = [pytest.mark.root, pytest.mark.sandbox]

OUT = Mount(target="/out", output=True)


@pytest.mark.slow
def test_what_is_left_in_a_mount_is_the_result_and_the_root_is_not(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        op = step("echo 1 > /out/a; echo 2 > /lost; mkdir -m 700 /out/d", mounts=(_root(), OUT))
        result = await s.run(op, base)
        assert isinstance(result, Snapshot)
        assert len(result.deltas) == 1
        assert sorted(os.listdir(s.top(result))) == ["a", "d"]
        again = await s.shell("cat /a; ls /", result_of(base, result))
        assert "lost" not in s.output() and again.deltas

    site(body)


def result_of(base: Snapshot, top: Snapshot) -> Snapshot:
    return Snapshot((*base.deltas, *top.deltas))


def _root(*, readonly: bool = False, output: bool = False, shared_output: bool = False) -> Mount:
    return Mount(target="/", input=0, readonly=readonly, output=output, shared_output=shared_output)


@pytest.mark.slow
def test_a_kept_mount_of_a_part_keeps_the_rest_of_its_tree(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        tree = await s.files(
            Copy(input=1, source="/", dest="/"), more=[s.local({"x/old": "o", "y": "y"})]
        )
        mount = Mount(target="/m", input=1, selector="/x", output=True)
        op = step("cat /m/old; rm /m/old; echo n > /m/new", mounts=(_root(), mount))
        result = await s.run(op, base, tree)
        assert isinstance(result, Snapshot)
        assert result.deltas[:-1] == tree.deltas
        top = s.top(result)
        assert sorted(os.listdir(top / "x")) == ["new", "old"]
        gone = os.lstat(top / "x/old")
        assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0

    site(body)


@pytest.mark.slow
def test_several_results_come_from_one_run(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        first = Mount(target="/o1", output=True)
        second = Mount(target="/o2", shared_output=True)
        root = _root(shared_output=True)
        script = "head -c 16 /dev/urandom | tee /o1/id /id > /o2/id"
        op = step(script, mounts=(root, first, second))
        also_first = replace(first, output=False, shared_output=True)
        others = [
            replace(op, mounts=(root, also_first, replace(second, output=True))),
            replace(op, mounts=(_root(output=True), also_first, second)),
        ]
        found: list[Result] = await asyncio.gather(*(s.run(o, base) for o in (op, *others)))
        tops = [s.top(result) for result in found if isinstance(result, Snapshot)]
        ids = {(top / "id").read_bytes() for top in tops}
        assert len(set(tops)) == 3
        assert len(ids) == 1 and len(ids.pop()) == 16

    site(body)


def test_a_step_that_fails_keeps_nothing(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        op = step("echo 1 > /out/a; exit 3", mounts=(_root(), OUT))
        with pytest.raises(StepError):
            await s.run(op, base)

    site(body)


def test_a_read_only_root_refuses_writes(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        op = step("! touch /x 2>/dev/null && touch /out/y", mounts=(_root(readonly=True), OUT))
        result = await s.run(op, base)
        assert isinstance(result, Snapshot)
        assert os.listdir(s.top(result)) == ["y"]

    site(body)


def test_a_copy_or_file_may_want_its_directory_to_be_there(site: Run) -> None:
    async def body(s: Site) -> None:
        context = s.local({"f": "x", "d/g": "y"})
        copy = Copy(input=1, source="/f", dest="/a/b/f", make_parents=False)
        for action, more in (
            (copy, [context]),
            (replace(copy, source="/d", dest="/a/b/"), [context]),
            (Mkfile(path="/a/f", data=b"x", make_parents=False), []),
        ):
            with pytest.raises(UserError, match="no such file or directory: /a"):
                await s.files(action, more=more)
        made = await s.files(Mkdir(path="/a/b"), copy, replace(copy, source="/d", dest="/a/b/n/"),
                             Mkfile(path="/a/h", data=b"z", make_parents=False), more=[context])  # fmt: skip
        top = s.top(made)
        assert (top / "a/b/f").read_text() == "x"
        assert (top / "a/b/n/g").read_text() == "y"
        assert (top / "a/h").read_text() == "z"

    site(body)
