"""The command line: finds the command, runs it, turns errors into an exit code.

Nothing heavy is imported here: ``pybuild --version`` and a fully cached build pay for every line.
"""

from __future__ import annotations

import os
import sys

from pybuild.commandline import NAMES, every, find, find_words
from pybuild.commandline.parser import FAR, HOST, TLS, BadOption, Command, Parsed, parse, shielded
from pybuild.model.package import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builds.builder import Builder
    from pybuild.client.builders import BuilderRecord
    from pybuild.executor.workers.launch import Ahead
    from pybuild.model.options import Option

_PREFIXES = frozenset(("--root", "--config", "--host", "--builder")) | {
    f"--tls{what}" for what in ("cacert", "cert", "key", "servername")
}
_NO_MEMORY = """\
error: out of memory
hint: raise the limit on memory (ulimit -v, or that of the cgroup), or free some
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (`pybuild.model.errors.ExitCode`).

    Without *argv* it is this process's own, and the process ends here, unless its output cannot be
    written: the interpreter says that best.
    """
    if argv is not None:
        return _run_inside(argv)
    import gc

    gc.disable()  # until all is imported: hundreds of modules stay, and a look through them takes 20 ms
    status = _main(None)
    _leave(status)
    return status


def _run_inside(argv: Sequence[str]) -> int:
    """Run a command line in a program that goes on after it, and is ended by signals as before."""
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.getsignal(number)) for number in numbers]
    try:
        return _main(argv)
    finally:
        for number, handler in before:
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


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
    if argv is None:
        terminals = [name for name in ("stdout", "stderr") if getattr(sys, name).isatty()]
        if terminals:
            from pybuild.progress.terminalguard import guard

            guard(*terminals)
    try:
        if argv is None and os.path.basename(sys.argv[0]) == "buildkitd":
            from pybuild.commands.daemon import buildkitd

            return buildkitd(words)
        digest = ""
        if argv is None and sys.argv[0].endswith("kaniko/executor"):
            from pybuild.commandline.kaniko import build_words, digest_file

            digest, words = digest_file(words), build_words(words)
        status = _dispatch(words)
        if digest and not status:
            from pybuild.exporter.resultfiles import write_digest

            write_digest(digest, f"{digest}.json")
        _deliver()
        return status
    except BadOption as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return 2
    except BrokenPipeError:
        # Our reader went away (`pybuild images | head`); nothing is wrong with us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt as error:
        if argv is None:
            from pybuild.engine.interruptible import ignore_signals

            ignore_signals()
        sys.stderr.write("\ncanceled\n")
        return 128 + getattr(error, "number", 2)
    except MemoryError:  # whatever is imported or made now might fail again
        sys.stderr.write(_NO_MEMORY)
        return 3
    except Exception as error:  # noqa: BLE001  told below
        if argv is None:
            from pybuild.engine.interruptible import ignore_signals

            ignore_signals()
        from pybuild.model.errors import ExitCode
        from pybuild.progress.render import report

        try:
            return report(error, sys.stderr, debug="-D" in words or "--debug" in words)
        except OSError:  # nowhere to tell it: a full disk under standard error
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            return ExitCode.ENVIRONMENT


