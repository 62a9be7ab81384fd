"""Workers that are killed at any moment: the image is that of one machine [issue 18, A2].

``PYBUILD_CLUSTER_DEATHS=N`` runs N builds instead of a few.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.exporter.output import Output
from pybuild.model.events import BuildWarning, Event, VertexAdded, VertexLog
from tests.cluster.rig import Site, WorkerProcess, build_alone, context, run_site
from tests.executor.sandbox_helpers import processes_with, skip_unless_possible

BUILDS = int(os.environ.get("PYBUILD_CLUSTER_DEATHS", "3"))
SEED = int(os.environ.get("PYBUILD_CLUSTER_SEED", "1"))
MARK = "0.1618"


def dockerfile(number: int) -> str:
    """Return stages of steps that depend on each other, none of which was built before."""
    stages = "".join(
        f"FROM base AS s{one}\nRUN echo {number} {one} > /a && sleep {MARK}\n"
        f"RUN echo ran-{one} && cat /a > /b && sleep {MARK} && rm /a\n"
        for one in range(4)
    )
    copies = "".join(f"COPY --from=s{one} /b /b{one}\n" for one in range(4))
    return f"{stages}FROM base\n{copies}RUN cat /b0 /b1 /b2 /b3 > /all\n"


async def kill_one(site: Site, chance: random.Random, *words: str) -> WorkerProcess:
    """Kill a worker at some moment, and have another one come in its place."""
    await asyncio.sleep(chance.uniform(0.0, 1.2))
    name = chance.choice(sorted(site.workers))
    old = site.workers[name]
    await asyncio.to_thread(old.kill)
    new = WorkerProcess(old.root.parent, name, 2, *words)
    site.workers[name] = new
    await asyncio.to_thread(new.wait_ready)
    return old


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_death_while_the_image_is_made_has_its_steps_run_again(tmp_path: Path) -> None:
    """All is solved by then; the layers are at the worker alone."""
    skip_unless_possible()
    path = context(tmp_path / "ctx", dockerfile(0))

    async def work(site: Site) -> None:
        killed: list[str] = []

        def emit(event: Event) -> None:
            if isinstance(event, VertexAdded) and event.name.startswith("exporting") and not killed:
                killed.append(event.name)
                for worker in site.workers.values():
                    worker.kill()

        made = await site.build(path, emit)
        alone = await build_alone(tmp_path / "alone", path)
        assert killed
        assert made.image == alone.image
        texts = [event.message for event in site.events if isinstance(event, BuildWarning)]
        assert any(text.startswith("a layer is gone, its step runs") for text in texts)

    run_site(tmp_path / "store", {"a": 2, "b": 2}, work)


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize("kind", ["docker", "tar"])
def test_a_death_before_the_first_byte_has_gone_loses_no_stream(tmp_path: Path, kind: str) -> None:
    """A stream cannot begin again; so all layers are here before it begins."""
    skip_unless_possible()
    path = context(tmp_path / "ctx", dockerfile(0))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def work(site: Site) -> None:
        def emit(event: Event) -> None:
            if isinstance(event, VertexAdded) and event.name.startswith(("exporting", "sending")):
                for worker in site.workers.values():
                    worker.kill()

        reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
        output = Output(type=kind, dest=str(pipe))
        await build(
            site.engine, BuildRequest(context=str(path), outputs=(output,)), _both(site, emit)
        )
        with tarfile.open(fileobj=io.BytesIO(await reading)) as archive:
            assert len(archive.getnames()) > 3
        texts = [event.message for event in site.events if isinstance(event, BuildWarning)]
        assert any(text.startswith("a layer is gone, its step runs") for text in texts)

    run_site(tmp_path / "store", {"a": 2, "b": 2}, work)


def _both(site: Site, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    def hear(event: Event) -> None:
        site.events.append(event)
        emit(event)

    return hear


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_death_at_any_moment_changes_no_image(tmp_path: Path) -> None:
    skip_unless_possible()
    build_with_deaths(tmp_path)


def build_with_deaths(tmp_path: Path, scheduler: str = "") -> None:
    """Kill a worker in each of some builds, whose steps begin by claims where there is a scheduler."""
    chance = random.Random(SEED)
    kills = repeated = 0
    words = ("--scheduler", scheduler) if scheduler else ()

    async def work(site: Site) -> None:
        nonlocal kills, repeated
        for number in range(BUILDS):
            path = context(tmp_path / f"ctx{number}", dockerfile(number))
            site.events.clear()
            killing = asyncio.create_task(kill_one(site, chance, *words))
            made = await site.build(path)
            await killing
            kills += 1
            alone = await build_alone(tmp_path / f"alone{number}", path)
            assert made.image is not None
            assert made.image == alone.image, f"build {number} of seed {SEED}"
            log = b"".join(e.data for e in site.events if isinstance(e, VertexLog))
            counts = [log.count(b"ran-%d" % one) for one in range(4)]
            assert min(counts) >= 1
            assert max(counts) <= 2, "no step runs more often than there were deaths, and once"
            repeated += sum(counts) - 4
            assert sum(worker.busy for worker in site.cluster.fleet.connected) == 0
        while processes_with(MARK):
            await asyncio.sleep(0.01)

    slots = {"a": 2, "b": 2, "c": 2}
    limit_s = 60.0 + 30.0 * BUILDS
    run_site(tmp_path / "store", slots, work, limit_s=limit_s, scheduler=scheduler)
    print(f"{BUILDS} builds, {kills} workers killed, {repeated} steps ran again")
