"""Commands on one store that want the same step at the same time: it runs once [KEY-14]."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pybuild.solver.telling import WAITING
from tests.daemon.buildsites import daemon
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

CACHE = "--mount=type=cache,id=runs,target=/runs"
# Says that it runs, then waits to be let go.
STEP = "echo {0} >> /runs/ran; while [ ! -e /runs/go-{0} ]; do sleep 0.05; done; echo {0} > /{0}"


class Desk:
    """Builds that go on at the same time on one store, and what their steps left in a cache mount."""

    def __init__(self, pybuild: Pybuild, where: Path, stack: ExitStack) -> None:
        self.pybuild = pybuild
        self._where = where
        self._stack = stack
        self._started = 0
        # The cache is there before anybody wants it.
        seed = write(where / "seed", Dockerfile=f"FROM base\nRUN {CACHE} : > /runs/ran\n")
        pybuild("build", seed)
        (self._runs,) = [path.parent for path in pybuild.store.glob("mounts/*/fs/ran")]

    @property
    def ran(self) -> list[str]:
        """The steps that have begun to run, in this order."""
        return (self._runs / "ran").read_text().split()

    def let_go(self, *steps: str) -> None:
        for step in steps:
            (self._runs / f"go-{step}").touch()

    def start(self, context: Path, *words: str) -> Build:
        self._started += 1
        log = self._where / f"log-{self._started}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.pybuild.command(*(words or ("build",)), "--progress", "plain", context),
                env=self.pybuild.environment,
                stdout=out,
                stderr=out,
            )
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.kill)
        return Build(process, log)


class Build:
    """A build that goes on."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def waits(self) -> bool:
        """Whether it has said that it waits for another build."""
        return WAITING in self.said

    def end(self, code: int = 0) -> str:
        """Wait for the end and return what it said."""
        assert self.process.wait(100) == code, self.said
        return self.said


@pytest.fixture
def desk(pybuild: Pybuild, base: str, tmp_path: Path) -> Generator[Desk]:
    assert base
    with ExitStack() as stack:
        yield Desk(pybuild, tmp_path, stack)


def steps(*names: str) -> str:
    return "".join(f"RUN {CACHE} {STEP.format(name)}\n" for name in names)


def test_of_four_commands_one_runs_the_step_and_three_wait(desk: Desk, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nCOPY f /\n" + steps("one"), f="1")
    first = desk.start(context)
    wait_until(lambda: desk.ran == ["one"])
    others = [desk.start(context) for _ in range(3)]
    wait_until(lambda: all(other.waits for other in others))
    assert desk.ran == ["one"]
    desk.let_go("one")
    assert "CACHED" not in first.end().partition("RUN")[2]
    for other in others:
        said = other.end()
        assert f"{WAITING} done" in said
        assert "CACHED" in said.partition(f"{WAITING} done")[2]
    assert desk.ran == ["one"]


def test_commands_that_start_together_run_each_step_once(desk: Desk, tmp_path: Path) -> None:
    """Of a graph with two ways, which each command may go in another order."""
    text = (
        "FROM base AS a\nCOPY f /\n" + steps("a1", "a2") + "FROM base AS b\n" + steps("b1", "b2")
        + "FROM base\nCOPY --from=a /a2 /\nCOPY --from=b /b2 /\n" + steps("last")
    )  # fmt: skip
    context = write(tmp_path / "c", Dockerfile=text, f="1")
    desk.let_go("a1", "a2", "b1", "b2", "last")
    for build in [desk.start(context) for _ in range(4)]:
        build.end()
    assert sorted(desk.ran) == ["a1", "a2", "b1", "b2", "last"]


def test_who_waits_has_no_place_among_the_steps(desk: Desk, tmp_path: Path) -> None:
    """With one place, what nobody else runs goes on beside the step that is waited for."""
    shared = "FROM base AS shared\n" + steps("shared")
    both = (
        shared + "FROM base AS own\n" + steps("own")
        + "FROM base\nCOPY --from=shared /shared /\nCOPY --from=own /own /\n"
    )  # fmt: skip
    first = desk.start(write(tmp_path / "one", Dockerfile=shared))
    wait_until(lambda: desk.ran == ["shared"])
    config = tmp_path / "config.toml"
    config.write_text("[worker.oci]\nmax-parallelism = 1\n")
    desk.pybuild = Pybuild(desk.pybuild.store, config)
    desk.let_go("own")
    second = desk.start(write(tmp_path / "two", Dockerfile=both))
    wait_until(lambda: second.waits and desk.ran == ["shared", "own"])
    desk.let_go("shared")
    first.end()
    second.end()
    assert desk.ran == ["shared", "own"]


def test_what_a_killed_command_was_running_is_run_by_who_waits(desk: Desk, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\n" + steps("one"))
    first = desk.start(context)
    wait_until(lambda: desk.ran == ["one"])
    second = desk.start(context)
    wait_until(lambda: second.waits)
    first.process.kill()
    wait_until(lambda: desk.ran == ["one", "one"])
    desk.let_go("one")
    assert "CACHED" not in second.end().partition(WAITING)[2]


def test_what_failed_is_run_by_who_waits(desk: Desk, tmp_path: Path) -> None:
    """A failure is stored for nobody [KEY-15]."""
    step = f"RUN {CACHE} {STEP.format('one')}; exit 3\n"
    context = write(tmp_path / "c", Dockerfile="FROM base\n" + step)
    first = desk.start(context)
    wait_until(lambda: desk.ran == ["one"])
    second = desk.start(context)
    wait_until(lambda: second.waits)
    desk.let_go("one")
    for build in (first, second):
        assert "exit code: 3" in build.end(1)
    assert desk.ran == ["one", "one"]


def test_who_waits_can_be_interrupted(desk: Desk, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\n" + steps("one"))
    first = desk.start(context)
    wait_until(lambda: desk.ran == ["one"])
    second = desk.start(context)
    wait_until(lambda: second.waits)
    second.process.send_signal(signal.SIGINT)
    second.end(130)
    desk.let_go("one")
    first.end()
    assert desk.ran == ["one"]


def test_without_the_cache_nobody_waits(desk: Desk, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\n" + steps("one"))
    first = desk.start(context)
    wait_until(lambda: desk.ran == ["one"])
    second = desk.start(context, "build", "--no-cache")
    wait_until(lambda: desk.ran == ["one", "one"])
    desk.let_go("one")
    first.end()
    assert WAITING not in second.end()


@pytest.mark.root
def test_a_command_waits_for_a_daemon_and_a_daemon_for_a_command(
    desk: Desk, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    context = write(tmp_path / "c", Dockerfile="FROM base\n" + steps("one"))
    other = write(tmp_path / "o", Dockerfile="FROM base\n" + steps("two"))
    layout = tmp_path / "layout"
    plain = write(tmp_path / "plain", Dockerfile="FROM base\n")
    desk.pybuild("build", "-o", f"type=oci,tar=false,dest={layout}", plain)
    near = ("build", "--build-context", f"base=oci-layout://{layout}")
    with daemon(desk.pybuild, tmp_path) as server:
        far = ("-H", server.address, *near)
        served = desk.start(context, *far)
        wait_until(lambda: desk.ran == ["one"])
        here = desk.start(context, *near)
        wait_until(lambda: here.waits)
        desk.let_go("one")
        served.end()
        here.end()
        here = desk.start(other, *near)
        wait_until(lambda: desk.ran == ["one", "two"])
        served = desk.start(other, *far)
        # What waits is told there when it is over, as everything that is counted.
        desk.let_go("two")
        here.end()
        served.end()
    assert desk.ran == ["one", "two"]
