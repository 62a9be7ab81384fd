"""Builds whose steps begin by Dask's claims: one machine's image, single flight, a scheduler that dies."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from pybuild.cluster.certificates import Certificates
from pybuild.cluster.members import Members
from pybuild.cluster.roles import Role
from pybuild.engine.engine import Engine as PybuildEngine
from pybuild.engine.settings import Settings
from pybuild.model.events import Event, VertexLog
from tests.cluster.dask.processes import Engine, needs_dask, role_certificates, running_engine
from tests.cluster.here import warnings
from tests.cluster.rig import HERE, Site, build_alone, context, run_site
from tests.cluster.test_builds import STAGES
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.needs import needs

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, needs_dask]

TWO = {"a": 2, "b": 2}
SCHEDULERS = int(os.environ.get("PYBUILD_CLUSTER_SCHEDULERS", "2"))
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
SAYS_WHO_IT_IS = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture(autouse=True)
def possible() -> None:
    skip_unless_possible()


@pytest.fixture
def engine() -> Generator[Engine]:
    with running_engine() as opened:
        yield opened


def test_claimed_steps_make_the_image_of_one_machine(tmp_path: Path, engine: Engine) -> None:
    """[A1]"""
    path = context(tmp_path / "ctx", STAGES, file="hi\n")

    async def work(site: Site) -> None:
        made = await site.build(path)
        alone = await build_alone(tmp_path / "alone", path)
        assert made.image is not None
        assert alone.image is not None
        assert made.image.digest == alone.image.digest
        assert all(any((w.root / "snapshots").iterdir()) for w in site.workers.values())

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def test_two_coordinators_run_each_step_once(tmp_path: Path, engine: Engine) -> None:
    """[A4]"""
    path = context(
        tmp_path / "ctx",
        "FROM base AS one\n"
        f"RUN {SAYS_WHO_IT_IS} && sleep 1\n"
        "FROM base AS two\n"
        f"RUN {SAYS_WHO_IT_IS} > /two && sleep 1 && cat /two\n"
        "FROM one\n"
        "COPY --from=two /two /two\n"
        f"RUN cat /two && {SAYS_WHO_IT_IS} && sleep 1\n",
    )

    async def work(site: Site) -> None:
        async with (
            PybuildEngine(Settings(root=str(tmp_path / "second"))) as other,
            Members((), Certificates(), engine.address, count=len(TWO)).clustered(other) as cluster,
        ):
            second = Site(other, cluster, site.workers)
            await asyncio.gather(site.build(path), second.build(path))
            assert len(UUID.findall(site.log)) == 4
            assert sorted(UUID.findall(site.log)) == sorted(UUID.findall(second.log))

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def test_steps_go_on_when_the_scheduler_dies(tmp_path: Path, engine: Engine) -> None:
    """[A3] None begins again; a step that comes meanwhile waits for the cluster to be back."""
    path = context(
        tmp_path / "ctx",
        f"FROM base\nRUN {SAYS_WHO_IT_IS} && sleep 4\nRUN {SAYS_WHO_IT_IS} && sleep 1\n",
    )

    async def work(site: Site) -> None:
        begun = asyncio.Event()
        dispatch = site.cluster.dispatch
        assert dispatch is not None
        task = asyncio.create_task(site.build(path, _at_log(begun)))
        await begun.wait()
        await asyncio.to_thread(engine.scheduler.kill)
        while dispatch.ready.is_set():
            await asyncio.sleep(0.01)
        await asyncio.to_thread(engine.again)
        await dispatch.ready.wait()
        await task
        assert len(UUID.findall(site.log)) == 2

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def test_no_step_begins_again_however_often_the_scheduler_dies(
    tmp_path: Path, engine: Engine
) -> None:
    """[A3] ``PYBUILD_CLUSTER_SCHEDULERS=20`` kills so many in one build."""
    held = "until [ -e /gate/open ]; do sleep 0.1; done"
    stages = "".join(
        f"FROM base AS s{one}\n"
        f"RUN --mount=type=cache,id=gate{one},target=/gate {SAYS_WHO_IT_IS} > /id; cat /id; {held}\n"
        for one in range(3)
    )
    copies = "".join(f"COPY --from=s{one} /id /id{one}\n" for one in range(3))
    path = context(tmp_path / "ctx", f"{stages}FROM base\n{copies}RUN {SAYS_WHO_IT_IS}\n")
    chance = random.Random(20)

    async def work(site: Site) -> None:
        dispatch = site.cluster.dispatch
        assert dispatch is not None
        task = asyncio.create_task(site.build(path))
        while len(UUID.findall(site.log)) < 3:
            await asyncio.sleep(0.01)
        for _ in range(SCHEDULERS):
            await asyncio.to_thread(engine.scheduler.kill)
            while dispatch.ready.is_set():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(engine.again)
            await dispatch.ready.wait()
            await asyncio.sleep(chance.uniform(0.0, 2.0))  # claims are being made again, or are
        assert not task.done()
        for worker in site.workers.values():
            for gate in (worker.root / "mounts").glob("*/fs"):
                (gate / "open").touch()
        await task
        assert len(UUID.findall(site.log)) == 4
        assert not warnings(site.events)

    limit_s = 240.0 + 30.0 * SCHEDULERS
    run_site(tmp_path / "store", TWO, work, scheduler=engine.address, limit_s=limit_s)


def test_workers_on_tcp_have_claims_of_a_scheduler_with_certificates(tmp_path: Path) -> None:
    """Each with the certificate of its role, and each worker by the address that it says."""
    tls = role_certificates(tmp_path / "cell")
    path = context(
        tmp_path / "ctx", f"FROM base\nRUN {SAYS_WHO_IT_IS} > /id && cat /id\nRUN cat /id\n"
    )

    async def work(site: Site) -> None:
        dispatch = site.cluster.dispatch
        assert dispatch is not None
        assert {one.address for one in site.cluster.fleet.workers} == {
            one.address for one in site.workers.values()
        }
        assert all(dispatch.knows(one.address) for one in site.workers.values())
        await site.build(path)
        assert len(set(UUID.findall(site.log))) == 1
        assert any(any((w.root / "snapshots").iterdir()) for w in site.workers.values())

    names = {"a": tls[Role.WORKER], "b": tls[Role.WORKER], HERE: tls[Role.COORDINATOR]}
    with running_engine(tls) as engine:
        run_site(tmp_path / "store", TWO, work, tls=names, scheduler=engine.address)


@needs("nft")
def test_a_step_goes_on_for_the_one_coordinator_when_the_other_leaves(
    tmp_path: Path, engine: Engine
) -> None:
    path = context(tmp_path / "ctx", f"FROM base\nRUN {SAYS_WHO_IT_IS} && sleep 4 && echo all\n")

    async def work(site: Site) -> None:
        async with (
            PybuildEngine(Settings(root=str(tmp_path / "second"))) as other,
            Members((), Certificates(), engine.address, count=len(TWO)).clustered(other) as cluster,
        ):
            second = Site(other, cluster, site.workers)
            begun, joined = asyncio.Event(), asyncio.Event()
            leaving = asyncio.create_task(site.build(path, _at_log(begun)))
            await begun.wait()
            staying = asyncio.create_task(second.build(path, _at_log(joined)))
            await joined.wait()
            leaving.cancel()
            await asyncio.wait([leaving])
            await staying
            assert UUID.findall(second.log) == UUID.findall(site.log)
            assert "all" in second.log
            assert "all" not in site.log

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def test_a_worker_that_dies_has_its_claimed_step_run_by_another_one(
    tmp_path: Path, engine: Engine
) -> None:
    """[A2]"""
    path = context(tmp_path / "ctx", f"FROM base\nRUN {SAYS_WHO_IT_IS} && sleep 2\n")

    async def work(site: Site) -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(site.build(path, _at_log(begun)))
        await begun.wait()
        [busy] = [worker for worker in site.cluster.fleet.workers if worker.busy]
        [dying] = [one for one in site.workers.values() if one.address == busy.address]
        await asyncio.to_thread(dying.kill)
        await task
        assert len(set(UUID.findall(site.log))) == 2
        assert any("which runs elsewhere: lost: " in text for text in warnings(site.events))

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def _at_log(seen: asyncio.Event) -> Callable[[Event], None]:
    def emit(event: Event) -> None:
        if isinstance(event, VertexLog):
            seen.set()

    return emit


def test_without_a_scheduler_steps_begin_after_a_while(tmp_path: Path, engine: Engine) -> None:
    path = context(tmp_path / "ctx", f"FROM base\nRUN {SAYS_WHO_IT_IS}\n")

    async def work(site: Site) -> None:
        dispatch = site.cluster.dispatch
        assert dispatch is not None
        await asyncio.to_thread(engine.scheduler.kill)
        while dispatch.ready.is_set():
            await asyncio.sleep(0.01)
        await site.build(path)
        assert len(UUID.findall(site.log)) == 1
        assert any(any((w.root / "snapshots").iterdir()) for w in site.workers.values())

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)


def test_with_a_silent_scheduler_steps_begin_after_a_while(tmp_path: Path, engine: Engine) -> None:
    """Its process is stopped, so nothing says that it has gone."""
    path = context(tmp_path / "ctx", f"FROM base\nRUN {SAYS_WHO_IT_IS}\n")

    async def work(site: Site) -> None:
        await asyncio.to_thread(engine.scheduler.signal, "STOP")
        await site.build(path)
        assert len(UUID.findall(site.log)) == 1

    run_site(tmp_path / "store", TWO, work, scheduler=engine.address)
