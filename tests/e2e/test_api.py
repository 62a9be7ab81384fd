"""The Python API: the same engine, typed, from any program [users-want 7]."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import pybuild as library
from pybuild.model.errors import StepError, UsageError, UserError
from pybuild.model.events import Event, VertexLog, VertexStarted
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def test_build_returns_the_image_and_tells_events(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nARG V=1\nRUN echo v=$V > /v\n")
    events: list[Event] = []
    result = library.build(
        context, tags=["lib:1"], build_args={"V": "7"}, root=pybuild.store, on_event=events.append
    )
    assert result.image is not None and not result.is_fully_cached
    assert result.names == ("docker.io/library/lib:1",)
    assert any(isinstance(event, VertexStarted) for event in events)
    assert pybuild("run", "lib:1", "cat", "/v").out == "v=7\n"
    again = library.build(context, tags=["lib:1"], build_args={"V": "7"}, root=pybuild.store)
    assert again.is_fully_cached
    assert again.image == result.image


def test_a_dockerfile_may_be_given_as_bytes(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", a="x\n")
    result = library.build(
        context,
        dockerfile=b"FROM base\nCOPY a /\n",
        outputs=[f"type=local,dest={tmp_path}/out"],
        root=pybuild.store,
    )
    assert (tmp_path / "out/a").read_text() == "x\n"
    assert result.image is None


def test_errors_are_exceptions_with_spans_status_and_log(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo words; exit 9\n")
    with pytest.raises(StepError) as caught:
        library.build(context, root=pybuild.store)
    assert caught.value.status == 9
    assert caught.value.log_tail == ("words",)
    assert caught.value.spans[0].first_line == 2
    for wrong in ({"tags": "app"}, {"outputs": "type=cacheonly"}, {"platforms": "linux/amd64"}):
        with pytest.raises(UsageError, match="expected a list of strings, got '"):
            library.build(context, root=pybuild.store, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown instruction"):
        library.build(context, dockerfile=b"FORM x\n", root=pybuild.store)
    with pytest.raises(UsageError, match="invalid reference"):
        library.build(context, tags=["Not Valid"], root=pybuild.store)


def test_it_works_in_a_thread_and_not_inside_a_loop(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN true\n")
    results: list[object] = []
    thread = threading.Thread(
        target=lambda: results.append(library.build(context, root=pybuild.store))
    )
    thread.start()
    thread.join(60)
    assert len(results) == 1

    async def inside() -> None:
        with pytest.raises(UsageError, match="await build_async"):
            library.build(context, root=pybuild.store)

    asyncio.run(inside())


def test_several_builds_in_one_loop_and_cancelling_one(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    slow = write(tmp_path / "slow", Dockerfile="FROM base\nRUN echo begun && sleep 6000\n")
    quick = write(tmp_path / "quick", Dockerfile="FROM base\nRUN echo quick > /q\n")

    async def both() -> None:
        begun = asyncio.Event()

        def watch(event: Event) -> None:
            if isinstance(event, VertexLog):
                begun.set()

        task = asyncio.create_task(library.build_async(slow, root=pybuild.store, on_event=watch))
        done = await library.build_async(quick, tags=["quick"], root=pybuild.store)
        assert done.image is not None
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(both(), 600))
    assert leftovers(pybuild.store) == []
    assert pybuild("run", "quick", "cat", "/q").out == "quick\n"


def test_builds_at_once_run_their_common_steps_once(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """KEY-14, between calls of the API; one of them is cancelled, which is nothing to the others."""
    text = (
        b"FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id && sleep 1\n"
        b"ARG N\nRUN echo $N > /n\n"
    )
    context = write(tmp_path / "ctx")

    async def build(number: int) -> str:
        out = tmp_path / f"out{number}"
        await library.build_async(
            context,
            dockerfile=text,
            build_args={"N": str(number)},
            outputs=[f"type=local,dest={out}"],
            root=pybuild.store,
        )
        assert (out / "n").read_text() == f"{number}\n"
        return (out / "id").read_text()

    async def all_of_them() -> list[str]:
        first = asyncio.create_task(build(0))
        others = [asyncio.create_task(build(number)) for number in range(1, 5)]
        await asyncio.sleep(0)  # all have asked for the engine, which nobody has yet
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await asyncio.gather(*others)

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert leftovers(pybuild.store) == []


def test_secrets_are_given_as_bytes(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    text = b"FROM base\nRUN --mount=type=secret,id=s,env=S echo ${#S} > /size\n"
    library.build(
        write(tmp_path / "ctx"),
        dockerfile=text,
        secrets={"s": b"12345"},
        outputs=[f"type=local,dest={tmp_path}/out"],
        root=pybuild.store,
    )
    assert (tmp_path / "out/size").read_text() == "5\n"


def test_two_platforms_make_an_index(pybuild: Pybuild, tmp_path: Path) -> None:
    """OUT-13: nothing runs in these stages, so no emulator is needed."""
    context = write(
        tmp_path / "ctx", Dockerfile="FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n",
        amd64="a", arm64="b",
    )  # fmt: skip
    result = library.build(
        context, platforms=["linux/amd64", "linux/arm64"], tags=["multi"], root=pybuild.store
    )
    assert result.image is not None
    assert result.image.media_type.endswith("index.v1+json")
    assert pybuild("inspect", "--check", "multi").code == 0


def test_an_image_is_loaded_beside_another_output(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo x > /x\n")
    library.build(
        context,
        tags=["loaded:1"],
        outputs=[f"type=local,dest={tmp_path}/out"],
        load=True,
        root=pybuild.store,
    )
    assert (tmp_path / "out/x").read_text() == "x\n"
    assert pybuild("run", "loaded:1", "cat", "/x").out == "x\n"
