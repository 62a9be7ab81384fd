"""The commands of past builds as a table (`pybuild.commandline`)."""

from __future__ import annotations

from pybuild.commandline.parser import GLOBAL, REMOTE, Command
from pybuild.model.options import Option

_OUTPUT = Option("output", "the file to write (standard output)", "FILE", "o")

COMMANDS: tuple[Command, ...] = (
    Command(
        "history compare",
        "Show two builds beside each other, the last two by default: which steps took longer.",
        "pybuild.history.commands:compare",
        (*REMOTE, *GLOBAL),
        ("[BUILD] [BUILD]", 0, 2),
    ),
    Command(
        "history sql",
        "Answer a question in SQL about the builds that are known, and their steps.",
        "pybuild.history.commands:sql",
        (
            Option("schema", "print the tables"),
            Option("format", "table, or json: an object a row", "FORM", values=("table", "json")),
            *REMOTE,
            *GLOBAL,
        ),
        ("[QUESTION]", 0, 1),
    ),
    Command(
        "history trace",
        "Write when each step of a build ran, for viewers of traces.",
        "pybuild.history.commands:trace",
        (
            _OUTPUT,
            Option(
                "format",
                "chrome (Perfetto, about:tracing), or otlp: the JSON of OpenTelemetry",
                "FORM",
                values=("chrome", "otlp"),
            ),
            *REMOTE,
            *GLOBAL,
        ),
        ("[BUILD]", 0, 1),
    ),
    Command(
        "report",
        "Write a page about a build: its course, its critical path, why steps ran, what they said.",
        "pybuild.history.commands:report",
        (_OUTPUT, *REMOTE, *GLOBAL),
        ("[BUILD]", 0, 1),
    ),
)
