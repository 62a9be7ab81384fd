"""Commands about containers: those that exist, their logs, their ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.arguments.signals import signal_number
from pybuild.commandline.parser import Parsed
from pybuild.commands.images import open_store
from pybuild.containers.containers import STOP_SECONDS, Container, Containers
from pybuild.containers.logreading import read_log
from pybuild.model.errors import PybuildError, UsageError, UserError

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def _containers(parsed: Parsed) -> Generator[Containers]:
    with open_store(parsed) as store:
        yield Containers(store)


def logs(parsed: Parsed) -> int:
    """Show what a container has written."""
    with _containers(parsed) as containers:
        container = containers.find(parsed.positionals[0])
    tail = parsed.one("tail", "all")
    if tail != "all" and not tail.isdecimal():
        raise UsageError(f'invalid number of lines: "{tail}": a number, or all')
    timestamps = parsed.flag("timestamps")
    lines = read_log(
        container, follow=parsed.flag("follow"), tail=None if tail == "all" else int(tail)
    )
    for line in lines:
        stream = sys.stderr if line.stream == "stderr" else sys.stdout
        stream.write(f"{line.time} {line.text}" if timestamps else line.text)
        stream.flush()
    return 0


def start(parsed: Parsed) -> int:
    """Start containers that are there; one that runs goes on."""
    return _each(parsed, _start)


def _start(containers: Containers, one: Container) -> None:
    for warning in containers.start(one):
        sys.stderr.write(f"warning: {warning}\n")


def stop(parsed: Parsed) -> int:
    """End containers: a signal, and SIGKILL when the time is up."""
    end = _ending(parsed)
    return _each(parsed, lambda containers, one: end(one))


def restart(parsed: Parsed) -> int:
    """End containers that run, and start them."""
    end = _ending(parsed)

    def again(containers: Containers, one: Container) -> None:
        end(one)
        _start(containers, one)

    return _each(parsed, again)


def _ending(parsed: Parsed) -> Callable[[Container], None]:
    """Return the end that a container is given, by the options or by its own config [CTR-31]."""
    text = parsed.one("time")
    try:
        given = float(text) if text else None
    except ValueError:
        raise UsageError(f'invalid time "{text}": expected seconds') from None
    number = signal_number(parsed.one("signal")) if parsed.one("signal") else 0

    def end(one: Container) -> None:
        config = one.config
        own = STOP_SECONDS if config.stop_seconds is None else config.stop_seconds
        one.stop(
            number or signal_number(config.stop_signal or "SIGTERM"),
            own if given is None else given,
        )

    return end


def kill(parsed: Parsed) -> int:
    """Send a signal to containers."""
    number = signal_number(parsed.one("signal", "SIGKILL"))

    def send(containers: Containers, one: Container) -> None:
        if not one.send("kill", number):
            raise UserError(f"container {one.config.name} is not running")
        if number == signal.SIGKILL:
            one.wait()

    return _each(parsed, send)


def wait(parsed: Parsed) -> int:
    """Wait for the ends of containers, and show their exit codes."""
    with _containers(parsed) as containers:
        for container in [containers.find(name) for name in parsed.positionals]:
            print(container.wait(), flush=True)
    return 0


def rm(parsed: Parsed) -> int:
    """Remove containers with what they wrote."""
    force, volumes = parsed.flag("force"), parsed.flag("volumes")
    return _each(
        parsed, lambda containers, one: containers.remove(one, force=force, volumes=volumes)
    )


def _each(parsed: Parsed, act: Callable[[Containers, Container], None]) -> int:
    """Do it to each, and say its name; what fails for one keeps no other from it, and is told at the end."""
    failed: list[PybuildError] = []
    with _containers(parsed) as containers:
        for name in parsed.positionals:
            try:
                act(containers, containers.find(name))
                print(name, flush=True)
            except PybuildError as error:
                failed.append(error)
    if failed:
        first, *others = failed
        if others:
            rest = "; ".join(error.message for error in others)
            first = first.copy_with(message=f"{first.message}; {rest}")
        raise first
    return 0
