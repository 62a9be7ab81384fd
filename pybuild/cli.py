"""The command line: finds the command, runs it, turns what went wrong into an exit code.

Nothing heavy is imported here: ``pybuild --version`` and a fully cached build pay for every line.
"""

from __future__ import annotations

import os
import sys

from pybuild import __version__
from pybuild.options import BadOption, Command, Option, Parsed, parse, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL = (
    Option("root", "directory of the store", "DIR"),
    Option("config", "configuration file", "FILE"),
    Option("debug", "show tracebacks and debug logs", short="D"),
    Option("help", "show this help", short="h"),
)
_PREFIXES = frozenset(("--root", "--config", "--host")) | {
    f"--tls{what}" for what in ("cacert", "cert", "key", "servername")
}
_FORMAT = Option("format", "output format: table or json", "FORMAT")
_PLATFORM = Option("platform", "target platforms, comma-separated (os/arch[/variant])", "LIST")
_PROGRESS = Option("progress", "progress output: auto, tty, plain, quiet, none or rawjson", "KIND")
_RUNTIME = Option(
    "runtime", "OCI runtime for steps: crun, runc, youki or a path (default: none needed)", "NAME"
)
_FORCE = Option("force", "do not ask for confirmation", short="f")
_TLS = (
    Option("tlscacert", "authority of the server's certificate", "FILE"),
    Option("tlscert", "our certificate", "FILE"),
    Option("tlskey", "its key", "FILE"),
    Option("tlsservername", "name in the server's certificate, if not its host", "NAME"),
)
_REMOTE = (
    Option("host", "let a build server do it: unix://…, tcp://… or a builder's name", "ADDR", "H"),
    *_TLS,
)
_TREES = (_PLATFORM, _PROGRESS, *GLOBAL)
_CACHE_MAX = Option("cache-max", "the store never takes more than this of the disk", "SIZE")
_FILTER = Option("filter", "only what matches (until=24h, type=…, id=…)", "K=V", repeat=True)

