"""``pybuild exec``: one more process in a container that runs."""

from __future__ import annotations

import os

from pybuild.cache.disk.ownership import is_private
from pybuild.containers.attaching import terminal_size
from pybuild.containers.directexec import execute_at_once
from pybuild.engine.paths import root_by_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.commandline.parser import Parsed


def execute(parsed: Parsed) -> int:
    """Execute a command in a container, and return its status [CTR-50, CTR-51]."""
    name, *command = parsed.positionals
    terminal, detached = parsed.flag("tty"), parsed.flag("detach")
    if terminal and parsed.flag("interactive") and not detached:
        check_terminal()
    keys = detach_keys(parsed) if terminal or "detach-keys" in parsed.values else None
    env: dict[str, str] = {}
    named: list[str] = []
    if not parsed.values.keys().isdisjoint(("env", "env-file")):
        from pybuild.arguments.variables import variables_of

        env, named = variables_of(parsed)
    given = {
        "args": command,
        "env": env,
        "named": named,
        "cwd": parsed.one("workdir"),
        "user": parsed.one("user"),
        "terminal": terminal_size() if terminal else None,
        "privileged": parsed.flag("privileged"),
        "stdin": parsed.flag("interactive"),
        "detached": detached,
    }
    root = root_by_file(parsed.one("root"), parsed.one("config"))
    done = execute_at_once(root, name, given, keys) if root and is_private(root) else None
    if done is not None:
        return done
    from pybuild.commands.localstore import open_store
    from pybuild.containers.containers import Containers
    from pybuild.containers.fullexec import execute_in

    with open_store(parsed) as store:
        container = Containers(store).find(name)
    return execute_in(container, given, keys)


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
        from pybuild.model.errors import UsageError

        raise UsageError("the input device is not a TTY", hints=["leave -t away, and keep -i"])
