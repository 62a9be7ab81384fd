"""Command-line options as tables, and the parser that reads them.

Hand-written because argparse alone costs more than a third of what a fully cached build may take;
spelling and forms (``--flag=value``, ``--bool=false``, ``-t x``, ``-tx``) are docker's.
"""

from __future__ import annotations

from pybuild.model.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_VERBS: Mapping[str, str] = {}
OLD_NAMES: Mapping[str, str] = {
    "dns-opt": "dns-option",
    "net": "network",
    "net-alias": "network-alias",
}
"""Names that docker's own help has not listed for years, and scripts still write; each takes a value."""
FAR = "pybuild.commands.far:main"


class Command:
    """A subcommand: its name, its options, and the function that does it.

    *target* is ``module:function``, imported only when the command runs; *arguments* is
    ``(usage, least, most)``, most < 0 meaning any number. *verbs* are those of its first words that
    stand for commands of their own, with these; one without a *target* is nothing but them.
    """

    __slots__ = ("arguments", "help", "name", "options", "target", "verbs")

    def __init__(
        self,
        name: str,
        help: str,
        target: str,
        options: Sequence[Option],
        arguments: tuple[str, int, int],
        verbs: Mapping[str, str] = NO_VERBS,
    ) -> None:
        self.name = name
        self.help = help
        self.target = target
        self.options = options
        self.arguments = arguments
        self.verbs = verbs


class Parsed:
    """The parsed words of the user: option values by long name, and the positional arguments."""

    __slots__ = ("positionals", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.positionals: list[str] = []

    def flag(self, name: str, default: bool = False) -> bool:
        given = self.values.get(name)
        return default if given is None else given[-1] == "true"

    def one(self, name: str, default: str = "") -> str:
        given = self.values.get(name)
        return default if given is None else given[-1]

    def many(self, name: str) -> list[str]:
        return list(self.values.get(name, ()))


class BadOption(Exception):
    """The command line cannot be understood; the text has the word, and the nearest valid name."""

    hint = "pybuild --help"

    def __init__(self, message: str, hint: str = hint) -> None:
        super().__init__(message)
        self.hint = hint


def parse(argv: Iterable[str], options: Sequence[Option]) -> Parsed:
    """Read *argv* by the table.

    Raises:
        BadOption: unknown flag, missing value, or a value for a boolean that is not one.
    """
    by_name = {option.name: option for option in options}
    by_short = {option.short: option for option in options if option.short}
    parsed = Parsed()
    words = list(argv)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            parsed.positionals.extend(words[at:])
            break
        if word == "-" or not word.startswith("-"):
            parsed.positionals.append(word)
            continue
        if word.startswith("--"):
            name, equals, inline = word[2:].partition("=")
            option = by_name.get(name) or by_name.get(OLD_NAMES.get(name, ""))
            shown = "--" + name
            value = inline if equals else None
            if option is None:
                from pybuild.commandline.refusals import way_out

                if hint := way_out(name, by_name):
                    raise BadOption(f"--{name} is not done by pybuild", hint)
                raise BadOption(f"unknown flag: {shown}{_nearest(name, by_name)}")
        else:
            option = by_short.get(word[1])
            shown = word[:2]
            if option is None:
                raise BadOption(f'unknown shorthand flag: "{word[1]}" in {word}')
            rest = word[2:]
            value = (rest.removeprefix("=")) if rest else None
            if not option.metavar and rest and not rest.startswith("="):
                words.insert(at, "-" + rest)  # -qD is -q -D
                value = None
        if not option.metavar:
            text = "true" if value is None else value.lower()
            if text not in {"true", "false", "1", "0", *option.values}:
                expected = ", ".join(option.values) or "a boolean"
                raise BadOption(
                    f'invalid argument "{value}" for "{shown}" flag: expected {expected}'
                )
            value = {"1": "true", "0": "false"}.get(text, text)
        elif value is None:
            if at >= len(words):
                raise BadOption(f"flag needs an argument: {shown}")
            value = words[at]
            at += 1
        if option.repeat:
            parsed.values.setdefault(option.name, []).append(value)
        else:
            parsed.values[option.name] = [value]
    return parsed


def shielded(words: list[str], options: Sequence[Option]) -> list[str]:
    """Return words with ``--`` in front of the first that is no option: flags behind IMAGE are the command's own."""
    takes_value = {"--" + o.name for o in options if o.metavar}
    takes_value |= {"-" + o.short for o in options if o.metavar and o.short}
    takes_value |= {"--" + name for name in OLD_NAMES}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return words
        if not word.startswith("-"):
            return [*words[:at], "--", *words[at:]]
        at += 2 if word in takes_value else 1
    return words


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean --{near[0]}?)" if near else ""


