"""Commands about containers."""

from __future__ import annotations

from pybuild.commandline.parser import GLOBAL, TEMPLATE, Command
from pybuild.model.options import Option

_SIGNAL = Option("signal", "signal to send: a name or a number", "SIGNAL", "s")

COMMANDS: tuple[Command, ...] = (
    Command(
        "container",
        "Look after containers, as docker groups these.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "kill": "kill",
            "logs": "logs",
            "ls": "ps",
            "rm": "rm",
            "run": "run",
            "stop": "stop",
            "wait": "wait",
        },
    ),
    Command(
        "kill",
        "Send a signal to containers: SIGKILL.",
        "pybuild.commands.containers:kill",
        (_SIGNAL, *GLOBAL),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "logs",
        "Show what a container has written.",
        "pybuild.commands.containers:logs",
        (
            Option("follow", "go on until the container has ended", short="f"),
            Option("tail", "only so many of the last lines", "N", "n"),
            Option("timestamps", "with the time of each line", short="t"),
            *GLOBAL,
        ),
        ("CONTAINER", 1, 1),
    ),
    Command(
        "ps",
        "List containers: those that run.",
        "pybuild.commands.containers:ps",
        (
            Option("all", "those that have ended, too", short="a"),
            Option("no-trunc", "do not shorten anything"),
            Option("quiet", "only ids", short="q"),
            TEMPLATE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "rm",
        "Remove containers with what they wrote.",
        "pybuild.commands.containers:rm",
        (Option("force", "those that run, too: they are killed", short="f"), *GLOBAL),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "stop",
        "End containers: SIGTERM, and SIGKILL when the time is up.",
        "pybuild.commands.containers:stop",
        (_SIGNAL, Option("time", "seconds to wait (10)", "SECONDS", "t"), *GLOBAL),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "wait",
        "Wait for the ends of containers, and show their exit codes.",
        "pybuild.commands.containers:wait",
        GLOBAL,
        ("CONTAINER…", 1, -1),
    ),
)
