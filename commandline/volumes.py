"""Commands about volumes."""

from __future__ import annotations

from pybuild.commandline.parser import FORCE, GLOBAL, TEMPLATE, Command
from pybuild.model.options import Option

_FILTER = Option(
    "filter", "only what matches (dangling=true, label=K[=V], name=…)", "K=V", "f", True
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "volume",
        "Look after volumes: directories that outlive the containers which use them.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {verb: f"volume {verb}" for verb in ("create", "inspect", "ls", "prune", "rm")},
    ),
    Command(
        "volume create",
        "Make a volume; one that is there already stays as it is.",
        "pybuild.commands.volumes:create",
        (
            Option("driver", "local: there is no other", "NAME", "d"),
            Option("label", "a label of it", "K[=V]", repeat=True),
            Option(
                "opt",
                "type=none, o=bind and device=DIR make it a directory of yours",
                "K=V",
                "o",
                True,
            ),
            *GLOBAL,
        ),
        ("[NAME]", 0, 1),
    ),
    Command(
        "volume inspect",
        "Show volumes as JSON, or by a template.",
        "pybuild.commands.volumes:inspect",
        (Option("format", "a template ({{.Mountpoint}})", "FORM", "f"), *GLOBAL),
        ("VOLUME…", 1, -1),
    ),
    Command(
        "volume ls",
        "List volumes.",
        "pybuild.commands.volumes:ls",
        (_FILTER, Option("quiet", "only names", short="q"), TEMPLATE, *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "volume prune",
        "Remove the volumes without a name of their own that no container has.",
        "pybuild.commands.volumes:prune",
        (
            Option("all", "those with a name, too", short="a"),
            Option(
                "filter", "only what matches (label=K[=V], label!=K, all=true)", "K=V", repeat=True
            ),
            FORCE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "volume rm",
        "Remove volumes with their files.",
        "pybuild.commands.volumes:rm",
        (Option("force", "one that is not there is no error", short="f"), *GLOBAL),
        ("VOLUME…", 1, -1),
    ),
)
