"""A shell in the tree and the mounts of a step of a build, at our own terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.executor.steps.container import ProcessSettings
from pybuild.executor.steps.processstreams import ProcessStreams
from pybuild.model.errors import PybuildError
from pybuild.model.ops import ExecOp, MountType
from pybuild.progress.ownterminal import LentTerminal
from pybuild.progress.render import report

if TYPE_CHECKING:
    from pybuild.executor.runner import BuildRunner
    from pybuild.model.ops import Vertex
    from pybuild.model.snapshot import Result

_SHELL = "/bin/sh"


def shell_of(op: ExecOp) -> str:
    """Return the shell that runs the step; the usual one where none does."""
    return op.args[0] if op.args[1:2] == ("-c",) else _SHELL


async def look_around(
    runner: BuildRunner,
    vertex: Vertex,
    op: ExecOp,
    inputs: Sequence[Result],
    *,
    is_left: bool,
    debug: bool,
) -> None:
    """Give a shell with the mounts, variables, user and network of *op*; tell an error where there can be none.

    Args:
        is_left: the step has run, and what it wrote into a tmpfs is gone.
    """
    empty = sorted(mount.target for mount in op.mounts if mount.type is MountType.TMPFS)
    if empty and is_left:
        sys.stderr.write(f"empty here, they were the step's alone: {', '.join(empty)}\n")
    sys.stderr.write("what is changed here is gone at the end of this shell\n")
    try:
        await _run(runner, vertex, op, inputs)
    except PybuildError as fault:
        report(fault, sys.stderr, debug=debug)


async def _run(runner: BuildRunner, vertex: Vertex, op: ExecOp, inputs: Sequence[Result]) -> None:
    settings = ProcessSettings(
        args=(shell_of(op),),
        env=_environment(op),
        cwd=op.cwd,
        user=op.user,
        security=op.security,
    )
    streams = ProcessStreams((), terminal=True)
    terminal = LentTerminal(streams)
    try:
        async with runner.container(vertex, op, inputs) as container, terminal.lent():
            await container.run(settings, streams.stdio, lambda _: streams.handed_over())
            streams.handed_over()
    finally:
        streams.close()


def _environment(op: ExecOp) -> tuple[str, ...]:
    """Return the variable that programs need to know our terminal."""
    if any(one.startswith("TERM=") for one in op.env):
        return ()
    return (f"TERM={os.environ.get('TERM', 'xterm')}",)
