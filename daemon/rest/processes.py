"""Further processes in containers that run: those of exec [EP-30, CTR-50…52]."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.containers.container import Container
from pybuild.containers.environment import environment, environment_with
from pybuild.containers.order import ExecOrder
from pybuild.containers.state import PAUSED, RESTARTING, RUNNING
from pybuild.containers.trees import tree_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer, nothing
from pybuild.daemon.rest.execs import ExecProcess
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.hijack import RawStream, Taken, frame, hijack
from pybuild.daemon.rest.lines import MonitorLine
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.streams import follow, keys_of, kind_of, size_of
from pybuild.executor.workers.launch import error_of
from pybuild.executor.zygote import users
from pybuild.executor.zygote.faults import Fault
from pybuild.model.border import packed


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Note a process that is to be started in a container."""
    body = await exchange.body()
    container = await exchange.container()
    config = container.config
    args = body.texts("Cmd") or ()
    if not args:
        raise ApiRefusal(400, "No exec command specified")
    await _see_it_runs(exchange, container)
    if user := body.text("User"):
        await exchange.host.run(_see_user, exchange.host, container, user)
    terminal = body.flag("Tty")
    items = body.texts("Env") or ()
    given = {key: value for key, equals, value in (one.partition("=") for one in items) if equals}
    env = environment_with(
        given, {one.partition("=")[0] for one in items}, {"Env": list(config.env)}
    )
    id = secrets.token_hex(32)
    order = ExecOrder(
        args,
        environment(config.hostname, env, tty=terminal),
        body.text("WorkingDir") or config.cwd,
        body.text("User") or config.user,
        terminal=_console(body) if terminal else None,
        privileged=body.flag("Privileged"),
        stdin=body.flag("AttachStdin"),
        id=id,
    )
    process = ExecProcess(
        id=id,
        container=container,
        order=order,
        stdout=body.flag("AttachStdout"),
        stderr=body.flag("AttachStderr"),
        keys=keys_of(body.text("DetachKeys")),
        key_text=body.text("DetachKeys"),
        user=body.text("User"),
    )
    exchange.host.processes.add(process)
    return answer({"Id": process.id}, 201)


def _console(body: Fields) -> tuple[int, int]:
    size = body.numbers("ConsoleSize")
    if not all(0 <= one < 1 << 16 for one in size):
        raise ApiRefusal(400, "a terminal has 0 to 65535 rows and columns")
    return (size[0], size[1]) if len(size) == 2 else (0, 0)


def _see_user(host: RestHost, container: Container, user: str) -> None:
    """Refuse a user whom the container does not know, by the files that it has now."""
    with tree_of(host.store, container, host.engine.mount_dir()) as (tree, fds):
        try:
            if tree.runs:
                users.resolve(fds[0], user)
        except Fault as error:
            raise ApiRefusal(400, str(error)) from error


async def _see_it_runs(exchange: ApiExchange, container: Container) -> None:
    state, id = await exchange.host.run(container.state), container.config.id
    if state.status == PAUSED:
        name = exchange.call.name if exchange.call.route.startswith("POST /containers") else id
        raise ApiRefusal(409, f"Container {name} is paused, unpause the container before exec")
    if state.status == RESTARTING:
        raise ApiRefusal(409, f"Container {id} is restarting, wait until the container is running")
    if state.status != RUNNING:
        raise ApiRefusal(409, f"container {id} is not running")


async def start(exchange: ApiExchange) -> web.StreamResponse:
    """Start the process; the client has its streams, unless it is to be left alone."""
    body = await exchange.body()
    process = exchange.host.processes.find(exchange.call.name)
    detached = body.flag("Detach")
    if process.order.terminal is not None and body.numbers("ConsoleSize"):
        process.order = process.order._replace(terminal=_console(body))
    if detached:
        if not process.claim():
            words = "is already running" if process.exit_code is None else "has already run"
            raise ApiRefusal(409, f"exec command {process.id} {words}")
        line = await _begin(exchange, process)
        exchange.host.background(_drain(process))
        await line.settled.wait()
        _see_it_began(line)
        return nothing(200)
    await _see_it_runs(exchange, process.container)
    is_raw = body.flag("Tty")  # of the start, as clients take the stream apart by that
    stream = await hijack(
        exchange.request, kind_of(exchange.call.version, tty=is_raw), exchange.signature
    )
    try:
        if process.claim():
            await _run(exchange, process, stream, is_raw=is_raw)
        else:  # whose it is has its streams
            text = f"exec command {process.id} has already run\r\n".encode()
            await stream.send(text if is_raw else frame(1, text))
    except ConnectionError:
        pass  # the client has gone: the process goes on
    except ApiRefusal as refusal:
        text = f"{refusal.message}\r\n".encode()
        await stream.send(text if is_raw else frame(1, text))
    finally:
        await stream.close()
    return Taken()


