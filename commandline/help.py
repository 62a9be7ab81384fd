"""Help, made from the tables, and from the texts in ``help.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files

from pybuild.commandline import every, group_of
from pybuild.commandline.parser import Command
from pybuild.model.options import Option

_TEXTS = tomllib.loads(files("pybuild.commandline").joinpath("help.toml").read_text("utf-8"))
EXAMPLES: Mapping[str, str] = _TEXTS["examples"]
TOPICS: Mapping[str, str] = _TEXTS["topics"]
GROUPS: Mapping[str, Mapping[str, str]] = _TEXTS["groups"]
_HEADS = {
    "building": "building:",
    "baking": "many images with one command:",
    "images": "images of the local store:",
    "containers": "containers:",
    "volumes": "volumes of containers:",
    "networks": "networks:",
    "registries": "registries, and images in them:",
    "disk": "the store and its share of the disk:",
    "pybuild.cluster.table": "one build on many machines:",
    "pybuild.history.table": "builds that have been:",
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
    lines += ["", f"topics: {', '.join(TOPICS)} (pybuild help TOPIC)", ""]
    lines += ["examples:", *(f"  {example}" for example in EXAMPLES["build"].splitlines()[:3])]
    lines += ["", '"pybuild COMMAND --help" tells more; "pybuild ." is "pybuild build .".']
    return "\n".join(lines) + "\n"


def usage(command: Command) -> str:
    """Return the page of one command."""
    lines = [f"usage: pybuild {command.name} [OPTIONS] {command.arguments[0]}".rstrip(), ""]
    lines += [command.help, ""]
    if command.verbs:
        verbs = sorted(command.verbs.items())
        lines += ["verbs:", *(f"  {verb:<12}pybuild {name}" for verb, name in verbs), ""]
    left = {option.name: option for option in command.options}
    for title, options in GROUPS.get(command.name, {}).items():
        lines += [f"{title}:", *(_option(left.pop(name)) for name in options.split()), ""]
    lines += ["options:", *map(_option, left.values())]
    if command.name in EXAMPLES:
        lines += [
            "",
            "examples:",
            *(f"  {example}" for example in EXAMPLES[command.name].splitlines()),
        ]
    return "\n".join(lines) + "\n"


def _option(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    head = f"  {short}--{option.name}" + (f" {option.metavar}" if option.metavar else "")
    return f"{head:<34}{'' if len(head) < 34 else ' '}{option.help}"


def topic(name: str) -> str:
    """Return the page of a topic; empty where there is none of that name."""
    return TOPICS.get(name, "")