BUILD = Command(
    "build",
    "Build an image from a Dockerfile.",
    "pybuild.commands.build:main",
    (
        Option("add-host", "custom host-to-IP mapping (name:ip)", "HOST", repeat=True),
        Option(
            "allow",
            "grant an entitlement: network.host, security.insecure, device[=NAME], buildx.local.delete",
            "NAME",
            "",
            True,
        ),
        Option("annotation", "annotate the image ([TYPE:]key=value)", "K=V", repeat=True),
        Option("attest", "attest the result (type=provenance|sbom,…)", "SPEC", repeat=True),
        Option("build-arg", "set a build-time variable", "K[=V]", repeat=True),
        Option(
            "build-context", "additional build context (name=path|URL)", "NAME=SRC", repeat=True
        ),
        Option(
            "call",
            "instead of building: check, outline or targets[,format=json][,ignorestatus]",
            "METHOD",
        ),
        Option(
            "cache",
            "keep the cache there, and start from it (registry ref, ./dir, s3://…)",
            "URL",
            "",
            True,
        ),
        Option(
            "cache-from", "start from this cache (type=…,ref=…|src=…, or a ref)", "SPEC", "", True
        ),
        _CACHE_MAX,
        Option(
            "cache-to", "keep the cache there (type=…,ref=…|dest=…, or a ref)", "SPEC", "", True
        ),
        Option("cgroup-parent", "cgroup that those of RUN are made in", "PATH"),
        Option("check", "shorthand for --call=check: warn about what is worth mending"),
        Option("cpu-period", "period of the processor quota of RUN, in microseconds", "N"),
        Option("cpu-quota", "processor time of RUN in each period, in microseconds", "N"),
        Option("cpu-shares", "weight of RUN for processors (1024 is ordinary)", "N", "c"),
        Option("cpuset-cpus", "processors that RUN may use (0-2,4)", "LIST"),
        Option("cpuset-mems", "memory nodes that RUN may use", "LIST"),
        Option("explain", "say at the end why steps were not cached"),
        Option("fail-on-miss", "let no step run: fail at the first that is not cached"),
        Option("file", "name of the Dockerfile (default: PATH/Dockerfile)", "FILE", "f"),
        Option("iidfile", "write the image ID to a file", "FILE"),
        Option("label", "set metadata for an image", "K=V", repeat=True),
        Option("load", "shorthand for --output=type=image: keep the image in the local store"),
        Option("memory", "memory of RUN, at most (64m)", "BYTES", "m"),
        Option("memory-swap", "memory and swap of RUN together; -1: no limit", "BYTES"),
        Option("metadata-file", "write build result metadata to a file", "FILE"),
        Option("modes", "modes of context files: keep, or as git stores them: git", "KIND"),
        Option("network", "network mode of RUN: default, none or host", "MODE"),
        Option("no-cache", "do not use stored results"),
        Option("no-cache-filter", "do not use stored results for these stages", "LIST", "", True),
        Option("output", "output destination (type=…,dest=…)", "SPEC", "o", True),
        _PLATFORM,
        _PROGRESS,
        Option(
            "provenance", "shorthand for --attest=type=provenance: true, false or options", "SPEC"
        ),
        Option("pull", "always ask the registry for newer base images"),
        Option("push", "shorthand for --output=type=registry"),
        Option("quiet", "print only the image ID", short="q"),
        Option("resource", "limit of RUN by name (memory=64m,cpu-quota=…)", "K=V", repeat=True),
        _RUNTIME,
        Option("sbom", "shorthand for --attest=type=sbom: generator=IMAGE or false", "SPEC"),
        Option("secret", "secret for the build (id=x[,src=path|env=VAR])", "SPEC", repeat=True),
        Option("shm-size", "size of /dev/shm", "BYTES"),
        Option(
            "ssh",
            "forward an agent or keys (default|ID[=SOCKET|KEY[,KEY]][,raw=true])",
            "SPEC",
            "",
            True,
        ),
        Option("tag", "name of the image (name[:tag])", "NAME", "t", True),
        Option("target", "stage to build", "STAGE"),
        Option("ulimit", "ulimit of RUN (name=soft[:hard])", "SPEC", repeat=True),
        *_REMOTE,
        *GLOBAL,
    ),
    ("PATH|URL|-", 1, 1),
)

# What makes a build another one; where it goes and what is told of it is for verify to say.
_VERIFIED = frozenset(
    ("add-host", "allow", "build-arg", "build-context", "cache-from", "file", "label", "modes")
    + ("network", "no-cache", "platform", "progress", "quiet", "secret", "shm-size", "ssh")
    + ("target", "ulimit")
)

