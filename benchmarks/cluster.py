"""Measure a cluster on this machine: ``scripts/bench cluster [--out DIR] [--fleets 4x2,8x1] [--seconds 3] [--claims]``.

Sleep-bound stages show what placing, starting and reporting cost; the machine's processors are not what is
measured. Figures: the share of the slots' time in which steps ran, the seconds that a step takes more than on
this machine alone, from cancelling to the last process gone, from a worker's first line to its first step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks import machine, plot
from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.cluster.certificates import Certificates
from pybuild.cluster.coordinator import clustered
from pybuild.cluster.local import LocalCluster
from pybuild.cluster.members import Members
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.model.digest import Digest
from pybuild.model.events import Event, VertexAdded, VertexCompleted, VertexLog, VertexProgress
from tests.cluster.rig import context

STAGES = 64
AIM = 0.85
_POLL_S = 0.005


class Workers:
    """Processes of ``pybuild worker`` below a directory."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, name: str, slots: int) -> str:
        """Start one; return its address once it listens."""
        root = self._place / name
        root.mkdir(mode=0o700)
        address = f"unix://{self._place}/{name}.sock"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pybuild", "worker", "--root", str(root)),
            *("--addr", address, "--slots", str(slots)),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._processes.append(process)
        assert process.stderr is not None
        await process.stderr.readline()
        return address

    async def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            await process.wait()


