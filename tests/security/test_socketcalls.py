"""Sockets of a step that are answered for outside of it: they keep nobody but the step waiting."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.workers.workers import Workers
from tests.executor.sandbox_helpers import (
    Outcome,
    make_base,
    run_in,
    skip_unless_possible,
    step_spec,
)
from tests.needs import need

LINGERING = Path(__file__).with_name("lingering.c")

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.mark.slow
@pytest.mark.parametrize("rootless", [False, True])
def test_a_socket_that_lingers_holds_no_builder(tmp_path: Path, rootless: bool) -> None:
    """The builder took copies of a step's sockets, and could be the last to close one."""
    skip_unless_possible()
    need("gcc")
    if os.uname().machine != "x86_64":
        pytest.skip("system calls of i386")
    lower = make_base(tmp_path / "base")
    program = lower / "lingering"
    command = ["gcc", "-O1", "-static", "-no-pie", "-pthread", "-o", str(program), str(LINGERING)]
    subprocess.run(command, check=True, timeout=60)
    done = asyncio.run(
        _run(Workers(rootless=rootless), step_spec(tmp_path, [lower], ("/lingering",), {}))
    )
    assert (done.status, done.out) == (0, "nobody is held\n")


async def _run(workers: Workers, spec: StepSpec) -> Outcome:
    try:
        return await run_in(workers, spec)
    finally:
        await workers.close()
