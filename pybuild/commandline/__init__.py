"""The commands as tables: their names, their options, and the functions that do them.

One module a group, imported when a word of it is said: a fully cached build pays for every line.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.commandline.parser import Command

_GROUPS = {
    "build": "building",
    "builder": "building",
    "cache": "disk",
    "completion": "building",
    "daemon": "building",
    "doctor": "building",
    "du": "disk",
    "explain": "building",
    "export": "images",
    "history": "images",
    "image": "images",
    "images": "images",
    "imagetools": "registries",
    "import": "images",
    "inspect": "images",
    "lint": "building",
    "load": "images",
    "login": "registries",
    "logout": "registries",
    "prune": "disk",
    "pull": "registries",
    "push": "registries",
    "registry": "registries",
    "rmi": "images",
    "run": "images",
    "save": "images",
    "search": "registries",
    "tag": "images",
    "tags": "registries",
    "unpack": "images",
    "verify": "building",
    "why-kept": "disk",
}
NAMES = tuple(_GROUPS)


def find(name: str) -> Command | None:
    """Return the command of that name."""
    group = _GROUPS.get(name)
    if group is None:
        return None
    commands: tuple[Command, ...] = import_module(f"{__name__}.{group}").COMMANDS
    return next(command for command in commands if command.name == name)


def every() -> list[Command]:
    """Return all commands, ``build`` first, the others by name."""
    commands = [command for name in NAMES if (command := find(name)) is not None]
    return sorted(commands, key=lambda command: (command.name != "build", command.name))
