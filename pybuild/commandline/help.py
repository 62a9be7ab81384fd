"""Help, made from the tables."""

from __future__ import annotations

from pybuild.commandline import every
from pybuild.commandline.parser import Command


def overview() -> str:
    """Return the page of all commands."""
    commands = every()
    width = max(len(command.name) for command in commands) + 2
    lines = [
        "usage: pybuild PATH | pybuild COMMAND [OPTIONS] …",
        "",
        "Compile Dockerfiles to OCI images: no daemon, no root, no runc.",
        "",
        "commands:",
    ]
    lines += [f"  {command.name:<{width}}{command.help}" for command in commands]
    lines += ["", '"pybuild COMMAND --help" tells more; "pybuild ." is "pybuild build .".']
    return "\n".join(lines) + "\n"


def usage(command: Command) -> str:
    """Return the page of one command."""
    lines = [f"usage: pybuild {command.name} [OPTIONS] {command.arguments[0]}".rstrip(), ""]
    lines += [command.help, "", "options:"]
    for option in command.options:
        short = f"-{option.short}, " if option.short else "    "
        head = f"  {short}--{option.name}" + (f" {option.metavar}" if option.metavar else "")
        lines.append(f"{head:<34}{'' if len(head) < 34 else ' '}{option.help}")
    return "\n".join(lines) + "\n"
