"""``pybuild exec``: one more process in a container that runs."""

from __future__ import annotations

import os

from pybuild.arguments.variables import environment_of
from pybuild.commands.localstore import open_store
from pybuild.containers.attaching import Attached, terminal_size
from pybuild.containers.containers import Containers
from pybuild.containers.environment import environment
from pybuild.containers.order import ExecOrder
from pybuild.containers.starting import NotExecuted
from pybuild.containers.state import PAUSED
from pybuild.model.border import packed
from pybuild.model.errors import UsageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.commandline.parser import Parsed

_NOT_EXECUTED = 126


def execute(parsed: Parsed) -> int:
    """Execute a command in a container, and return its status [CTR-50, CTR-51]."""
    name, *command = parsed.positionals
    with open_store(parsed) as store:
        container = Containers(store).find(name)
    config = container.config
    terminal, detached = parsed.flag("tty"), parsed.flag("detach")
    if terminal and parsed.flag("interactive") and not detached:
        check_terminal()
    keys = detach_keys(parsed)
    env = environment_of(parsed, {"Env": list(config.env)})
    order = ExecOrder(
        tuple(command),
        environment(config.hostname, env, tty=terminal),
        parsed.one("workdir") or config.cwd,
        parsed.one("user") or config.user,
        terminal=terminal_size() if terminal else None,
        privileged=parsed.flag("privileged"),
        stdin=parsed.flag("interactive"),
        detached=detached,
    )
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
        attached = Attached(
            connection,
            stdin=order.stdin and not detached,
            terminal=terminal and not detached,
            keys=keys,
        )
        attached.say("exec", packed(order))
        try:
            status = attached.follow()
        except NotExecuted as error:
            raise error.copy_with(exit_code=error.status) from None
        except UserError as error:
            raise error.copy_with(exit_code=_NOT_EXECUTED) from None
    return status or 0


def detach_keys(parsed: Parsed) -> bytes:
    """Return the keys that leave a container [ENG-36].

    Raises:
        UsageError: there are no such keys.
    """
    from pybuild.containers.detaching import DEFAULT, parse_keys

    return parse_keys(parsed.one("detach-keys") or DEFAULT)


def check_terminal() -> None:
    """Refuse to show a terminal where there is none to show it on, as docker does.

    Raises:
        UsageError: standard input is none.
    """
    if not os.isatty(0):
        raise UsageError("the input device is not a TTY", hints=["leave -t away, and keep -i"])
