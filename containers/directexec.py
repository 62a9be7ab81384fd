"""``exec`` by a word to the container's monitor: the command knows what was given, the monitor what the container has.

So the command reads no record, and loads nothing that could. Where anything is not as it is in a store
that is in order, it is left to who does it in full, and can say what is wrong.
"""

from __future__ import annotations

import os

from pybuild.containers.attaching import Attached, Unable
from pybuild.containers.lines import LocalLine, home_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NOT_EXECUTED = 126


def execute_at_once(
    root: str, name: str, given: Mapping[str, Any], keys: bytes | None
) -> int | None:
    """Execute *given* (see `pybuild.containers.execorders`) and return its status; None: nothing was done.

    Args:
        root: the store's directory, which is ours alone.
        keys: those that leave a terminal.

    Raises:
        NotExecuted: its program cannot be executed. PybuildError: it cannot be had.
    """
    try:
        home = home_of(os.path.join(root, "containers"), name)
        try:
            line = LocalLine.into(home)
        finally:
            os.close(home)
    except OSError:
        return None
    with line:
        attached = attached_to(line, given, keys, is_heard=False)
        attached.say("execute", given)
        try:
            return status_of(attached)
        except Unable:
            return None


def attached_to(
    line: LocalLine, given: Mapping[str, Any], keys: bytes | None, *, is_heard: bool = True
) -> Attached:
    """Return our streams at what is about to be executed at the other end of *line*."""
    is_followed = not given["detached"]
    return Attached(
        line,
        stdin=given["stdin"] and is_followed,
        terminal=given["terminal"] is not None and is_followed,
        keys=keys,
        is_heard=is_heard,
    )


def status_of(attached: Attached) -> int:
    """Return the status of what is executed, 0 if we leave it.

    Raises:
        NotExecuted: its program cannot be executed. PybuildError: it cannot be had.
        Unable: as `Attached.follow`.
    """
    try:
        return attached.follow() or 0
    except (Unable, OSError):
        raise
    except Exception as error:
        from pybuild.containers.starting import NotExecuted
        from pybuild.model.errors import UserError

        if not isinstance(error, UserError):
            raise
        if (
            error.message == "unknown request: execute"
        ):  # of a monitor that a version before us began
            raise Unable from None
        status = error.status if isinstance(error, NotExecuted) else _NOT_EXECUTED
        raise error.copy_with(exit_code=status) from None
