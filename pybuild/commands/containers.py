"""Commands about containers: those that exist, their logs, their ends."""

from __future__ import annotations

import math
import sys
import time

from pybuild.commandline.parser import GLOBAL
from pybuild.commands.localstore import open_store, with_store
from pybuild.commands.several import confirmed, for_each, raise_first, show_removed
from pybuild.containers.containers import STOP_SECONDS, Containers
from pybuild.model.errors import UsageError, UserError
from pybuild.model.lightlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pybuild.commandline.parser import Parsed
    from pybuild.containers.container import Container

_SIGKILL = 9
_MANY_DIGITS = 18
"""So many lines are all that there are."""


@contextmanager
def _containers(parsed: Parsed) -> Generator[Containers]:
    with open_store(parsed) as store:
        yield Containers(store)


def logs(parsed: Parsed) -> int:
    """Show what a container has written [CTR-76]."""
    from pybuild.containers.logreading import details_of, log_time, read_log

    with _containers(parsed) as containers:
        container = containers.find(parsed.positionals[0])
    config = container.config
    if config.log.driver == "none":
        raise UserError(
            "configured logging driver does not support reading",
            hints=["create the container with --log-driver json-file or local"],
        )
    tail = parsed.one("tail", "all")
    now = time.time()
    since, until = (log_time(parsed.one(name), now) for name in ("since", "until"))
    timestamps = parsed.flag("timestamps")
    details = f"{details_of(config)} " if parsed.flag("details") else ""
    lines = read_log(
        container,
        follow=parsed.flag("follow"),
        tail=int(tail) if tail.isdecimal() and len(tail) < _MANY_DIGITS else None,
        since=since,
        until=until,
    )
    for line in lines:
        stream = sys.stderr if line.stream == "stderr" and not config.tty else sys.stdout
        stream.write(f"{line.time} {details}{line.text}" if timestamps else details + line.text)
        stream.flush()
    return 0


def start(parsed: Parsed) -> int:
    """Start containers that are there; one that runs goes on."""
    if parsed.flag("boot"):
        return _start_after_boot(parsed)
    if not parsed.positionals:
        raise UsageError("start needs a container", hints=["or --boot: all that run after a boot"])
    if not (parsed.flag("attach") or parsed.flag("interactive")):
        return _each(parsed, _start)
    from pybuild.commands import runcontainer

    if len(parsed.positionals) > 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    with _containers(parsed) as containers:
        return runcontainer.start(parsed, containers, containers.find(parsed.positionals[0]))


def _start_after_boot(parsed: Parsed) -> int:
    """Start what its policy says is to run, and print their names."""
    from pybuild.containers.booting import start_after_boot

    with _containers(parsed) as containers:
        started, failed = start_after_boot(containers)
    sys.stdout.write("".join(f"{one.config.name}\n" for one in started))
    raise_first(failed)
    return 0


def _start(containers: Containers, one: Container) -> None:
    for warning in containers.start(one):
        sys.stderr.write(f"warning: {warning}\n")


def stop(parsed: Parsed) -> int:
    """End containers: a signal, and SIGKILL when the time is up."""
    end = _ending(parsed)
    return _each(parsed, lambda containers, one: one.stop(*end(one)))


def restart(parsed: Parsed) -> int:
    """End containers that run, and start them."""
    end = _ending(parsed)

    def again(containers: Containers, one: Container) -> None:
        for warning in containers.restart(one, *end(one)):
            sys.stderr.write(f"warning: {warning}\n")

    return _each(parsed, again)


def _ending(parsed: Parsed) -> Callable[[Container], tuple[int, float]]:
    """Return the signal and the seconds of an end, by the options or a container's config [CTR-31]."""
    from pybuild.containers.signals import signal_number

    text = parsed.one("timeout") or parsed.one("time")
    try:
        given = float(text) if text else None
        if given is not None and not math.isfinite(given):
            raise ValueError(text)
    except ValueError:
        raise UsageError(f'invalid time "{text}": expected seconds') from None
    number = signal_number(parsed.one("signal")) if parsed.one("signal") else 0

    def end(one: Container) -> tuple[int, float]:
        config = one.config
        own = STOP_SECONDS if config.stop_seconds is None else config.stop_seconds
        return (
            number or signal_number(config.stop_signal or "SIGTERM"),
            own if given is None else given,
        )

    return end


