"""Builds whose steps run on several workers: same image, logs, errors, secrets, cancellation, deaths."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pybuild.engine.host import native_platform
from pybuild.model.errors import StepError, UserError, unwrap
from pybuild.model.events import (
    PULLING,
    BuildWarning,
    Event,
    VertexAdded,
    VertexLog,
    VertexProgress,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.cluster.rig import Site, build_alone, context, run_site
from tests.executor.sandbox_helpers import processes_with, skip_unless_possible
from tests.needs import needs

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

TWO = {"a": 2, "b": 2}
STAGES = """\
FROM base AS one
RUN echo one > /one
FROM base AS two
RUN mkdir /d && echo two > /d/two && chmod 700 /d && ln /d/two /d/too
FROM base AS three
COPY file /file
RUN --mount=type=bind,target=/ctx cat /ctx/file /file > /three
FROM base
COPY --from=one /one /one
COPY --from=two /d /d
COPY --from=three /three /three
RUN cat /one /d/two /three > /all && rm /one /d/too && cat /all
"""


@pytest.fixture(autouse=True)
def possible() -> None:
    skip_unless_possible()


def test_stages_of_several_workers_make_the_image_of_one_machine(tmp_path: Path) -> None:
    path = context(tmp_path / "ctx", STAGES, file="hi\n")

    async def work(site: Site) -> None:
        made = await site.build(path)
        alone = await build_alone(tmp_path / "alone", path)
        assert made.image is not None
        assert alone.image is not None
        assert made.image.digest == alone.image.digest
        assert "one\ntwo\nhi\nhi\n" in site.log
        pauses = [e.done for e in site.events if isinstance(e, VertexProgress) and e.id == PULLING]
        assert pauses.count(True) == pauses.count(False) > 0
        # Nothing of a step was made here but the copies of the client's files.
        assert all(any((w.root / "snapshots").iterdir()) for w in site.workers.values())
        site.events.clear()
        again = await site.build(path)
        assert again.image == made.image
        assert site.log == ""

    run_site(tmp_path / "store", TWO, work)


@needs("nft")
def test_a_step_that_fails_says_what_it_wrote(tmp_path: Path) -> None:
    path = context(tmp_path / "ctx", "FROM base\nRUN echo so && exit 3\n")

    async def work(site: Site) -> None:
        with pytest.raises((StepError, ExceptionGroup)) as caught:
            await site.build(path)
        error = unwrap(caught.value)
        assert isinstance(error, StepError)
        assert (error.status, error.log_tail, error.line) == (3, ("so",), 5)
        assert error.step == "[stage-1 1/1] RUN echo so && exit 3"
        assert site.log == "so\n"

    run_site(tmp_path / "store", TWO, work)


def test_a_missing_source_is_missed_where_the_tree_is(tmp_path: Path) -> None:
    path = context(
        tmp_path / "ctx", "FROM base AS a\nRUN echo > /x\nFROM base\nCOPY --from=a /y /\n"
    )

    async def work(site: Site) -> None:
        with pytest.raises((UserError, ExceptionGroup)) as caught:
            await site.build(path)
        assert str(unwrap(caught.value)) == '"/y" is not in stage a'

    run_site(tmp_path / "store", TWO, work)


def test_a_step_gets_its_secret_and_nobody_keeps_it(tmp_path: Path) -> None:
    from functools import partial

    from pybuild.builds.request import Secret

    value = b"s3cr3t-0123456789"
    path = context(
        tmp_path / "ctx",
        "FROM base\nRUN --mount=type=secret,id=key test -f /run/secrets/key && "
        "cat /run/secrets/key | busybox wc -c && busybox grep -q s3cr3t /run/secrets/key\n",
    )

    async def work(site: Site) -> None:
        secret = Secret(id="key", read=partial(bytes, value))
        await site.build(path, secrets={"key": secret})
        assert "17" in site.log
        for worker in site.workers.values():
            for file in worker.root.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    assert value not in file.read_bytes(), file
            assert value.decode() not in worker.said()

    run_site(tmp_path / "store", TWO, work)


def test_a_build_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    path = context(tmp_path / "ctx", "FROM base\nRUN echo begun && exec sleep 987.125\n")

    async def work(site: Site) -> None:
        begun = asyncio.Event()

        def emit(event: Event) -> None:
            if isinstance(event, VertexLog):
                begun.set()

        task = asyncio.create_task(site.build(path, emit))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while processes_with("987.125"):
            await asyncio.sleep(0.01)
        assert sum(worker.busy for worker in site.cluster.fleet.workers) == 0

    run_site(tmp_path / "store", TWO, work)


def test_a_step_whose_worker_dies_runs_on_another_one(tmp_path: Path) -> None:
    path = context(
        tmp_path / "ctx",
        "FROM base\nRUN echo kept > /kept\nRUN echo begun && sleep 2 && cat /kept\n",
    )

    async def work(site: Site) -> None:
        killed: list[str] = []

        def emit(event: Event) -> None:
            if isinstance(event, VertexLog) and b"begun" in event.data and not killed:
                [busy] = [one for one in site.cluster.fleet.workers if one.busy]
                worker = next(w for w in site.workers.values() if w.address == busy.address)
                killed.append(worker.address)
                worker.kill()

        made = await site.build(path, emit)
        alone = await build_alone(tmp_path / "alone", path)
        assert len(killed) == 1
        assert made.image == alone.image
        assert site.log.count("begun") == 2
        assert site.log.endswith("kept\n")
        warnings = [e.message for e in site.events if isinstance(e, BuildWarning)]
        assert any(killed[0] in text and ": lost: " in text for text in warnings)

    run_site(tmp_path / "store", TWO, work)


def test_without_any_worker_steps_run_here(tmp_path: Path) -> None:
    path = context(tmp_path / "ctx", "FROM base\nRUN echo here\n")

    async def work(site: Site) -> None:
        await site.build(path)
        assert site.log.endswith("here\n")

    run_site(tmp_path / "store", {}, work)


@pytest.mark.skipif(native_platform() != LINUX_AMD64, reason="its programs run for linux/386, too")
def test_each_platform_of_an_image_is_made_by_workers_that_are_one(tmp_path: Path) -> None:
    """One command, one index: none of the two workers runs a step of the other platform."""
    path = context(tmp_path / "ctx", "FROM base\nRUN echo hi > /a\nRUN cat /a\n")
    platforms = (LINUX_AMD64, Platform("linux", "386"))
    words = {"a": ("--platform", "linux/amd64"), "b": ("--platform", "linux/386")}

    async def work(site: Site) -> None:
        made = await site.build(path, platforms=platforms)
        assert made.image is not None
        names = {one.vertex: one.name for one in site.events if isinstance(one, VertexAdded)}
        ran = {
            (names[one.vertex].split()[0], one.id)
            for one in site.events
            if isinstance(one, VertexProgress) and one.id.startswith("worker ")
            if "RUN" in names[one.vertex]
        }
        assert ran == {("[linux/amd64", "worker a"), ("[linux/386", "worker b")}
        alone = await build_alone(tmp_path / "alone", path, platforms=platforms)
        assert made.image == alone.image

    run_site(tmp_path / "store", TWO, work, words=words)
