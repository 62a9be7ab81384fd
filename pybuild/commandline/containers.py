"""Commands about containers."""

from __future__ import annotations

from pybuild.commandline.parser import FORCE, GLOBAL, PLATFORM, TEMPLATE, Command
from pybuild.model.options import STEP_OPTIONS, Option

_LIMITS = tuple(
    Option(one.name, one.help.replace("RUN", "it"), one.metavar, one.short, one.repeat)
    for one in STEP_OPTIONS
    if one.has_flag and one.name not in ("network", "hostname")
)
_CREATION = (
    *_LIMITS,
    Option("cidfile", "write the container's id to a new file", "FILE"),
    Option("cpus", "processors that it may keep busy (1.5)", "N"),
    Option("entrypoint", "replace the image's entrypoint", "CMD"),
    Option("env", "set an environment variable", "K[=V]", "e", True),
    Option("env-file", "set those of a file", "FILE", repeat=True),
    Option("expose", "name a port of it (80, 8000-8010/udp)", "PORT", repeat=True),
    Option("health-cmd", "command that tells whether it is healthy", "CMD"),
    Option("health-interval", "time between two of them (30s)", "TIME"),
    Option("health-retries", "failures in a row that make it unhealthy (3)", "N"),
    Option("health-start-interval", "time between two while it starts (5s)", "TIME"),
    Option("health-start-period", "time to start, in which no failure counts (0s)", "TIME"),
    Option("health-timeout", "time that one may take (30s)", "TIME"),
    Option("hostname", "host name of the container", "NAME"),
    Option("init", "its first process is an init, which reaps what others leave"),
    Option("interactive", "keep standard input open", short="i"),
    Option("label", "set a label", "K=V", "l", True),
    Option("label-file", "set those of a file", "FILE", repeat=True),
    Option(
        "log-driver",
        "where the output goes: json-file, local or none",
        "NAME",
        values=("json-file", "local", "none"),
    ),
    Option("log-opt", "option of it: max-size=10m, max-file=3", "K=V", repeat=True),
    Option("name", "name of the container", "NAME"),
    Option("ip", "its address on the first network", "IP"),
    Option("ip6", "its address of IP version 6 there", "IP"),
    Option("mac-address", "that of its device there", "MAC"),
    Option("network", "host, none, container:NAME, or a network's name", "MODE", repeat=True),
    Option("network-alias", "one more name on the first network", "NAME", "", True),
    Option("no-healthcheck", "nobody looks after its health, as the image would have it"),
    Option("pids-limit", "processes of it at once, at most; -1: no limit", "N"),
    PLATFORM,
    Option(
        "publish",
        "publish a port ([[IP:]PORT:]PORT[/udp]); with --network host it is the host's own",
        "P",
        "p",
        True,
    ),
    Option(
        "publish-all", "publish all ports that the image exposes, wherever one is free", "", "P"
    ),
    Option("read-only", "the root file system cannot be written"),
    Option(
        "restart", "when it is started again: no, on-failure[:N], always, unless-stopped", "POLICY"
    ),
    Option("rm", "remove it when it has ended"),
    Option("stop-signal", "signal that stops it", "SIGNAL"),
    Option("stop-timeout", "seconds until it is killed then (10)", "SECONDS"),
    Option("tty", "give the process a terminal of its own", short="t"),
    Option("user", "user[:group] to run as", "USER", "u"),
    Option(
        "mount",
        "mount by names: type=bind|volume|tmpfs,source=…,target=…[,readonly]",
        "SPEC",
        "",
        True,
    ),
    Option("tmpfs", "mount an empty tmpfs (PATH[:size=64m,mode=700])", "SPEC", "", True),
    Option(
        "volume",
        "mount a directory or a volume (HOST:PATH[:ro], NAME:PATH, PATH)",
        "SPEC",
        "v",
        True,
    ),
    Option("volumes-from", "mount what another container has", "NAME[:ro]", "", True),
    Option("workdir", "working directory", "DIR", "w"),
)
_DETACH_KEYS = Option("detach-keys", "keys that leave it (ctrl-p,ctrl-q)", "KEYS")
_SIG_PROXY = Option("sig-proxy", "hand signals on to its process (true)")
_ENDING = (
    Option("signal", "signal to send: a name or a number", "SIGNAL", "s"),
    Option("time", "seconds to wait (10)", "SECONDS", "t"),
)
_SIGNAL = Option("signal", "signal to send: a name or a number", "SIGNAL", "s")

