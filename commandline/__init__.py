"""The commands as tables: their names, their options, and the functions that do them.

One module a group, imported when a word of it is said: a fully cached build pays for every line.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.commandline.parser import Command

_CLUSTER = ("certs", "drain", "ls", "scheduler", "top", "up", "why")
_GROUPS = {
    "attach": "containers",
    "bake": "baking",
    "build": "building",
    "builder": "building",
    "buildx": "building",
    "buildx history": "building",
    "cache": "disk",
    **dict.fromkeys(
        ("cluster", *(f"cluster {verb}" for verb in _CLUSTER)), "pybuild.cluster.table"
    ),
    "commit": "containers",
    "completion": "building",
    "container": "containers",
    "container inspect": "containers",
    "container prune": "containers",
    "context": "disk",
    "cp": "containers",
    "create": "containers",
    "daemon": "building",
    "daemon units": "building",
    "diff": "containers",
    "doctor": "building",
    "du": "disk",
    "events": "disk",
    "exec": "containers",
    "explain": "building",
    "export": "images",
    "history": "images",
    "history compare": "pybuild.history.table",
    "history inspect": "building",
    "history logs": "building",
    "history ls": "building",
    "history rm": "building",
    "history sql": "pybuild.history.table",
    "history trace": "pybuild.history.table",
    "image": "images",
    "image inspect": "images",
    "image prune": "images",
    "images": "images",
    "imagetools": "registries",
    "import": "images",
    "info": "disk",
    "inspect": "images",
    "kill": "containers",
    "lint": "building",
    "lock": "building",
    "load": "images",
    "login": "registries",
    "logout": "registries",
    "logs": "containers",
    "network": "networks",
    "network connect": "networks",
    "network create": "networks",
    "network disconnect": "networks",
    "network inspect": "networks",
    "network ls": "networks",
    "network prune": "networks",
    "network rm": "networks",
    "pause": "containers",
    "port": "containers",
    "prune": "disk",
    "ps": "containers",
    "pull": "registries",
    "push": "registries",
    "registry": "registries",
    "rename": "containers",
    "report": "pybuild.history.table",
    "restart": "containers",
    "rm": "containers",
    "rmi": "images",
    "run": "containers",
    "save": "images",
    "search": "registries",
    "start": "containers",
    "stats": "containers",
    "stop": "containers",
    "system": "disk",
    "system df": "disk",
    "system dial-stdio": "disk",
    "tag": "images",
    "tags": "registries",
    "top": "containers",
    "unpack": "images",
    "unpause": "containers",
    "update": "containers",
    "verify": "building",
    "volume": "volumes",
    "volume create": "volumes",
    "volume inspect": "volumes",
    "volume ls": "volumes",
    "volume prune": "volumes",
    "volume rm": "volumes",
    "wait": "containers",
    "why-kept": "disk",
    "worker": "pybuild.cluster.table",
}
NAMES = tuple(name for name in _GROUPS if " " not in name)


def find(name: str) -> Command | None:
    """Return the command of that name."""
    group = _GROUPS.get(name)
    if group is None:
        return None
    module = group if "." in group else f"{__name__}.{group}"
    __import__(module)  # importlib's own function takes as long to load as all tables
    commands: tuple[Command, ...] = sys.modules[module].COMMANDS
    return next(command for command in commands if command.name == name)


def group_of(name: str) -> str:
    """Return the group that the command of that name is in."""
    return _GROUPS[name]


def find_words(words: Sequence[str]) -> tuple[Command | None, list[str]]:
    """Return the command that *words* begin with, and what follows; ``image ls`` is ``images``.

    Raises:
        BadOption: the command has verbs only, and this is none of them.
    """
    command = find(words[0]) if words else None
    rest = list(words[1:])
    while command is not None and rest and rest[0] in command.verbs:
        name = command.verbs[rest.pop(0)]
        if name not in _GROUPS:  # a verb that the command of its first word does itself
            name, _, verb = name.partition(" ")
            rest.insert(0, verb)
        command = find(name)
        if command is None or command.target:
            return command, rest
    if command is not None and command.verbs and rest and not rest[0].startswith("-"):
        from pybuild.commandline.refusals import verb_way_out

        if hint := verb_way_out(f"{command.name} {rest[0]}"):
            from pybuild.commandline.parser import BadOption

            raise BadOption(f"{command.name} {rest[0]} is not done by pybuild", hint)
    if command is not None and not command.target and rest and not rest[0].startswith("-"):
        from difflib import get_close_matches

        from pybuild.commandline.parser import BadOption

        near = get_close_matches(rest[0], command.verbs, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(command.verbs)}"
        raise BadOption(f'unknown command "{command.name} {rest[0]}" ({hint})')
    return command, rest


def every() -> list[Command]:
    """Return all commands, ``build`` first, the others by name; the verbs of one after it."""
    commands = [command for name in _GROUPS if (command := find(name)) is not None]
    return sorted(commands, key=lambda command: (command.name != "build", command.name))
