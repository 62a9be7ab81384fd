"""Commands about containers: those that exist, their logs, their ends."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pybuild.commandline.parser import Parsed
from pybuild.commands.images import age, open_store
from pybuild.commands.listing import show_list
from pybuild.containers.containers import STOP_SECONDS, Container, Containers
from pybuild.containers.logreading import read_log
from pybuild.containers.state import CREATED, RUNNING, ContainerState
from pybuild.model.errors import PybuildError, UsageError, UserError

if TYPE_CHECKING:
    from collections.abc import Generator

_TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Names": "NAMES",
    "Labels": "LABELS",
}
_SHOWN = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
_MOST_COMMAND = 20


@contextmanager
def _containers(parsed: Parsed) -> Generator[Containers]:
    with open_store(parsed) as store:
        yield Containers(store)


def ps(parsed: Parsed) -> int:
    """List containers: those that run, or all."""
    whole = parsed.flag("no-trunc")
    with _containers(parsed) as containers:
        known = [(one, one.state()) for one in containers.list()]
    if not parsed.flag("all"):
        known = [(one, state) for one, state in known if state.status == RUNNING]
    if parsed.flag("quiet"):
        for one, _ in known:
            print(one.spec.id if whole else one.spec.short_id)
        return 0
    rows = [_row(one, state, whole=whole) for one, state in known]
    show_list(parsed.one("format"), rows, _TITLES, _SHOWN, [{} for _ in rows])
    return 0


def _row(one: Container, state: ContainerState, *, whole: bool) -> dict[str, Any]:
    spec = one.spec
    command = " ".join(spec.args)
    if not whole and len(command) > _MOST_COMMAND:
        command = command[: _MOST_COMMAND - 1] + "…"
    created = _datetime(spec.created)
    return {
        "ID": spec.id if whole else spec.short_id,
        "Image": spec.image,
        "Command": json.dumps(command, ensure_ascii=False),
        "CreatedAt": created.isoformat(sep=" ", timespec="seconds"),
        "RunningFor": age(created),
        "Ports": "",
        "State": state.status,
        "Status": _status(state),
        "Names": spec.name,
        "Labels": ",".join(f"{key}={value}" for key, value in spec.labels.items()),
    }


def _datetime(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def _status(state: ContainerState) -> str:
    if state.status == CREATED:
        return "Created"
    if state.status == RUNNING:
        return f"Up {age(_datetime(state.started)).removesuffix(' ago')}"
    return f"Exited ({state.exit_code}) {age(_datetime(state.finished))}".rstrip()


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


def stop(parsed: Parsed) -> int:
    """End containers: a signal, and SIGKILL when the time is up."""
    text = parsed.one("time")
    try:
        seconds = float(text) if text else STOP_SECONDS
    except ValueError:
        raise UsageError(f'invalid time "{text}": expected seconds') from None
    number = _signal(parsed.one("signal", "SIGTERM"))
    return _each(parsed, lambda containers, one: one.stop(number, seconds))


def kill(parsed: Parsed) -> int:
    """Send a signal to containers."""
    number = _signal(parsed.one("signal", "SIGKILL"))

    def send(containers: Containers, one: Container) -> None:
        if not one.send("kill", number):
            raise UserError(f"container {one.spec.name} is not running")
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
    force = parsed.flag("force")
    return _each(parsed, lambda containers, one: containers.remove(one, force=force))


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


def _signal(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else "SIG" + name])
    except KeyError:
        raise UsageError(f"invalid signal: {text}") from None