def kill(parsed: Parsed) -> int:
    """Send a signal to containers."""
    from pybuild.containers.signals import signal_number

    number = signal_number(parsed.one("signal", "SIGKILL"))

    def send(containers: Containers, one: Container) -> None:
        one.ask("kill", number)
        if number == _SIGKILL:
            one.wait_gone()

    return _each(parsed, send)


def pause(parsed: Parsed) -> int:
    """Let containers stand still."""
    return _each(parsed, lambda containers, one: one.ask("pause"))


def unpause(parsed: Parsed) -> int:
    """Let containers that stand still go on."""
    return _each(parsed, lambda containers, one: one.ask("unpause"))


def rename(parsed: Parsed) -> int:
    """Give a container another name."""
    from pybuild.containers import connecting  # with all that speaks of networks

    old, new = parsed.positionals
    with _containers(parsed) as containers:
        connecting.rename(containers, containers.find(old), new)
    return 0


def update(parsed: Parsed) -> int:
    """Give containers other limits, or another restart policy."""
    if not parsed.values.keys() - {one.name for one in GLOBAL}:
        raise UsageError("you must provide one or more flags when using this command")
    from pybuild.arguments.containers import surroundings
    from pybuild.containers.defaults import read_restart

    fields = surroundings(parsed, is_update=True)
    policy = read_restart(parsed.one("restart")) if parsed.one("restart") else None

    def change(containers: Containers, one: Container) -> None:
        for warning in containers.update(
            one, fields["limits"], policy, has_cpus=fields["has_cpus"]
        ):
            sys.stderr.write(f"warning: {warning}\n")

    return _each(parsed, change)


def top(parsed: Parsed) -> int:
    """Show the processes of a container, by this machine's ps [CTR-82]."""
    from pybuild.containers.processes import process_table

    name, *options = parsed.positionals
    with _containers(parsed) as containers:
        container = containers.find(name)
        lines = process_table(container, options)
        container.note("top")
    print("\n".join(lines))
    return 0


def wait(parsed: Parsed) -> int:
    """Wait for the ends of containers, and show their exit codes."""
    return _each(parsed, lambda containers, one: str(one.wait()))


def rm(parsed: Parsed) -> int:
    """Remove containers with what they wrote, or links between them."""
    if parsed.flag("link"):
        from pybuild.containers.connecting import unlink

        with _containers(parsed) as containers:
            return for_each(parsed.positionals, lambda name: unlink(containers, name))
    force, volumes = parsed.flag("force"), parsed.flag("volumes")
    return _each(
        parsed,
        lambda containers, one: containers.remove(one, force=force, volumes=volumes),
        missing_is_fine=force,
    )


def _each(
    parsed: Parsed,
    act: Callable[[Containers, Container], str | None],
    *,
    missing_is_fine: bool = False,
) -> int:
    """Do it to each container that is named, and print what that returns, else the name."""
    with _containers(parsed) as containers:

        def one(name: str) -> str | bool | None:
            try:
                container = containers.find(name)
            except UserError as error:
                if not missing_is_fine:
                    raise
                sys.stderr.write(f"warning: {error.message}\n")
                return False
            return act(containers, container)

        return for_each(parsed.positionals, one)


def prune(parsed: Parsed) -> int:
    """Remove containers that do not run; asks first without ``--force``."""
    if not confirmed(parsed, "all stopped containers"):
        return 0
    from pybuild.containers.pruning import prune_containers

    filters = parsed.many("filter")
    removed, freed = with_store(parsed, lambda store: prune_containers(store, filters))
    return show_removed("Deleted Containers:", removed, freed)
