"""What a build that pushes can do for its push while steps run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.model.ops import Vertex
    from pybuild.request import BuildRequest
    from pybuild.solver.drive import OnMiss
    from pybuild.solver.messages import Run


def importing_ahead(request: BuildRequest, missed: OnMiss) -> OnMiss:
    """Return *missed* that also has the registry client imported, if that will be needed.

    When the first step runs we wait for other processes; a fifth of a second that the push would
    begin with is gone by then.
    """
    if not any(output.pushes for output in request.outputs):
        return missed
    is_begun = False

    def missed_or_first(vertex: Vertex, run: Run) -> None:
        nonlocal is_begun
        if not is_begun:
            is_begun = True
            asyncio.get_running_loop().run_in_executor(None, _import)
        missed(vertex, run)

    return missed_or_first


def _import() -> None:
    with suppress(Exception):  # who needs it meets the error, and says what it means
        for module in ("aiohttp", "pybuild.registry.push"):
            import_module(module)
