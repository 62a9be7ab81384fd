"""``--on-fail-container``: what a step that fails has left becomes a container, to look around in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pybuild.commandline.parser import Parsed
from pybuild.commands.creating import describe
from pybuild.commands.stepshell import shell_of
from pybuild.containers.containers import Containers
from pybuild.containers.making import make_of_tree
from pybuild.containers.mounts import GivenMounts
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, MountType

if TYPE_CHECKING:
    from pybuild.builds.failedbuild import FailedBuild
    from pybuild.cache.store import Store

_LABEL = "pybuild.failed-step"


async def container_of(name: str, failed: FailedBuild) -> Sequence[str]:
    """Make a container *name* of a failed step's tree, with its variables, directory and user; return hints.

    It begins with the shell of the step, where that has one. A container of that name that was made so
    before, and does not run, gives way.

    Raises:
        PybuildError: there can be none.
    """
    engine, step = failed.engine, failed.step
    op = step.vertex.op
    assert isinstance(op, ExecOp)
    number = next(n for n, mount in enumerate(op.mounts) if mount.target == "/")
    tree = step.mounts.get(number)
    if tree is None:
        raise UserError("the root of the step was read-only")
    await asyncio.to_thread(_make_way, engine.store, name)
    image: dict[str, Any] = {"Env": list(op.env), "WorkingDir": op.cwd, "User": op.user}
    words = Parsed()
    words.positionals += ["failed step", shell_of(op)]
    words.values |= {
        "name": [name],
        "interactive": ["true"],
        "tty": ["true"],
        "label": [f"{_LABEL}={step.vertex.meta.name}"],
    }
    config = describe(words, engine.settings.dns, image, attached=False)
    await make_of_tree(engine, config, tree, image, GivenMounts())
    failed.runner.leave_failed(tree)
    hints = [f"look around in it: pybuild start -ai {name}; copy out: pybuild cp {name}:PATH ."]
    others = sorted(
        mount.target
        for mount in op.mounts
        if mount.target != "/" and mount.type is not MountType.TMPFS
    )
    if others:
        hints.append(f"mounts of the step are not in it: {', '.join(others)}")
    return hints


def _make_way(store: Store, name: str) -> None:
    containers = Containers(store)
    try:
        container = containers.find(name)
    except UserError:
        return
    if container.config.name == name and _LABEL in container.config.labels:
        containers.remove(container)
