"""Commands about the store's content, and its share of the disk."""

from __future__ import annotations

from pybuild.commandline.parser import FAR, FILTER, FORCE, FORMAT, GLOBAL, REMOTE, TEMPLATE, Command
from pybuild.model.options import Option

COMMANDS: tuple[Command, ...] = (
    Command(
        "cache",
        "Look at, carry and remove cache mounts by their ids.",
        "pybuild.commands.cachemounts:main",
        (FORMAT, *GLOBAL),
        ("mounts ls | inspect ID | export ID [FILE] | import ID [FILE] | rm ID…", 1, -1),
    ),
    Command(
        "du",
        "Show what the store holds and how much of it can be freed.",
        "pybuild.commands.disk:du",
        (FILTER, FORMAT, Option("verbose", "one block a record"), *REMOTE, *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "events",
        "Show what is done to containers, images, networks and volumes, as it is done.",
        "pybuild.commands.events:events",
        (
            Option("filter", "only what matches (type=container, event=die …)", "K=V", "f", True),
            Option("format", "json, or a template ({{.Action}})", "FORM"),
            Option("since", "from a time on, as logs has it", "TIME"),
            Option("until", "to a time, and end then", "TIME"),
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "prune",
        "Remove what no image and no running build needs.",
        "pybuild.commands.disk:prune",
        (
            Option("all", "cached results too, not only what is unreachable", short="a"),
            FILTER,
            FORCE,
            Option("keep-storage", "the same as --max-used-space", "SIZE"),
            Option("max-used-space", "free until the cache takes no more (10GB, 60%)", "SIZE"),
            Option("min-free-space", "free until the disk has as much free", "SIZE"),
            Option("reserved-space", "the cache may always keep this much", "SIZE"),
            *REMOTE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "info",
        "Show the store, the machine and the version, as docker info does.",
        "pybuild.commands.system:info",
        (Option("format", "json, or a template ({{.DockerRootDir}})", "FORM", "f"), *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "system",
        "Look after the store, as docker and podman group these.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "df": "system df",
            "dial-stdio": "system dial-stdio",
            "events": "events",
            "info": "info",
            "prune": "prune",
        },
    ),
    Command(
        "context",
        "Print how docker's client is pointed at an engine.",
        FAR,
        GLOBAL,
        ("", 0, 0),
        {verb: f"builder {verb}" for verb in ("inspect", "ls", "rm", "use")},
    ),
    Command(
        "system dial-stdio", "Join our streams to an engine, as for ssh.", FAR, GLOBAL, ("", 0, 0)
    ),
    Command(
        "system df",
        "Show the share of the disk of images, containers, volumes, cached results and cache mounts.",
        "pybuild.commands.system:df",
        (TEMPLATE, *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "why-kept",
        "Say which image, build or result holds a thing of the store, and what would free it.",
        "pybuild.commands.disk:explain_kept",
        (FORMAT, *GLOBAL),
        ("ID|NAME", 1, 1),
    ),
)
