"""Containers run, entered and followed far away: ``run``, ``create``, ``start -a``, ``exec``, ``attach``, ``logs``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

from pybuild.client.docker.attached import FarSignals, FarStreams, is_terminal, show_frames
from pybuild.client.docker.creation import CreationOptions, body_of, environment
from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.containers.detaching import DEFAULT, parse_keys
from pybuild.containers.moments import read_moment
from pybuild.model.errors import EnvironmentFault, PybuildError, UsageError, UserError
from pybuild.model.jsontext import as_list, as_object

NOT_RUN = 125
_NOT_EXECUTABLE = 126
_ABSENT = 127
_MISSING = 404
_KILLED = 137
_STOP_SECONDS = 10.0

Pull = Callable[[str], None]


def create(
    engine: Requests, options: CreationOptions, pull: Pull, *, attached: bool = False
) -> str:
    """Make a container, and return its id; *pull* brings an image that is not there."""
    image, *command = options.positionals
    body = body_of(options, image, command, attached=attached)
    cidfile = options.one("cidfile")
    if cidfile and os.path.lexists(cidfile):
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    when = options.one("pull", "missing")
    if when == "always":
        pull(image)
    query = {key: options.one(key) for key in ("name", "platform") if options.one(key)}
    newer = len(options.many("network")) > 1 or "StartInterval" in as_object(
        body.get("Healthcheck")
    )
    since = (1, 44) if newer else (1, 41)
    try:
        made = engine.ask("POST", "/containers/create", query, body, since=since)
    except EngineRefusal as error:
        absent = error.status == _MISSING and "no such image" in error.message.lower()
        if not absent or when == "never":
            raise
        pull(image)
        made = engine.ask("POST", "/containers/create", query, body, since=since)
    for warning in as_list(made.get("Warnings")):
        sys.stderr.write(f"warning: {warning}\n")
    container = str(made["Id"])
    if cidfile:
        try:
            with open(cidfile, "x", encoding="ascii") as file:
                file.write(container)
        except OSError as error:
            engine.ask("DELETE", named("containers", container), {"v": True})
            raise UsageError(f"--cidfile {cidfile}: {(error.strerror or '').lower()}") from error
    return container


def run(engine: Requests, options: CreationOptions, pull: Pull) -> int:
    """Create a container, start it, and stay with it unless it is to run in the background."""
    detached = options.flag("detach")
    keys = _keys(options)
    _check_terminal(options, detached=detached)
    try:
        container = create(engine, options, pull, attached=not detached)
        if detached:
            _start(engine, container, removes=options.flag("rm"))
            sys.stdout.write(f"{container}\n")
            return 0
        return _started(
            engine,
            container,
            stdin=options.flag("interactive"),
            tty=options.flag("tty"),
            keys=keys,
            removes=options.flag("rm"),
            proxies=options.flag("sig-proxy", True),
            ends=True,
        )
    except PybuildError as error:
        if error.exit_code in (_NOT_EXECUTABLE, _ABSENT):
            raise
        raise error.copy_with(exit_code=NOT_RUN) from error.__cause__


def start(engine: Requests, options: CreationOptions, name: str) -> int:
    """Start a container and stay with it: ``start -a``."""
    config = engine.ask("GET", named("containers", name, "json"))
    if config["State"]["Running"]:
        return attach(engine, options, name)
    return _started(
        engine,
        config["Id"],
        stdin=config["Config"]["OpenStdin"] and options.flag("interactive"),
        tty=config["Config"]["Tty"],
        keys=_keys(options),
        removes=config["HostConfig"].get("AutoRemove", False),
    )


def attach(engine: Requests, options: CreationOptions, name: str) -> int:
    """Attach our streams to a container that runs."""
    shown = engine.ask("GET", named("containers", name, "json"))
    config = shown["Config"]
    if not shown["State"]["Running"]:
        raise UserError(
            f"container {shown['Name'].lstrip('/')} is not running: "
            "you cannot attach to one that is stopped",
            hints=["start it first: pybuild start -a"],
        )
    stdin, tty = config["OpenStdin"] and not options.flag("no-stdin"), config["Tty"]
    with ExitStack() as stack:
        proxies = options.flag("sig-proxy", True) and not is_terminal(stdin=stdin, tty=tty)
        signals = stack.enter_context(_signals(engine, shown["Id"], proxies=proxies))
        status = stack.enter_context(_waiting(engine, shown["Id"], "not-running"))
        streams = _streams(engine, shown["Id"], stdin=stdin, tty=tty, keys=_keys(options))
        signals.reach()
        if not engine.ask("GET", named("containers", shown["Id"], "json"))["State"]["Running"]:
            streams.follow_ended()
            return status.code()
        streams.follow()
        return 0 if streams.left else status.code()


def _started(
    engine: Requests,
    container: str,
    *,
    stdin: bool,
    tty: bool,
    keys: bytes,
    removes: bool,
    proxies: bool = True,
    ends: bool = False,
) -> int:
    """Start a container whose output is ours from its first byte on; return its status.

    Args:
        ends: one that does not end by a signal is killed after a while.
    """
    with ExitStack() as stack:
        proxies = proxies and not is_terminal(stdin=stdin, tty=tty)
        patience_s = _STOP_SECONDS if ends else None
        signals = stack.enter_context(_signals(engine, container, patience_s, proxies=proxies))
        streams = _streams(engine, container, stdin=stdin, tty=tty, keys=keys)
        condition = "removed" if removes else "next-exit"
        status = stack.enter_context(_waiting(engine, container, condition))
        _start(engine, container, removes=removes)
        signals.reach()
        streams.follow()
        if streams.left:
            return 0
        code, received = status.code(), signals.received
        return 128 + received[-1] if received and code == _KILLED else code


def _start(engine: Requests, container: str, *, removes: bool) -> None:
    try:
        engine.ask("POST", named("containers", container, "start"))
    except PybuildError as error:
        if removes:
            with suppress(PybuildError):
                engine.ask("DELETE", named("containers", container), {"force": True, "v": True})
        raise error.copy_with(exit_code=_code_of(error.message)) from None


def _code_of(message: str) -> int:
    """Return a shell's exit code for what could not be executed, by the words that engines have for it."""
    text = message.lower()
    if "executable file not found" in text or "no such file or directory" in text:
        return _ABSENT
    return _NOT_EXECUTABLE if "permission denied" in text else NOT_RUN


