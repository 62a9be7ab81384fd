"""``exec`` in full: the container is looked at first, by its record and its state, and what is wrong is said."""

from __future__ import annotations

from pybuild.containers.directexec import attached_to, status_of
from pybuild.containers.execorders import order_of
from pybuild.containers.state import PAUSED
from pybuild.model.border import packed
from pybuild.model.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.containers.container import Container


def execute_in(container: Container, given: Mapping[str, Any], keys: bytes | None) -> int:
    """Execute *given* (see `pybuild.containers.execorders`) in a container, and return its status.

    Args:
        keys: those that leave a terminal.

    Raises:
        UserError: the container does not run. NotExecuted: the program cannot be executed.
        PybuildError: it cannot be had.
    """
    config = container.config
    order = order_of(config._asdict(), given)
    if container.state().status == PAUSED:
        raise UserError(
            f"container {config.name} is paused, unpause the container before exec",
            hints=[f"pybuild unpause {config.name}"],
        )
    connection = container.connect() if container.state().lives else None
    if connection is None:
        raise UserError(
            f"container {config.short_id} is not running", hints=[f"pybuild start {config.name}"]
        )
    with connection:
        attached = attached_to(connection, given, keys)
        attached.say("exec", packed(order))
        return status_of(attached)
