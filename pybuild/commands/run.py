"""``pybuild run`` and ``pybuild unpack``: from an image to a process, or to a runtime bundle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pybuild.arguments.environment import platforms_of
from pybuild.arguments.values import parse_pairs
from pybuild.cache.content.deltas import ActiveDelta
from pybuild.commandline.parser import Parsed
from pybuild.containers.image import find_image
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import load_settings
from pybuild.executor import network
from pybuild.executor.files.encode import encode_copy
from pybuild.executor.files.values import DeltaStack
from pybuild.executor.steps.spec import StepExit, StepMount, StepSpec
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.model.errors import Cancelled, UsageError
from pybuild.model.jsontext import as_object
from pybuild.model.ops import Copy
from pybuild.model.snapshot import Snapshot
from pybuild.networks.reading import check_published

if TYPE_CHECKING:
    from pybuild.executor.files import apply
    from pybuild.executor.workers.workers import RunningStep
else:
    apply = WorkerModule("pybuild.executor.files.apply")

STOP_SECONDS = 10.0
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))


def main(parsed: Parsed) -> int:
    """Run one process of an image with our standard streams; its status is ours [RUN-21]."""
    check_published(parsed.many("publish"), network_of(parsed))
    import uvloop

    return uvloop.run(_run(parsed))


async def _run(parsed: Parsed) -> int:
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    name, *command = parsed.positionals
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError("run takes one platform")
    async with Engine(settings) as engine:
        manifest, config = await find_image(
            engine, name, platforms[0] if platforms else None, parsed.one("pull", "missing")
        )
        layers = engine.layers()
        snapshot = layers.of_image(manifest.digest)
        lowers = await layers.ensure(snapshot.deltas, lambda event: None)
        facts = as_object(config.get("config"))
        if not any(map(parsed.many, ("mount", "tmpfs", "volume", "volumes-from"))):
            return await _in_front(parsed, engine, facts, command, lowers, ())
        from pybuild.arguments.containers import mounts_of
        from pybuild.containers.mounts import provision
        from pybuild.volumes.volumes import Volumes

        async with provision(engine, mounts_of(parsed), (), lowers) as provided:
            mounts = tuple(map(Volumes(engine.store).step_mount, provided.mounts))
            return await _in_front(parsed, engine, facts, command, lowers, mounts)


async def _in_front(
    parsed: Parsed,
    engine: Engine,
    config: Mapping[str, Any],
    command: Sequence[str],
    lowers: Sequence[str],
    mounts: tuple[StepMount, ...],
) -> int:
    active = await asyncio.to_thread(engine.store.deltas.begin)
    try:
        spec = _spec(parsed, engine, config, command, lowers, active)._replace(mounts=mounts)
        return await _follow(
            lambda on_start: engine.workers.run_step(
                spec, lambda _stream, _data: None, stdio=(0, 1, 2), on_start=on_start
            )
        )
    finally:
        engine.store.deltas.abort(active)


async def _follow(
    run: Callable[[Callable[[RunningStep], None]], Coroutine[Any, Any, StepExit]],
) -> int:
    """Wait for the process, hand it our signals, and return its status.

    One that gets a signal to end has as long as ``docker stop`` gives; a second one ends it at once.
    """
    running: list[RunningStep] = []
    received: list[signal.Signals] = []
    step = asyncio.create_task(run(running.append))
    loop = asyncio.get_running_loop()

    def hand_on(number: signal.Signals) -> None:
        received.append(number)
        if running:
            running[0].signal(int(number))
        else:
            step.cancel()

    def end(number: signal.Signals) -> None:
        if _ENDING.isdisjoint(received):
            hand_on(number)
            loop.call_later(STOP_SECONDS, step.cancel)
        else:
            step.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, hand_on, number)
    try:
        status = (await step).status
    except asyncio.CancelledError:
        if not received:
            raise Cancelled("context canceled") from None
        return 128 + received[-1]
    # What does not catch a signal that ends others is killed.
    return 128 + received[-1] if received and status == 128 + signal.SIGKILL else status


class _Process(NamedTuple):
    """The first process, by the options and the image [CTR-1, CTR-2]."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str


