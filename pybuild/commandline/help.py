"""Help, made from the tables."""

from __future__ import annotations

from pybuild.commandline import every, group_of
from pybuild.commandline.parser import Command

_HEADS = {
    "building": "building:",
    "images": "images of the local store:",
    "registries": "registries, and images in them:",
    "disk": "the store and its share of the disk:",
}


def overview() -> str:
    """Return the page of all commands, in groups."""
    lines = [
        "usage: pybuild PATH | pybuild COMMAND [OPTIONS] …",
        "",
        "Compile Dockerfiles to OCI images: no daemon, no root, no runc.",
    ]
    commands = every()
    width = max(len(command.name) for command in commands) + 2
    for group, head in _HEADS.items():
        lines += ["", head]
        lines += [f"  {c.name:<{width}}{c.help}" for c in commands if group_of(c.name) == group]
    lines += ["", '"pybuild COMMAND --help" tells more; "pybuild ." is "pybuild build .".']
    return "\n".join(lines) + "\n"


def usage(command: Command) -> str:
    """Return the page of one command."""
    lines = [f"usage: pybuild {command.name} [OPTIONS] {command.arguments[0]}".rstrip(), ""]
    lines += [command.help, ""]
    if command.verbs:
        names = {verb: command.verbs[verb] for verb in sorted(command.verbs)}
        lines += ["verbs:", *(f"  {verb:<12}pybuild {name}" for verb, name in names.items()), ""]
    lines.append("options:")
    for option in command.options:
        short = f"-{option.short}, " if option.short else "    "
        head = f"  {short}--{option.name}" + (f" {option.metavar}" if option.metavar else "")
        lines.append(f"{head:<34}{'' if len(head) < 34 else ' '}{option.help}")
    return "\n".join(lines) + "\n"
