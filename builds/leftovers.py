"""Files of failed steps, brought out of their trees (``--on-fail-output``).

A comment above a RUN says which: ``# pybuild: keep=/src/report.xml,/src/core.*``. Without one they are
the files that the step changed. Other builders read a comment, and nothing more.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.executor.failedsteps import FailedStep
from pybuild.executor.files.values import Rescued, RescueOrder
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.exporter.directories import open_output
from pybuild.frontend.syntax.stepnotes import MARK, kept_paths
from pybuild.model.amounts import binary_bytes, human_bytes
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.ops import ExecOp, Mount, MountType
from pybuild.model.printable import without_controls
from pybuild.model.snapshot import Result, Snapshot

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.executor.files import rescue
    from pybuild.executor.runner import BuildRunner
else:
    rescue = WorkerModule("pybuild.executor.files.rescue")

MOST_FILES = 10_000
MOST_BYTES = 256 << 20

Lines = Callable[[str], Sequence[str]]
"""Gives the lines of a file that spans name; none of one that is not known."""


class Leftovers:
    """The failed steps of one build, for as long as its runner has their trees.

    Args:
        lines: of the files that steps come from.
    """

    def __init__(self, engine: Engine, runner: BuildRunner, lines: Lines) -> None:
        self._engine = engine
        self._runner = runner
        self._lines = lines
        self._steps: list[FailedStep] = []
        runner.keep_failed(self.add)

    def add(self, step: FailedStep) -> None:
        self._steps.append(step)

    @property
    def first(self) -> FailedStep | None:
        """The step with a process that failed first."""
        return next((step for step in self._steps if isinstance(step.vertex.op, ExecOp)), None)

    async def bring(self, folder: str, shown: str) -> list[str]:
        """Copy the files of the step that failed first into *folder*, and return hints about them.

        Args:
            shown: the name of the folder in hints.

        Raises:
            PybuildError, OSError: it cannot be written.
        """
        if self.first is None:
            return []
        orders = await self._orders(self.first)
        fd = open_output(folder, make=True)
        try:
            work = job(rescue.rescue, orders, MOST_FILES, MOST_BYTES)
            done = await self._engine.workers.call(work, fds=[fd])
        finally:
            os.close(fd)
        return hints_about(done, shown)

    async def _orders(self, step: FailedStep) -> list[RescueOrder]:
        op = step.vertex.op
        assert isinstance(op, ExecOp)
        span = next(iter(step.vertex.meta.spans), None)
        paths = kept_paths(self._lines(span.file), span.first_line, op.cwd) if span else []
        if not paths:
            root = next((n for n, mount in enumerate(op.mounts) if mount.target == "/"), -1)
            deltas = step.mounts[root].deltas[-1:] if root in step.mounts else ()
            places = map(self._engine.store.deltas.path, deltas)
            return [RescueOrder((place,), is_delta=True) for place in places]
        return [await self._order(step, op, path) for path in paths]

    async def _order(self, step: FailedStep, op: ExecOp, path: str) -> RescueOrder:
        """Look for *path* where the step saw it: below the innermost mount that has it."""
        above = [
            (len(mount.target), number, mount)
            for number, mount in enumerate(op.mounts)
            if _is_below(path, mount)
        ]
        _, number, mount = max(above, key=lambda one: one[:2])
        inside = posixpath.join(mount.selector, posixpath.relpath(path, mount.target))
        result: Result | None = step.mounts.get(number)
        if result is None and mount.input is not None and mount.type is MountType.BIND:
            result = step.inputs[mount.input]
        snapshot = await self._runner.snapshot(result) if result is not None else Snapshot()
        lowers = await self._runner.ensure(snapshot)
        tree = await self._engine.export_tree(lowers)
        return RescueOrder(
            tree.lowers,
            tree.mount_dir,
            tree.userxattr,
            pattern=posixpath.normpath(inside),
            shown=path,
            strip=mount.selector,
            prefix=mount.target,
        )


def _is_below(path: str, mount: Mount) -> bool:
    target = mount.target.rstrip("/")
    return bool(mount.target) and (path == target or path.startswith(target + "/"))


async def with_leftovers(
    leftovers: Leftovers, folder: str, error: Exception, shown: str
) -> Exception:
    """Return *error* with hints about the files that came out; that none could is no other failure.

    Args:
        shown: the name of the folder in hints.
    """
    bring = leftovers.bring(os.path.abspath(folder), shown)
    return await with_hints(error, bring, f"no file of the step could be written to {shown}")


async def with_hints(
    error: Exception, work: Awaitable[Sequence[str]], otherwise: str = "it could not be kept"
) -> Exception:
    """Return *error* with the hints of *work* about what the failed step left.

    Args:
        otherwise: the hint, with the reason behind it, where that is not done.
    """
    try:
        hints = await work
    except (PybuildError, OSError) as fault:
        hints = [f"{otherwise}: {fault}"]
    cause = unwrap(error)
    return cause.hinting(*hints) if isinstance(cause, PybuildError) else error


def hints_about(done: Rescued, shown: str) -> list[str]:
    """Return a person's hints about the files."""
    hints: list[str] = []
    if done.files:
        count = "1 file" if done.files == 1 else f"{done.files} files"
        hints.append(f"look into {shown}: {count} of the failed step ({human_bytes(done.bytes)})")
    else:
        hints.append(f"nothing of the failed step is in {shown}")
    if done.absent:
        hints.append(f"not there: {_listed(done.absent)}")
    if done.large_count:
        hints.append(
            f"left out, beyond {MOST_FILES} files or {binary_bytes(MOST_BYTES)}: {_listed(done.large)}"
            + (f" and {more} more" if (more := done.large_count - len(done.large)) else "")
            + f"; name what you want above the RUN: # {MARK} keep=PATH"
        )
    if done.special:
        hints.append(f"left out: {done.special} links that lead out, devices, sockets or pipes")
    return hints


def _listed(paths: Sequence[str]) -> str:
    return without_controls(", ".join(paths))


def lines_of(files: Mapping[str, bytes]) -> Lines:
    """Return the lines of *files* by their names."""

    def lines(name: str) -> Sequence[str]:
        return files.get(name, b"").decode("utf-8", "replace").splitlines()

    return lines
