"""Options that several commands have."""

from __future__ import annotations

from pybuild.commandline.parser import Option

GLOBAL = (
    Option("root", "directory of the store", "DIR"),
    Option("config", "configuration file", "FILE"),
    Option("debug", "show tracebacks and debug logs", short="D"),
    Option("help", "show this help", short="h"),
)
FORMAT = Option("format", "output format: table or json", "FORMAT")
PLATFORM = Option("platform", "target platforms, comma-separated (os/arch[/variant])", "LIST")
PROGRESS = Option("progress", "progress output: auto, tty, plain, quiet, none or rawjson", "KIND")
RUNTIME = Option(
    "runtime", "OCI runtime for steps: crun, runc, youki or a path (default: none needed)", "NAME"
)
FORCE = Option("force", "do not ask for confirmation", short="f")
TLS = (
    Option("tlscacert", "authority of the server's certificate", "FILE"),
    Option("tlscert", "our certificate", "FILE"),
    Option("tlskey", "its key", "FILE"),
    Option("tlsservername", "name in the server's certificate, if not its host", "NAME"),
)
REMOTE = (
    Option("host", "let a build server do it: unix://…, tcp://… or a builder's name", "ADDR", "H"),
    *TLS,
)
TREES = (PLATFORM, PROGRESS, *GLOBAL)
CACHE_MAX = Option("cache-max", "the store never takes more than this of the disk", "SIZE")
FILTER = Option("filter", "only what matches (until=24h, type=…, id=…)", "K=V", repeat=True)
