"""Files of a failed step on their way to the client, which has a place for them as for an output."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pybuild.builds.frontendattrs import ON_FAIL_OUTPUT
from pybuild.builds.leftovers import Leftovers, lines_of, with_leftovers
from pybuild.daemon.session.filesend import send_tree
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.model.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.buildkit.pb import control as pb
    from pybuild.daemon.builds.scope import Scope
    from pybuild.exporter import treesend
else:
    treesend = WorkerModule("pybuild.exporter.treesend")

SHOWN = "the directory of --on-fail-output"


@asynccontextmanager
async def failed_files(scope: Scope, request: pb.SolveRequest) -> AsyncGenerator[None]:
    """Send the client files of a step that fails inside the context, if it wants them.

    The error that leaves it has hints about them; that nothing can be sent is no other failure.
    """
    number = request.FrontendAttrs.get(ON_FAIL_OUTPUT, "")
    if not number.isdecimal() or len(number) > 9 or scope.session is None:
        yield
        return
    leftovers = Leftovers(scope.engine, scope.runner, lines_of(scope.files))
    try:
        yield
    except Exception as error:
        folder, failed = scope.store.scratch("failed"), error
        try:
            failed = await with_leftovers(leftovers, folder, error, SHOWN)
            if os.path.isdir(folder):
                await _send(scope, folder, int(number))
        except (PybuildError, OSError):
            pass
        finally:
            scope.store.discard(folder)
        raise failed from error


async def _send(scope: Scope, folder: str, number: int) -> None:
    assert scope.session is not None
    tree = await scope.engine.export_tree([folder])

    async def work(theirs: Any) -> None:
        sending = job(treesend.send_job, [tree])
        await scope.engine.workers.call(sending, fds=[theirs.fileno()])

    await send_tree(scope.session, work, exporter=number)
