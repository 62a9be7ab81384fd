"""The order to execute a command in a container: what was given, and for the rest what the container has. Pure."""

from __future__ import annotations

from pybuild.containers.environment import environment, environment_with
from pybuild.containers.order import ExecOrder
from pybuild.model.border import Misfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIELDS = frozenset(
    ("args", "env", "named", "cwd", "user", "terminal", "privileged", "stdin", "detached")
)
"""The fields of what is given, as in `ExecOrder`; *env* are variables with values and *named* all that were named, and for
*cwd* and *user* "" is the container's own."""


def order_of(config: Mapping[str, Any], given: Mapping[str, Any]) -> ExecOrder:
    """Return the order to execute *given* in the container of *config*, a mapping as its record has it.

    Raises:
        Misfit: another version of ours said what is given.
    """
    if not isinstance(given, dict) or given.keys() != FIELDS:
        raise Misfit("a command to execute has other fields here")
    env = environment_with(given["env"], given["named"], {"Env": config.get("env") or []})
    terminal = given["terminal"]
    return ExecOrder(
        tuple(given["args"]),
        environment(config.get("hostname") or "", env, tty=terminal is not None),
        given["cwd"] or config.get("cwd") or "/",
        given["user"] or config.get("user") or "",
        terminal=None if terminal is None else tuple(terminal),
        privileged=given["privileged"],
        stdin=given["stdin"],
        detached=given["detached"],
    )
