"""The commands of the cluster as a table (`pybuild.commandline`)."""

from __future__ import annotations

from pybuild.commandline.parser import GLOBAL, Command
from pybuild.model.options import Option

_TLS = (
    Option("tlscacert", "authority of all certificates of the cluster", "FILE"),
    Option("tlscert", "certificate of this machine", "FILE"),
    Option("tlskey", "its key", "FILE"),
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "cluster",
        "Build on many machines.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "certs": "cluster certs",
            "drain": "cluster drain",
            "ls": "cluster ls",
            "scheduler": "cluster scheduler",
            "top": "cluster top",
            "up": "cluster up",
            "why": "cluster why",
        },
    ),
    Command(
        "cluster ls",
        "List the workers of a cluster whose coordinator runs here.",
        "pybuild.cluster.commands:ls",
        GLOBAL,
        ("", 0, 0),
    ),
    Command(
        "cluster top",
        "List the steps that run, and where, the longest first.",
        "pybuild.cluster.commands:top",
        GLOBAL,
        ("", 0, 0),
    ),
    Command(
        "cluster why",
        "Show what was weighed when a step was placed, by a part of its name.",
        "pybuild.cluster.commands:why",
        GLOBAL,
        ("STEP", 1, 1),
    ),
    Command(
        "cluster drain",
        "Give a worker no more steps; those that run there go on.",
        "pybuild.cluster.commands:drain",
        GLOBAL,
        ("WORKER", 1, 1),
    ),
    Command(
        "cluster certs",
        "Make certificates of a cluster's machines, and the authority that signs them.",
        "pybuild.cluster.commands:certs",
        (
            Option("output", "directory for them, with the authority's if it has one (.)", "DIR"),
            Option("coordinator", "host that coordinates", "HOST", "", True),
            Option("worker", "host that runs steps", "HOST", "", True),
            Option("scheduler", "host of their scheduler", "HOST", "", True),
            Option("days", "as long as they hold (365)", "N"),
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "cluster scheduler",
        "Run the scheduler that workers and coordinators of a cluster share (needs pybuild-oci[cluster]).",
        "pybuild.cluster.commands:scheduler",
        (
            Option("addr", "address to listen on (tcp://127.0.0.1:8786)", "ADDR"),
            *_TLS,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "cluster up",
        "Serve builds to BuildKit's clients and to pybuild -H, with their steps run on workers.",
        "pybuild.cluster.commands:up",
        (
            Option("addr", "address to listen on (unix://… or tcp://…)", "ADDR", "", True),
            Option("local", "workers to start on this machine", "N"),
            Option("slots", "steps at once on each of those (2)", "N"),
            Option("worker", "a worker that runs already (unix://… or tcp://…)", "ADDR", "", True),
            Option("scheduler", "scheduler that knows the workers (tcp://…)", "ADDR"),
            Option("engine", "what hands out steps to local workers: dask or none", "NAME"),
            *_TLS,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "worker",
        "Run steps for a cluster.",
        "pybuild.cluster.commands:worker",
        (
            Option("addr", "address to listen on (unix://… or tcp://…)", "ADDR", "", True),
            Option("slots", "steps at once (the number of processors)", "N"),
            Option("platform", "platforms whose steps it runs (all that it can)", "LIST"),
            Option("scheduler", "scheduler to join (tcp://…)", "ADDR"),
            Option("advertise", "address by which coordinators reach it (the first)", "ADDR"),
            Option("until-eof", "end with standard input, as whoever starts it may be killed"),
            *_TLS,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
)
