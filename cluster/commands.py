"""``pybuild worker`` and ``pybuild cluster``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from pybuild.cluster import control
from pybuild.cluster.certificates import Certificates, Role, make_certificates
from pybuild.cluster.control import controlled
from pybuild.cluster.coordinator import clustered
from pybuild.cluster.process import serve_worker
from pybuild.commandline.parser import Parsed
from pybuild.daemon.process import default_address, serve
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings, load_settings
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.model.listing import table

_READY = b"running worker on "
_START_S = 30.0
_END_S = 10.0
_MOST_DAYS = 3650


def worker(parsed: Parsed) -> int:
    """Run steps for coordinators until a signal stops us."""
    import uvloop

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    addresses = parsed.many("addr")
    if not addresses:
        raise UsageError("a worker needs an address", hints=["give it with --addr unix://PATH"])
    slots = _count(parsed, "slots", len(os.sched_getaffinity(0)))
    uvloop.run(serve_worker(settings, addresses, slots, _certificates(parsed)))
    return 0


def up(parsed: Parsed) -> int:
    """Serve builds whose steps run on workers, some of which we may start."""
    import uvloop

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    local = _count(parsed, "local", 0)
    given = parsed.many("worker")
    if not local and not given:
        raise UsageError(
            "a cluster needs workers",
            hints=["--local 2 starts two here; --worker ADDR names one that runs"],
        )
    slots = _count(parsed, "slots", 2)
    addresses, config = parsed.many("addr"), parsed.one("config")
    work = _up(settings, config, addresses, local, slots, given, _certificates(parsed))
    uvloop.run(work)
    return 0


def certs(parsed: Parsed) -> int:
    """Make certificates of workers and coordinators, and their authority."""
    members = [(role, host) for role in Role for host in parsed.many(role)]
    if not members:
        raise UsageError(
            "a certificate is for somebody",
            hints=["--coordinator HOST and --worker HOST name the machines, as often as needed"],
        )
    for _, host in members:
        if not host or "/" in host or host.startswith((".", "-")):
            raise UsageError(f'invalid host "{host}"')
    days = _count(parsed, "days", 365)
    if days > _MOST_DAYS:
        raise UsageError(f"invalid --days: {days}: expected {_MOST_DAYS} at most")
    for paths in make_certificates(parsed.one("output", "."), members, days):
        sys.stdout.write(" ".join(paths) + "\n")
    return 0


def ls(parsed: Parsed) -> int:
    """List the workers of the coordinator here."""
    rows = [("WORKER", "STATE", "STEPS", "SLOTS", "PLATFORM", "VERSION")]
    for one in asyncio.run(control.list_workers(_root(parsed))).workers:
        platform = one.platforms[0] if one.platforms else ""
        numbers = str(len(one.steps)), str(one.slots)
        rows.append((one.name, one.state, *numbers, platform, one.version))
    sys.stdout.write(table(rows))
    return 0


def top(parsed: Parsed) -> int:
    """List the steps that run, the longest first."""
    fleet = asyncio.run(control.list_workers(_root(parsed)))
    running = [(one.name, step) for one in fleet.workers for step in one.steps]
    running.sort(key=lambda pair: -pair[1].seconds)
    rows = [("WORKER", "SECONDS", "STEP")]
    rows += [(name, f"{step.seconds:.1f}", step.step) for name, step in running]
    sys.stdout.write(table(rows))
    return 0


def why(parsed: Parsed) -> int:
    """Show what the placer weighed for a step."""
    sys.stdout.write(asyncio.run(control.why(_root(parsed), parsed.positionals[0])))
    return 0


def drain(parsed: Parsed) -> int:
    """Give a worker no more steps."""
    sys.stdout.write(asyncio.run(control.drain(_root(parsed), parsed.positionals[0])))
    return 0


def _root(parsed: Parsed) -> str:
    return load_settings(parsed.one("config"), parsed.one("root")).root


def _certificates(parsed: Parsed) -> Certificates:
    return Certificates(
        ca=parsed.one("tlscacert"), cert=parsed.one("tlscert"), key=parsed.one("tlskey")
    )


def _count(parsed: Parsed, name: str, default: int) -> int:
    text = parsed.one(name, str(default))
    if not text.isdecimal() or (name in parsed.values and int(text) == 0):
        raise UsageError(f"invalid --{name}: {text}: expected a number from 1 on")
    return int(text)


async def _up(
    settings: Settings,
    config: str,
    addresses: Sequence[str],
    local: int,
    slots: int,
    given: Sequence[str],
    certificates: Certificates,
) -> None:
    addresses = addresses or [default_address(settings.root)]
    async with _local_workers(settings, config, local, slots) as own:

        @asynccontextmanager
        async def coordinating(engine: Engine) -> AsyncGenerator[None]:
            async with (
                clustered(engine, [*own, *given], certificates.client()) as cluster,
                controlled(cluster.fleet, settings.root),
            ):
                for address, reason in cluster.fleet.reasons.items():
                    sys.stderr.write(f"warning: worker {address}: {reason}\n")
                count, steps = len(cluster.fleet.workers), cluster.fleet.slots
                sys.stderr.write(f"{count} workers with {steps} slots\n")
                yield

        await serve(settings, addresses, insecure=False, within=coordinating)


@asynccontextmanager
async def _local_workers(
    settings: Settings, config: str, count: int, slots: int
) -> AsyncGenerator[list[str]]:
    """Start workers with stores of their own beside ours, and end them with the block."""
    base = settings.root.rstrip("/") + "-workers"
    processes: list[asyncio.subprocess.Process] = []
    addresses: list[str] = []
    try:
        for number in range(1, count + 1):
            root = os.path.join(base, str(number))
            os.makedirs(root, mode=0o700, exist_ok=True)
            address = f"unix://{base}/{number}.sock"
            command = [sys.executable, "-P", "-m", "pybuild", "worker", "--root", root]
            processes.append(
                await asyncio.create_subprocess_exec(
                    *command,
                    *("--addr", address, "--slots", str(slots)),
                    *(("--config", config) if config else ()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
            )
            addresses.append(address)
        for process, address in zip(processes, addresses, strict=True):
            await _ready(process, address)
        followers = [asyncio.create_task(_follow(process)) for process in processes]
        try:
            yield addresses
        finally:
            for follower in followers:
                follower.cancel()
    finally:
        await _end(processes)


async def _ready(process: asyncio.subprocess.Process, address: str) -> None:
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(_START_S):
            while line := await process.stderr.readline():
                if line.startswith(_READY):
                    return
                said += line
    except TimeoutError:
        pass
    text = said.decode(errors="replace").strip()
    raise EnvironmentFault(f"worker {address} did not start: {text or 'it says nothing'}")


async def _follow(process: asyncio.subprocess.Process) -> None:
    """Pass on what a worker writes."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        sys.stderr.write(f"worker {process.pid}: {line.decode(errors='replace')}")


async def _end(processes: Sequence[asyncio.subprocess.Process]) -> None:
    running = [process for process in processes if process.returncode is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    waiting = [asyncio.create_task(process.wait()) for process in running]
    if waiting:
        _, stuck = await asyncio.wait(waiting, timeout=_END_S)
        if stuck:
            for process in running:
                if process.returncode is None:
                    process.kill()
            await asyncio.wait(stuck)