# --- options that several commands have --------------------------------------------------------------

GLOBAL = (
    Option("root", "directory of the store", "DIR"),
    Option("config", "configuration file", "FILE"),
    Option("debug", "show tracebacks and debug logs", short="D"),
    Option("help", "show this help", short="h"),
)
FORMAT = Option("format", "output format: table or json", "FORMAT", values=("table", "json"))
TEMPLATE = Option(
    "format", "table, json, or a template of docker's ({{.ID}}, table {{.ID}}\\t{{.Size}})", "FORM"
)
PLATFORM = Option(
    "platform",
    "target platforms, comma-separated (os/arch[/variant])",
    "LIST",
    attribute="platform",
)
PROGRESS = Option(
    "progress",
    "progress output: auto, tty, plain, quiet, none or rawjson",
    "KIND",
    values=("auto", "tty", "plain", "quiet", "none", "rawjson"),
)
ANNOTATIONS = Option(
    "annotations",
    "report failures to CI: github, gitlab[=FILE], junit[=FILE] or none "
    "(default: github, where $GITHUB_ACTIONS is true)",
    "KIND",
    repeat=True,
    values=("github", "gitlab", "junit", "none"),
)
RUNTIME = Option(
    "runtime",
    "OCI runtime for steps: crun, runc, youki or a path (default: none needed)",
    "NAME",
    values=("crun", "runc", "youki"),
)
FORCE = Option("force", "do not ask for confirmation", short="f")
TLS = (
    Option("tlscacert", "authority of the server's certificate", "FILE"),
    Option("tlscert", "our certificate", "FILE"),
    Option("tlskey", "its key", "FILE"),
    Option("tlsservername", "name in the server's certificate, if not its host", "NAME"),
)
HOST = Option(
    "host", "let a build server do it: unix://…, tcp://… or a builder's name", "ADDR", "H"
)
CLUSTER = Option(
    "cluster", "have workers run the steps: the cluster's file, or its server's address", "FILE"
)
BUILDER = Option("builder", "the same as --host, as docker buildx spells it", "NAME")
REMOTE = (BUILDER, HOST, *TLS)
HISTORY = {
    verb: f"history {verb}" for verb in ("compare", "inspect", "logs", "ls", "rm", "sql", "trace")
}
TREES = (PLATFORM, PROGRESS, *GLOBAL)
CA = Option(
    "ca",
    "authorities that RUN trusts: host for this machine's, none, or a PEM file",
    "FILE",
    repeat=True,
)
ALLOW_SECRET = Option(
    "allow-secret", "push files that look like secrets, if their path matches", "PATTERN", "", True
)
AUTHFILE = Option(
    "authfile", "file of logins, as docker's config.json ($REGISTRY_AUTH_FILE)", "FILE"
)
CREDS = Option("creds", "login at the registry of the image: USER[:PASSWORD]", "LOGIN")
CACHE_MAX = Option("cache-max", "the store never takes more than this of the disk", "SIZE")
FILTER = Option("filter", "only what matches (until=24h, type=…, id=…)", "K=V", repeat=True)