class _Ending:
    """The answer about a container's end, which comes when it comes."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def code(self) -> int:
        answer = json.loads(self._response.read() or b"{}")
        if problem := as_object(answer.get("Error")).get("Message"):
            raise EnvironmentFault(str(problem))
        return int(answer["StatusCode"])


@contextmanager
def _waiting(engine: Requests, container: str, condition: str) -> Generator[_Ending]:
    path, query = named("containers", container, "wait"), {"condition": condition}
    with engine.asking("POST", path, query) as response:  # its head says that it listens
        yield _Ending(response)


@contextmanager
def _signals(
    engine: Requests, container: str, patience_s: float | None = None, *, proxies: bool
) -> Generator[FarSignals]:
    """Our signals as the container's for the block, from when it is reached."""

    def send(name: str) -> None:
        with suppress(PybuildError):  # it has ended meanwhile
            engine.ask("POST", named("containers", container, "kill"), {"signal": name})

    signals = FarSignals(send, patience_s)
    with signals.heard() if proxies else nullcontext():
        yield signals


def _streams(
    engine: Requests, container: str, *, stdin: bool, tty: bool, keys: bytes
) -> FarStreams:
    path = named("containers", container)
    query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True}
    pipe = engine.hijacked(f"{path}/attach", query)
    return FarStreams(pipe, stdin=stdin, tty=tty, keys=keys, on_size=_resizing(engine, path))


def _resizing(engine: Requests, path: str) -> Callable[[int, int], None]:
    """The function that gives the terminal of a process the size of ours."""

    def resize(rows: int, columns: int) -> None:
        with suppress(PybuildError):  # it has ended meanwhile
            engine.ask("POST", f"{path}/resize", {"h": rows, "w": columns})

    return resize


def execute(engine: Requests, options: CreationOptions) -> int:
    """Execute a command in a container, and return its status."""
    name, *command = options.positionals
    detached, tty, stdin = (options.flag(one) for one in ("detach", "tty", "interactive"))
    _check_terminal(options, detached=detached)
    keys = _keys(options)
    body: dict[str, Any] = {
        "Cmd": command,
        "AttachStdin": stdin and not detached,
        "AttachStdout": not detached,
        "AttachStderr": not detached,
        "Tty": tty,
        "Env": environment(options),
        "User": options.one("user"),
        "WorkingDir": options.one("workdir"),
        "Privileged": options.flag("privileged"),
    }
    try:
        made = engine.ask("POST", named("containers", name, "exec"), None, body)["Id"]
        if detached:
            engine.ask("POST", f"/exec/{made}/start", None, {"Detach": True, "Tty": tty})
            return 0
        pipe = engine.hijacked(f"/exec/{made}/start", None, {"Detach": False, "Tty": tty})
    except EngineRefusal as error:
        code = _code_of(error.message)
        raise error.copy_with(exit_code=code if code != NOT_RUN else 1) from None

    size = _resizing(engine, f"/exec/{made}")
    streams = FarStreams(pipe, stdin=stdin, tty=tty, keys=keys, on_size=size)
    streams.follow()
    if streams.left:
        return 0
    return int(engine.ask("GET", f"/exec/{made}/json").get("ExitCode") or 0)


def logs(engine: Requests, options: CreationOptions, name: str) -> int:
    """Show what a container has written."""
    path = named("containers", name)
    tty = engine.ask("GET", f"{path}/json")["Config"]["Tty"]
    query: dict[str, Any] = {
        "stdout": True,
        "stderr": True,
        "follow": options.flag("follow"),
        "timestamps": options.flag("timestamps"),
        "details": options.flag("details"),
        "tail": options.one("tail", "all"),
    }
    for key in ("since", "until"):
        if text := options.one(key):
            ns = read_moment(text, time.time_ns())
            query[key] = "0" if ns is None else f"{ns // 10**9}.{ns % 10**9:09}"
    with engine.asking("GET", f"{path}/logs", query) as response:
        if tty:
            while data := response.read1():
                os.write(1, data)
        else:
            show_frames(_Body(response))
    return 0


class _Body:
    """An answer's body as a pipe."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def receive(self, most: int = 1 << 16) -> bytes:
        return bytes(self._response.read1(most))

    def sendall(self, data: Any, /) -> None:
        raise OSError("an answer takes nothing")

    def end_input(self) -> None: ...
    def close(self) -> None: ...


def _keys(options: CreationOptions) -> bytes:
    return parse_keys(options.one("detach-keys") or DEFAULT)


def _check_terminal(options: CreationOptions, *, detached: bool) -> None:
    wants = options.flag("interactive") and options.flag("tty")
    if wants and not detached and not os.isatty(0):
        raise UsageError("the input device is not a TTY", hints=["leave -t away, and keep -i"])