async def _run(
    exchange: ApiExchange, process: ExecProcess, stream: RawStream, *, is_raw: bool
) -> None:
    """Start a process, and join it and its client."""
    line = await _begin(exchange, process)
    try:
        left = await follow(
            line,
            stream,
            reads=process.order.stdin,
            tty=is_raw,
            keys=process.keys if process.order.terminal is not None else b"",
            said=True,
            numbers=process.numbers,
        )
        if left:
            await exchange.host.run(process.container.note, "exec_detach", {"execID": process.id})
    finally:
        if line.ended is None:
            await line.say("eof")
            exchange.host.background(_drain(process))
        else:
            _note_end(process)


async def _begin(exchange: ApiExchange, process: ExecProcess) -> MonitorLine:
    own = await exchange.host.run(process.container.connect)
    if own is None:
        process.begun = False
        raise ApiRefusal(409, f"container {process.container.config.id} is not running")
    line = process.line = MonitorLine(own)
    await line.say("exec", packed(process.order))
    return line


def _see_it_began(line: MonitorLine) -> None:
    """Refuse a process that nobody is attached to, and that could not be executed."""
    match line.ended:
        case ("unexecuted", int(), str() as text):
            raise ApiRefusal(400, text)
        case ("fault", *_) as fault:
            raise error_of(fault)
        case _:
            pass


async def _drain(process: ExecProcess) -> None:
    """Hear a process to its end for nobody."""
    assert process.line is not None
    while process.line.ended is None and await process.line.hear() is not None:
        continue
    _note_end(process)


def _note_end(process: ExecProcess) -> None:
    """Keep the exit code: clients look for it as soon as the stream is closed."""
    line = process.line
    if line is None or process.exit_code is not None:
        return
    match line.ended:
        case ("ended" | "unexecuted", int() as status, *_):
            process.exit_code = status
        case ("done", *_):
            process.exit_code = 0
        case _:
            process.exit_code = 128 + 9 if line.ended is None else 126
    line.close()


async def resize(exchange: ApiExchange) -> web.StreamResponse:
    """Give the process's terminal another size."""
    rows, columns = size_of(exchange)
    process = exchange.host.processes.find(exchange.call.name)
    if process.line is None or process.exit_code is not None:
        raise ApiRefusal(409, f"exec process {process.id} is not running")
    await process.line.say("resize", rows, columns)
    return nothing(200)


async def inspect(exchange: ApiExchange) -> web.StreamResponse:
    """Describe a process."""
    process = exchange.host.processes.find(exchange.call.name)
    order = process.order
    document: dict[str, Any] = {
        "ID": process.id,
        "Running": process.is_running,
        "ExitCode": process.exit_code,
        "ProcessConfig": {
            "tty": order.terminal is not None,
            "entrypoint": order.args[0],
            "arguments": list(order.args[1:]),
            "privileged": order.privileged,
            **({"user": process.user} if process.user else {}),
        },
        "OpenStdin": order.stdin,
        "OpenStderr": process.stderr,
        "OpenStdout": process.stdout,
        "CanRemove": process.exit_code is not None,
        "ContainerID": process.container.config.id,
        "DetachKeys": process.key_text,
        "Pid": 0 if process.line is None else process.line.pid,
    }
    return answer(document)


HANDLERS: Mapping[str, Handler] = {
    "POST /containers/{name}/exec": create,
    "POST /exec/{name}/resize": resize,
    "GET /exec/{name}/json": inspect,
}
STREAMS: Mapping[str, Handler] = {"POST /exec/{name}/start": start}