COMMANDS = {
    command.name: command
    for command in (
        BUILD,
        Command(
            "builder",
            "Name build servers, and choose the one that builds: add, use, ls, rm, inspect.",
            "pybuild.commands.builder:main",
            (
                Option("use", "with add: builds go there from now on"),
                Option("force", "with add: replace a builder of that name", short="f"),
                *_TLS,
                *GLOBAL,
            ),
            ("add NAME ADDR | use NAME|local | ls | rm NAME | inspect [NAME]", 1, 3),
        ),
        Command(
            "cache",
            "Look at, carry and remove cache mounts by their ids.",
            "pybuild.commands.cachemounts:main",
            (_FORMAT, *GLOBAL),
            ("mounts ls | inspect ID | export ID [FILE] | import ID [FILE] | rm ID…", 1, -1),
        ),
        Command(
            "daemon",
            "Serve builds to buildctl, docker buildx and other clients of BuildKit.",
            "pybuild.commands.daemon:main",
            (
                Option("addr", "address to listen on (unix://… or tcp://…)", "ADDR", "", True),
                Option(
                    "allow-insecure-entitlement",
                    "let clients grant network.host or security.insecure",
                    "NAME",
                    "",
                    True,
                ),
                _CACHE_MAX,
                Option("insecure", "listen on TCP without TLS"),
                _RUNTIME,
                Option("tlscacert", "clients need a certificate of this authority", "FILE"),
                Option("tlscert", "certificate of the server", "FILE"),
                Option("tlskey", "its key", "FILE"),
                *GLOBAL,
            ),
            ("", 0, 0),
        ),
        Command(
            "doctor",
            "Show what this machine offers to steps, and how to mend what is missing.",
            "pybuild.commands.doctor:main",
            (_FORMAT, *GLOBAL),
            ("", 0, 0),
        ),
        Command(
            "du",
            "Show what the store holds and how much of it can be freed.",
            "pybuild.commands.disk:du",
            (_FILTER, _FORMAT, Option("verbose", "one block a record"), *_REMOTE, *GLOBAL),
            ("", 0, 0),
        ),
        Command(
            "explain",
            "Say why steps of a build ran: the first input that differs from what was stored.",
            "pybuild.commands.explain:main",
            (
                Option("fail-on-miss", "exit with 1 if a step was not cached"),
                Option("format", "output format: text or json", "FORMAT"),
                Option("list", "list the builds that are known, the latest first"),
                *GLOBAL,
            ),
            ("[BUILD] [STEP]", 0, 2),
        ),
        Command(
            "export",
            "Write the file tree of an image as a tar.",
            "pybuild.commands.archives:export",
            (Option("output", "file (default: standard output)", "FILE", "o"), *_TREES),
            ("NAME", 1, 1),
        ),
        Command(
            "history",
            "Show how an image came about.",
            "pybuild.commands.images:history",
            (
                Option("no-trunc", "do not shorten anything"),
                Option("quiet", "only ids", short="q"),
                _FORMAT,
                _PLATFORM,
                *GLOBAL,
            ),
            ("NAME", 1, 1),
        ),
        Command(
            "images",
            "List the images of the local store.",
            "pybuild.commands.images:images",
            (
                Option("digests", "show manifest digests"),
                Option("no-trunc", "do not shorten ids"),
                Option("quiet", "only ids", short="q"),
                _FORMAT,
                *GLOBAL,
            ),
            ("[NAME]", 0, 1),
        ),
        Command(
            "imagetools",
            "Look at, join, copy and delete images in registries and OCI layouts.",
            "pybuild.commands.imagetools:main",
            (
                Option("annotation", "create: annotate ([TYPE:]key=value)", "K=V", repeat=True),
                Option("append", "create: add to what the name stands for already"),
                Option("dry-run", "create: show the index, push nothing"),
                Option("file", "create: a source's descriptor, as JSON", "FILE", "f", True),
                Option("force", "rm: ignore what is not there"),
                Option("format", "inspect: json, or a template ({{json .Manifest}})", "FORMAT"),
                Option("metadata-file", "create: write what was made to a file", "FILE"),
                _PLATFORM,
                Option("prefer-index", "create: an index even of one image (true)"),
                Option("raw", "inspect: the exact bytes"),
                Option("referrers", "inspect, copy: what refers to the image, such as signatures"),
                Option("tag", "create: name of the index", "NAME", "t", True),
                *GLOBAL,
            ),
            (
                "inspect NAME | create SOURCE… | copy SOURCE TARGET… | rm NAME:TAG|NAME@DIGEST…",
                1,
                -1,
            ),
        ),
        Command(
            "import",
            "Make an image from a tar of a file tree.",
            "pybuild.commands.archives:import_",
            (
                Option("change", "Dockerfile instruction to apply", "INSTRUCTION", "c", True),
                *_TREES,
            ),
            ("FILE|URL|- [NAME]", 1, 2),
        ),
        Command(
            "inspect",
            "Show an image's manifest, config and layers as JSON.",
            "pybuild.commands.images:inspect",
            (
                Option("check", "recompute every digest, diffID and size of the image"),
                Option("raw", "the manifest's exact bytes"),
                *GLOBAL,
            ),
            ("NAME", 1, 1),
        ),
        Command(
            "lint",
            "Show what is worth mending in a Dockerfile, and mend it.",
            "pybuild.commands.lint:main",
            (
                Option("fix", "mend what can be mended without a decision"),
                Option("build-arg", "set a build-time variable", "K[=V]", repeat=True),
                Option("format", "output format: text or json", "FORMAT"),
                *GLOBAL,
            ),
            ("[PATH]", 0, 1),
        ),
        Command(
            "load",
            "Take the images of an archive or an OCI layout into the local store.",
            "pybuild.commands.archives:load",
            (
                Option("input", "archive or directory (default: standard input)", "FILE", "i"),
                *GLOBAL,
            ),
            ("", 0, 0),
        ),
        Command(
            "login",
            "Log in to a registry, Docker Hub by default.",
            "pybuild.commands.login:login",
            (
                Option("username", "user name", "NAME", "u"),
                Option("password", "password, or a token; others can see it", "TEXT", "p"),
                Option("password-stdin", "take the password from standard input"),
                *GLOBAL,
            ),
            ("[REGISTRY]", 0, 1),
        ),
        Command(
            "logout",
            "Forget the login to a registry.",
            "pybuild.commands.login:logout",
            GLOBAL,
            ("[REGISTRY]", 0, 1),
        ),
        Command(
            "prune",
            "Remove what no image and no running build needs.",
            "pybuild.commands.disk:prune",
            (
                Option("all", "cached results too, not only what is unreachable", short="a"),
                _FILTER,
                _FORCE,
                Option("keep-storage", "the same as --max-used-space", "SIZE"),
                Option("max-used-space", "free until the cache takes no more (10GB, 60%)", "SIZE"),
                Option("min-free-space", "free until the disk has as much free", "SIZE"),
                Option("reserved-space", "the cache may always keep this much", "SIZE"),
                *_REMOTE,
                *GLOBAL,
            ),
            ("", 0, 0),
        ),
        Command(
            "pull",
            "Pull an image from a registry into the local store.",
            "pybuild.commands.transfer:pull",
            (_PLATFORM, _PROGRESS, Option("quiet", "only the name", short="q"), *GLOBAL),
            ("NAME", 1, 1),
        ),
        Command(
            "push",
            "Push an image of the local store to its registry.",
            "pybuild.commands.transfer:push",
            (_PROGRESS, Option("quiet", "only the name", short="q"), *GLOBAL),
            ("NAME", 1, 1),
        ),
        Command(
            "registry",
            "Serve the store as a registry, and look after what is in it.",
            "pybuild.commands.registry:main",
            (
                Option("addr", "address to listen on (default: 127.0.0.1:5000)", "ADDR", "", True),
                Option("force", "with rm: ignore what is not there", short="f"),
                _FORMAT,
                Option("htpasswd", "only these users, as htpasswd -B writes them", "FILE"),
                Option("metrics", "address at which Prometheus reads /metrics", "ADDR"),
                Option("read-only", "nothing can be pushed or deleted"),
                Option("tlscacert", "clients need a certificate of this authority", "FILE"),
                Option("tlscert", "certificate of the server", "FILE"),
                Option("tlskey", "its key", "FILE"),
                Option("tokens", "give and take tokens, not Basic alone"),
                *GLOBAL,
            ),
            ("serve | ls [NAME…] | rm NAME:TAG|NAME@DIGEST…", 1, -1),
        ),
        Command(
            "rmi",
            "Remove names, and with its last name the image, from the local store.",
            "pybuild.commands.images:rmi",
            (Option("force", "ignore names that are not there", short="f"), *GLOBAL),
            ("NAME…", 1, -1),
        ),
        Command(
            "run",
            "Run a command in an image, in the foreground.",
            "pybuild.commands.run:main",
            (
                Option("entrypoint", "replace the image's entrypoint", "CMD"),
                Option("env", "set an environment variable", "K[=V]", "e", True),
                Option("interactive", "accepted: standard input is always ours", short="i"),
                Option("hostname", "host name of the container", "NAME"),
                Option("network", "host or none", "MODE"),
                _PLATFORM,
                Option(
                    "publish", "accepted for host networking: ports are the host's", "P", "p", True
                ),
                Option("read-only", "the root file system cannot be written"),
                Option("rm", "accepted: what the container wrote never outlives it"),
                Option("tty", "give the process a terminal of its own", short="t"),
                Option("user", "user[:group] to run as", "USER", "u"),
                Option("volume", "bind a directory (host:container[:ro])", "SPEC", "v", True),
                Option("workdir", "working directory", "DIR", "w"),
                *GLOBAL,
            ),
            ("IMAGE [CMD…]", 1, -1),
        ),
        Command(
            "save",
            "Write images to an archive, by default for docker load.",
            "pybuild.commands.archives:save",
            (
                Option("format", "docker or oci", "KIND"),
                Option("output", "file (default: standard output)", "FILE", "o"),
                _PLATFORM,
                *GLOBAL,
            ),
            ("NAME…", 1, -1),
        ),
        Command(
            "search",
            "Search a registry, Docker Hub by default, for repositories.",
            "pybuild.commands.discover:search",
            (Option("limit", "at most so many (25)", "N"), _FORMAT, *GLOBAL),
            ("[REGISTRY/]TERM", 1, 1),
        ),
        Command(
            "tag",
            "Give an image of the local store another name.",
            "pybuild.commands.images:tag",
            GLOBAL,
            ("SOURCE NAME", 2, 2),
        ),
        Command(
            "tags",
            "List the tags of a repository in its registry.",
            "pybuild.commands.discover:tags",
            (_FORMAT, *GLOBAL),
            ("NAME", 1, 1),
        ),
        Command(
            "unpack",
            "Unpack an image into an OCI runtime bundle.",
            "pybuild.commands.run:unpack",
            (Option("rootless", "make the bundle for an unprivileged runtime"), *GLOBAL),
            ("NAME DIR", 2, 2),
        ),
        Command(
            "why-kept",
            "Say which image, build or result holds a thing of the store, and what would free it.",
            "pybuild.commands.whykept:main",
            (_FORMAT, *GLOBAL),
            ("ID|NAME", 1, 1),
        ),
        Command(
            "verify",
            "Build again without any stored result, and show what differs: step, file, byte.",
            "pybuild.commands.verify:main",
            (
                *(option for option in BUILD.options if option.name in _VERIFIED),
                Option("format", "output format: text or json", "FORMAT"),
                *GLOBAL,
            ),
            ("PATH|URL", 1, 1),
        ),
    )
}