COMMANDS: tuple[Command, ...] = (
    Command(
        "container",
        "Look after containers, as docker groups these.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "attach": "attach",
            "commit": "commit",
            "cp": "cp",
            "create": "create",
            "diff": "diff",
            "exec": "exec",
            "export": "export",
            "inspect": "container inspect",
            "kill": "kill",
            "logs": "logs",
            "list": "ps",
            "ls": "ps",
            "pause": "pause",
            "port": "port",
            "prune": "container prune",
            "ps": "ps",
            "rename": "rename",
            "restart": "restart",
            "rm": "rm",
            "run": "run",
            "start": "start",
            "stop": "stop",
            "top": "top",
            "unpause": "unpause",
            "update": "update",
            "wait": "wait",
        },
    ),
    Command(
        "attach",
        "Attach our streams to a container that runs.",
        "pybuild.commands.runcontainer:attach",
        (
            _DETACH_KEYS,
            Option("no-stdin", "leave its standard input alone"),
            _SIG_PROXY,
            *GLOBAL,
        ),
        ("CONTAINER", 1, 1),
    ),
    Command(
        "create",
        "Create a container, and do not start it.",
        "pybuild.commands.creating:create",
        (*_CREATION, *GLOBAL),
        ("IMAGE [CMD…]", 1, -1),
    ),
    Command(
        "exec",
        "Execute a command in a container that runs.",
        "pybuild.commands.executing:execute",
        (
            Option("detach", "do not wait for its end", short="d"),
            _DETACH_KEYS,
            Option("env", "set an environment variable", "K[=V]", "e", True),
            Option("env-file", "set those of a file", "FILE", repeat=True),
            Option("interactive", "our standard input is its own", short="i"),
            Option("privileged", "it has all that there is to be had"),
            Option("tty", "give it a terminal of its own", short="t"),
            Option("user", "user[:group] to run as", "USER", "u"),
            Option("workdir", "working directory", "DIR", "w"),
            *GLOBAL,
        ),
        ("CONTAINER CMD…", 2, -1),
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
            Option("details", "with what its log options add to each line"),
            Option("follow", "go on until the container has ended", short="f"),
            Option("since", "only from a time on (2026-01-31T12:00:00, 10m)", "TIME"),
            Option("tail", "only so many of the last lines", "N", "n"),
            Option("timestamps", "with the time of each line", short="t"),
            Option("until", "only to a time", "TIME"),
            *GLOBAL,
        ),
        ("CONTAINER", 1, 1),
    ),
    Command(
        "commit",
        "Make an image of what a container is now.",
        "pybuild.commands.containertrees:commit",
        (
            Option("author", "who made it", "TEXT", "a"),
            Option("change", "a line of a Dockerfile that the image gets", "LINE", "c", True),
            Option("message", "a comment for its history", "TEXT", "m"),
            Option("pause", "accepted: nothing stops meanwhile", short="p"),
            *GLOBAL,
        ),
        ("CONTAINER [NAME]", 1, 2),
    ),
    Command(
        "container prune",
        "Remove all containers that do not run.",
        "pybuild.commands.containers:prune",
        (
            Option(
                "filter", "only what matches (until=24h, label=K[=V], label!=K)", "K=V", repeat=True
            ),
            FORCE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "cp",
        "Copy files out of a container (NAME:PATH), or into it; - is a tar.",
        "pybuild.commands.cp:cp",
        (
            Option("archive", "with the owners that they have", short="a"),
            Option("follow-link", "a link as what it leads to", short="L"),
            Option("quiet", "accepted: no progress is shown", short="q"),
            *GLOBAL,
        ),
        ("SOURCE DEST", 2, 2),
    ),
    Command(
        "diff",
        "List what a container changed: A added, C changed, D deleted.",
        "pybuild.commands.containertrees:diff",
        GLOBAL,
        ("CONTAINER", 1, 1),
    ),
    Command(
        "container inspect",
        "Show containers as docker's JSON, or by a template.",
        "pybuild.commands.inspecting:containers",
        (
            Option("format", "a template ({{.State.Status}}), or json", "FORM", "f"),
            Option("size", "with the sizes of its files", short="s"),
            *GLOBAL,
        ),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "pause",
        "Let containers stand still.",
        "pybuild.commands.containers:pause",
        GLOBAL,
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "port",
        "Show where the ports of a container are published.",
        "pybuild.commands.ps:port",
        GLOBAL,
        ("CONTAINER [PORT[/PROTOCOL]]", 1, 2),
    ),
    Command(
        "ps",
        "List containers: those that run.",
        "pybuild.commands.ps:ps",
        (
            Option("all", "those that have ended, too", short="a"),
            Option(
                "filter",
                "only what matches (status=exited, name=…, label=K[=V] …)",
                "K=V",
                "f",
                True,
            ),
            Option("last", "the last N that were created, whatever their state", "N", "n"),
            Option("latest", "the last one that was created", short="l"),
            Option("no-trunc", "do not shorten anything"),
            Option("quiet", "only ids", short="q"),
            Option("size", "with the sizes of their files", short="s"),
            TEMPLATE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "rename",
        "Give a container another name.",
        "pybuild.commands.containers:rename",
        GLOBAL,
        ("CONTAINER NAME", 2, 2),
    ),
    Command(
        "restart",
        "End containers that run, and start them.",
        "pybuild.commands.containers:restart",
        (*_ENDING, *GLOBAL),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "rm",
        "Remove containers with what they wrote.",
        "pybuild.commands.containers:rm",
        (
            Option("force", "those that run, too: they are killed", short="f"),
            Option("volumes", "and their volumes that have no name of their own", short="v"),
            *GLOBAL,
        ),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "run",
        "Run a command in an image.",
        "pybuild.commands.runchoice:main",
        (
            *_CREATION,
            Option("detach", "in the background; print the container's ID", short="d"),
            _DETACH_KEYS,
            _SIG_PROXY,
            *GLOBAL,
        ),
        ("IMAGE [CMD…]", 1, -1),
    ),
    Command(
        "start",
        "Start containers that are there.",
        "pybuild.commands.containers:start",
        (
            Option("attach", "stay with it: its output is ours, and its signals", short="a"),
            _DETACH_KEYS,
            Option("interactive", "our standard input is its own", short="i"),
            *GLOBAL,
        ),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "stop",
        "End containers: SIGTERM, and SIGKILL when the time is up.",
        "pybuild.commands.containers:stop",
        (*_ENDING, *GLOBAL),
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "top",
        "Show the processes of a container.",
        "pybuild.commands.containers:top",
        GLOBAL,
        ("CONTAINER [OPTION…]", 1, -1),
    ),
    Command(
        "unpause",
        "Let containers that stand still go on.",
        "pybuild.commands.containers:unpause",
        GLOBAL,
        ("CONTAINER…", 1, -1),
    ),
    Command(
        "update",
        "Give containers other limits, or another restart policy.",
        "pybuild.commands.containers:update",
        (
            *(
                one
                for one in _CREATION
                if one.name.startswith(("memory", "cpu")) or one.name in ("pids-limit", "restart")
            ),
            *GLOBAL,
        ),
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