@asynccontextmanager
async def fleet(count: int, slots: int, *, claims: bool) -> AsyncGenerator[tuple[Engine, Path]]:
    """Have a coordinator with *count* workers of so many slots; with 0 just an engine."""
    with tempfile.TemporaryDirectory(prefix="pbb-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        root = str(place / "store")
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(Engine(Settings(root=root)))
            if count:
                local = LocalCluster(root, "", count, slots, has_engine=claims)
                scratch = engine.store.scratch("cluster")
                members = await stack.enter_async_context(
                    local.running(Members((), Certificates()), scratch)
                )
                await stack.enter_async_context(members.clustered(engine))
            yield engine, place


async def spread(count: int, slots: int, seconds: float, *, claims: bool) -> float:
    """Return the share of all slots' time in which the steps of 64 independent stages slept."""
    stages = "".join(
        f"FROM base AS s{number}\nRUN echo {number} > /n && sleep {seconds}\n"
        for number in range(STAGES)
    )
    copies = "".join(f"COPY --link --from=s{number} /n /{number}\n" for number in range(STAGES))
    async with fleet(count, slots, claims=claims) as (engine, place):
        path = context(place / "warm", "FROM base\nRUN true\n")
        await build(engine, BuildRequest(context=str(path)), lambda event: None)
        path = context(place / "ctx", f"{stages}FROM scratch\n{copies}")
        steps: set[Digest] = set()
        first, last = 0.0, 0.0

        def note(event: Event) -> None:
            nonlocal first, last
            if isinstance(event, VertexAdded) and "sleep" in event.name:
                steps.add(event.vertex)
            if isinstance(event, VertexProgress) and event.id.startswith("worker "):
                first = first or time.monotonic()
            if isinstance(event, VertexCompleted) and event.vertex in steps:
                last = time.monotonic()

        await build(engine, BuildRequest(context=str(path)), note)
        return STAGES * seconds / (count * slots * (last - first))


async def chain(count: int, length: int = 24, *, claims: bool = False) -> list[float]:
    """Return the seconds of each step of a chain of steps that do nothing."""
    async with fleet(count, 2, claims=claims) as (engine, place):
        steps = "".join(f"RUN echo {number} > /n\n" for number in range(length))
        path = context(place / "ctx", f"FROM base\n{steps}")
        began, took, last = time.monotonic(), list[float](), 0.0

        def note(event: Event) -> None:
            nonlocal last
            if isinstance(event, VertexCompleted):
                now = time.monotonic() - began
                took.append(now - last)
                last = now

        await build(engine, BuildRequest(context=str(path)), note)
        return took[-length + 2 :]


async def cancelled(rounds: int, *, claims: bool) -> list[float]:
    """Return the seconds from cancelling a build until no process of its step is left."""
    took: list[float] = []
    async with fleet(2, 2, claims=claims) as (engine, place):
        for number in range(rounds):
            path = context(
                place / f"ctx{number}", f"FROM base\nRUN echo begun && exec sleep 98{number}.5\n"
            )
            begun = asyncio.Event()

            def note(event: Event, begun: asyncio.Event = begun) -> None:
                if isinstance(event, VertexLog):
                    begun.set()

            task = asyncio.create_task(build(engine, BuildRequest(context=str(path)), note))
            await begun.wait()
            at = time.monotonic()
            task.cancel()
            while _runs(f"98{number}.5"):
                await asyncio.sleep(_POLL_S)
            took.append(time.monotonic() - at)
            await asyncio.wait([task])
    return took


def _runs(word: str) -> bool:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in words and words[0].endswith(b"sleep"):
                return True
    return False


async def joined() -> float:
    """Return the seconds from a cold worker's start until a build that waits has a step on it."""
    with tempfile.TemporaryDirectory(prefix="pbb-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        workers = Workers(place)
        path = context(place / "ctx", "FROM base\nRUN sleep 0.1\n")
        late = f"unix://{place}/late.sock"
        try:
            async with (
                Engine(Settings(root=str(place / "store"))) as engine,
                clustered(engine, [late]) as cluster,
            ):
                began = time.monotonic()
                starting = asyncio.create_task(workers.start("late", 1))
                while not cluster.fleet.workers:
                    await asyncio.sleep(_POLL_S)
                at = 0.0

                def note(event: Event) -> None:
                    nonlocal at
                    if isinstance(event, VertexProgress) and event.id.startswith("worker "):
                        at = at or time.monotonic()

                await build(engine, BuildRequest(context=str(path)), note)
                await starting
                return at - began
        finally:
            await workers.end()


async def measured(fleets: Sequence[tuple[int, int, float]], *, claims: bool) -> dict[str, float]:
    """Return all figures by name."""
    figures: dict[str, float] = {}
    for count, slots, seconds in fleets:
        name = f"{count}x{slots}"
        figures[name] = round(await spread(count, slots, seconds, claims=claims), 3)
        print(f"{name}: {figures[name]} of the slots' time", flush=True)
    alone, far = await chain(0), await chain(1, claims=claims)
    figures["overhead_ms"] = round(1000 * (statistics.median(far) - statistics.median(alone)), 1)
    figures["cancel_s"] = round(statistics.median(await cancelled(5, claims=claims)), 3)
    figures["join_s"] = round(await joined(), 2)
    return figures


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="bench cluster", description=__doc__)
    parser.add_argument("--fleets", default="4x2,8x1,16x1", help="workers and their slots")
    parser.add_argument("--seconds", type=float, default=3.0, help="that each step sleeps")
    parser.add_argument("--out", help="directory for cluster.json and cluster.svg")
    parser.add_argument("--claims", action="store_true", help="begin steps by a scheduler's claims")
    options = parser.parse_args(words)
    fleets: list[tuple[int, int, float]] = []
    for text in options.fleets.split(","):
        count, _, slots = text.partition("x")
        fleets.append((int(count), int(slots), options.seconds))
    figures = asyncio.run(measured(fleets, claims=options.claims))
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.out:
        write(Path(options.out), figures, options.seconds)
    return 0


def write(out: Path, figures: dict[str, float], seconds: float) -> None:
    """Write the figures and their plot."""
    out.mkdir(parents=True, exist_ok=True)
    written = {"machine": machine.describe(), "seconds": seconds, "figures": figures}
    (out / "cluster.json").write_text(json.dumps(written, indent=2) + "\n")
    rows = [plot.Bar(name, value, AIM) for name, value in figures.items() if "x" in name]
    title = f"64 stages that sleep {seconds:g} s: share of the slots' time; red is the aim"
    (out / "cluster.svg").write_text(plot.bars(title, rows))


if __name__ == "__main__":
    raise SystemExit(main())