_REMOTE_CHECK = "pybuild.commands.remotecheck:main"
# What a build server does where one is to be used; these take it as their second argument.
_REMOTELY = {
    "pybuild.commands.build:main": "pybuild.commands.remote:build",
    "pybuild.commands.disk:du": "pybuild.commands.remotedisk:du",
    "pybuild.commands.disk:prune": "pybuild.commands.remotedisk:prune",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (`pybuild.model.errors.ExitCode`).

    Without *argv* it is this process's own, and the process ends here, unless its output cannot be
    written: the interpreter says that best.
    """
    status = _main(argv)
    if argv is None:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """End at once: taking the interpreter apart takes 40 ms after a build, for nobody."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(status)


def _main(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        if argv is None and os.path.basename(sys.argv[0]) == "buildkitd":
            from pybuild.commands.daemon import buildkitd

            return buildkitd(words)
        return _dispatch(words)
    except BadOption as error:
        return _usage_error(str(error))
    except BrokenPipeError:
        # Our reader went away (`pybuild images | head`); nothing is wrong with us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("\ncanceled\n")
        return 130
    except Exception as error:
        if "-D" in words or "--debug" in words:
            raise
        from pybuild.model.errors import ExitCode
        from pybuild.render import report

        try:
            return report(error, sys.stderr)
        except OSError:  # nowhere to tell it: a full disk under standard error
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            return ExitCode.ENVIRONMENT


def _open_closed_streams() -> None:
    """Give ``pybuild … >&-`` a null device there.

    Otherwise the next file that is opened, such as the store's lock, would become standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115 (it stays)
            setattr(sys, name, stream)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        if len(words) > 1 and words[1] in COMMANDS:
            sys.stdout.write(usage(COMMANDS[words[1]]))
        else:
            sys.stdout.write(_overview())
        return 0
    if words[0] in {"-v", "--version", "version"}:
        sys.stdout.write(f"pybuild {__version__}\n")
        return 0
    at = _past_global_options(words)
    command = COMMANDS.get(words[at]) if at < len(words) else None
    if command is not None:
        words = [*words[:at], *words[at + 1 :]]
    elif _is_command_word(words[0]):
        from difflib import get_close_matches

        near = get_close_matches(words[0], list(COMMANDS), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise BadOption(
            f'unknown command "{words[0]}"{hint}; to build a directory of that name, write ./{words[0]}'
        )
    else:
        command = BUILD
    if command.name == "run":
        words = _shield_run_command(words, command.options)
    parsed = parse(words, command.options)
    if parsed.flag("help"):
        sys.stdout.write(usage(command))
        return 0
    shape, least, most = command.arguments
    count = len(parsed.positionals)
    if count < least or (0 <= most < count):
        raise BadOption(
            f'"pybuild {command.name}" expects {shape or "no arguments"}, got {count} arguments'
        )
    return _run(command, parsed)


def _run(command: Command, parsed: Parsed) -> int:
    target = command.target
    remote = _REMOTELY.get(target)
    if remote is not None:
        from pybuild.builders import chosen

        builder = chosen(parsed)
        if builder is not None:
            asks = command is BUILD and _asks(parsed)
            return _call(_REMOTE_CHECK if asks else remote, parsed, builder)
    if command is BUILD and _asks(parsed):
        target = "pybuild.commands.check:main"
    elif command is BUILD:
        from pybuild.fastpath import try_cached_build

        status = try_cached_build(parsed)
        if status is not None:
            return status
    return _call(target, parsed)


def _asks(parsed: Parsed) -> bool:
    """Whether something is to be said of the file instead of building it."""
    return not parsed.values.keys().isdisjoint(("call", "check"))


def _call(target: str, *args: object) -> int:
    import gc
    from importlib import import_module

    module, _, function = target.partition(":")
    gc.disable()  # hundreds of modules are all to stay: looking for garbage in them takes 20 ms
    command = getattr(import_module(module), function)
    gc.freeze()
    gc.enable()
    status = command(*args)
    assert isinstance(status, int)
    return status


def _past_global_options(words: list[str]) -> int:
    """Where the command stands: ``pybuild --root DIR images`` is ``pybuild images --root DIR``."""
    at = 0
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if name in _PREFIXES or words[at] == "-H":
            at += 1 if equals else 2
        elif words[at] in {"-D", "--debug"} or words[at].startswith("-H"):
            at += 1
        else:
            break
    return at


def _is_command_word(word: str) -> bool:
    """Whether *word* can only be meant as a command: no path, no URL, no option."""
    return word.replace("-", "").isalnum() and not word.startswith("-") and not os.path.isdir(word)


def _shield_run_command(words: list[str], options: Sequence[Option]) -> list[str]:
    """Put ``--`` after IMAGE, so that the command's own flags stay the command's."""
    takes_value = {"--" + o.name for o in options if o.metavar}
    takes_value |= {"-" + o.short for o in options if o.metavar and o.short}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return words
        if not word.startswith("-"):
            return [*words[:at], "--", *words[at:]]
        at += 2 if word in takes_value else 1
    return words


def _overview() -> str:
    lines = [
        "usage: pybuild PATH | pybuild COMMAND [OPTIONS] …",
        "",
        "Compile Dockerfiles to OCI images: no daemon, no root, no runc.",
        "",
        "commands:",
    ]
    lines += [f"  {command.name:<10}{command.help}" for command in COMMANDS.values()]
    lines += ["", '"pybuild COMMAND --help" tells more; "pybuild ." is "pybuild build .".']
    return "\n".join(lines) + "\n"


def _usage_error(message: str) -> int:
    sys.stderr.write(f"error: {message}\nhint: pybuild --help\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