def _deliver() -> None:
    """See that what was written to standard output, an ID perhaps, is out.

    Raises:
        EnvironmentFault: it is not, and is given up.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        import errno

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from pybuild.model.errors import EnvironmentFault

        reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or "").lower()
        raise EnvironmentFault(f"cannot write to standard output: {reason}") from error


def _open_closed_streams() -> None:
    """Give ``pybuild … >&-`` a null device there; what is written to standard output still fails.

    Otherwise the next file that is opened, such as the store's lock, would become standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115 (it stays)
            setattr(sys, name, stream)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        return _help_about(words[1:])
    if words[0] in {"-v", "--version", "version"}:
        sys.stdout.write(f"pybuild {VERSION}\n")
        return 0
    at = _past_global_options(words)
    command, rest = find_words(words[at:])
    if command is not None:
        words = [*words[:at], *rest]
    elif _is_command_word(words[0]):
        from difflib import get_close_matches

        from pybuild.commandline.refusals import command_way_out

        if other := command_way_out(words[0]):
            raise BadOption(f'there is no "pybuild {words[0]}"', other)
        near = get_close_matches(words[0], NAMES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise BadOption(
            f'unknown command "{words[0]}"{hint}; to build a directory of that name, write ./{words[0]}'
        )
    else:
        command = find("build")
        assert command is not None
    options = (*command.options, *_of_servers(command))
    if command.name in ("run", "create", "exec", "top"):
        words = shielded(words, options)
    parsed = parse(words, options)
    if parsed.flag("help") or not command.target:
        return _help(command)
    shape, least, most = command.arguments
    count = len(parsed.positionals)
    if count < least or (0 <= most < count):
        hint = f"pybuild {command.name} --help shows how it is written"
        if command.name == "build":
            hint = _of_contexts(parsed)
        raise BadOption(
            f'"pybuild {command.name}" expects {shape or "no arguments"}, got {count} arguments',
            hint,
        )
    return _run(command, parsed)


def _of_contexts(parsed: Parsed) -> str:
    """Return a hint about a build with no context, or with several."""
    if not parsed.positionals:
        return "name the directory to build: pybuild build . (the dot is this one)"
    has_values = parsed.many("build-arg") or parsed.many("label")
    quotes = "; quote a value with blanks" if has_values else ""
    return f"one is too many: {' '.join(parsed.positionals)}{quotes}"


def _help_about(words: list[str]) -> int:
    """Show the page of a command or a topic, or of all commands."""
    command, _ = find_words(words)
    if command is not None or not words:
        return _help(command)
    from pybuild.commandline.help import topic

    text = topic(words[0])
    if not text:
        from pybuild.commandline.help import TOPICS

        raise BadOption(f'no help about "{words[0]}": a command, or one of {", ".join(TOPICS)}')
    sys.stdout.write(text)
    return 0


def _help(command: Command | None) -> int:
    from pybuild.commandline.help import overview, usage

    sys.stdout.write(overview() if command is None else usage(command))
    return 0


def _run(command: Command, parsed: Parsed) -> int:
    if not _asks_builder(command):
        names = {option.name for option in _of_servers(command)}
        is_far = command.target == FAR or not names.isdisjoint(parsed.values)
        return _far(command, parsed) if is_far else _call(command.target, parsed)
    from pybuild.client.builders import chosen

    record, target = chosen(parsed), command.target
    if command.name == "build" and not parsed.values.keys().isdisjoint(("call", "check")):
        target = "pybuild.commands.check:main"
    elif command.name == "build" and record is not None:
        from pybuild.client.docker.probing import is_for_docker

        if is_for_docker(record.address, parsed):
            return _far(command, parsed)
    elif command.name == "build" and record is None:
        from pybuild.fastpath import try_cached_build

        status = try_cached_build(parsed)
        return _build(target, parsed) if status is None else status
    return _call(target, parsed, lambda: _builder(parsed, record))


def _build(target: str, parsed: Parsed) -> int:
    """Build, by workers that get ready while we import a build's modules."""
    from pybuild.executor.workers.launch import Ahead

    ahead = Ahead()
    try:
        return _call(target, parsed, lambda: _builder(parsed, None, ahead))
    finally:
        ahead.end()


def _builder(parsed: Parsed, record: BuilderRecord | None, ahead: Ahead | None = None) -> Builder:
    """Return the build server of *record*, or this process."""
    if record is None and parsed.one("cluster"):
        from pybuild.cluster.coordinating import ClusterBuilder

        return ClusterBuilder(parsed)
    if record is None:
        from pybuild.builds.localbuilder import LocalBuilder

        return LocalBuilder(parsed, ahead)
    from pybuild.client.remotebuilder import RemoteBuilder

    return RemoteBuilder(record, parsed)


def _of_servers(command: Command) -> list[Option]:
    own = {option.name for option in command.options}
    return [option for option in (HOST, *TLS) if option.name not in own]


def _far(command: Command, parsed: Parsed) -> int:
    from pybuild.client.docker.commands import NAMES as DONE

    if command.name not in DONE:
        _refuse_server(command)
    from pybuild.commands import far

    return far.main(parsed, command.name)


def _refuse_server(command: Command) -> None:
    from pybuild.model.errors import UsageError

    able = list(dict.fromkeys(one.name.split()[0] for one in every() if _asks_builder(one)))
    raise UsageError(
        f'"pybuild {command.name}" is not done by build servers',
        hints=[f"leave out -H; servers do {', '.join(able[:-1])} and {able[-1]}"],
    )


def _asks_builder(command: Command) -> bool:
    """Whether the command takes a builder, which may be a build server."""
    return any(option.name == "host" for option in command.options)


def _call(target: str, parsed: Parsed, builder: Callable[[], Builder] | None = None) -> int:
    import gc

    from pybuild.engine.interruptible import ended_by_signals, raise_file_limit

    raise_file_limit()
    module, _, function = target.partition(":")
    with ended_by_signals():
        __import__(module)
        command = getattr(sys.modules[module], function)
        arguments = (parsed, builder()) if builder else (parsed,)
        if not gc.isenabled():  # in a process of our own
            gc.freeze()
            gc.enable()
        status = command(*arguments)
    assert isinstance(status, int)
    return status


def _past_global_options(words: list[str]) -> int:
    """The index of the command: ``pybuild --root DIR images`` is ``pybuild images --root DIR``."""
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


if __name__ == "__main__":
    sys.exit(main())