def _process(parsed: Parsed, config: Mapping[str, Any], command: Sequence[str]) -> _Process:
    entrypoint = parsed.one("entrypoint")
    if entrypoint:
        args = [entrypoint, *command]
    else:
        args = [*_texts(config, "Entrypoint"), *(command or _texts(config, "Cmd"))]
    if not args:
        raise UsageError("no command specified: the image has neither ENTRYPOINT nor CMD")
    given = parse_pairs(parsed.many("env"), "env", from_environment=True)
    env = [item for item in _texts(config, "Env") if item.partition("=")[0] not in given]
    env += [f"{key}={value}" for key, value in given.items()]
    cwd = parsed.one("workdir") or config.get("WorkingDir") or "/"
    user = parsed.one("user") or config.get("User") or ""
    if sys.stdin.isatty() and "TERM" in os.environ and "TERM" not in given:
        env.append(f"TERM={os.environ['TERM']}")
    return _Process(tuple(args), tuple(env), cwd, user)


def _spec(
    parsed: Parsed,
    engine: Engine,
    config: Mapping[str, Any],
    command: Sequence[str],
    lowers: Sequence[str],
    active: ActiveDelta,
) -> StepSpec:
    mode = network_of(parsed)
    hostname = parsed.one("hostname", "pybuild")
    return StepSpec(
        **_process(parsed, config, command)._asdict(),
        lowers=tuple(lowers),
        upper=active.fs,
        work=active.work,
        hostname=hostname,
        network=mode,
        resolv_conf=engine.resolv_conf(host_network=mode != "none").encode(),
        hosts=network.hosts(hostname).encode(),
        readonly=parsed.flag("read-only"),
    )


def network_of(parsed: Parsed) -> str:
    mode = parsed.one("network", "host")
    if mode not in {"host", "none", "default"}:
        raise UsageError(
            f"--network {mode} needs --detach: in the foreground there is host, or none",
            hints=[f"pybuild run -d --network {mode} … IMAGE"],
        )
    return mode


def _texts(config: Mapping[str, Any], key: str) -> list[str]:
    texts: list[object] = config.get(key) or []
    return [str(item) for item in texts]


def unpack(parsed: Parsed) -> int:
    """Write ``rootfs/`` and ``config.json`` into a new directory [OUT, IMG-18]."""
    name, directory = parsed.positionals
    if os.path.lexists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise UsageError(f"{directory} is not empty")

    async def work() -> None:
        settings = load_settings(parsed.one("config"), parsed.one("root"))
        async with Engine(settings) as engine:
            manifest, config = await find_image(engine, name, None)
            snapshot = engine.layers().of_image(manifest.digest)
            await write_bundle(engine, snapshot, config, directory, parsed.flag("rootless"))

    run_interruptible(work())
    return 0


async def write_bundle(
    engine: Engine,
    snapshot: Snapshot,
    config: Mapping[str, Any],
    directory: str,
    rootless: bool,
) -> None:
    from pybuild.exporter.directories import make_output
    from pybuild.image.runtimespec import write_bundle

    # Made and closed for its looks at who made the links on the way.
    os.close(make_output(directory))
    rootfs = os.path.join(os.path.abspath(directory), "rootfs")
    os.makedirs(rootfs)
    lowers = await engine.layers().ensure(snapshot.deltas, lambda event: None)
    whole = encode_copy(Copy(input=0, source="/", dest="/"), is_scratch=True)
    inputs = {0: DeltaStack(lowers)}
    work = job(apply.apply, engine.mount_dir(), rootfs, inputs=inputs, actions=[whole])
    await engine.workers.call(work)
    os.close(make_output(directory))
    write_bundle(directory, config, rootless=rootless or os.geteuid() != 0)
