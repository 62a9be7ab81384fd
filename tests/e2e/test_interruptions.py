"""Builds that are told to end: cleanly by the first signal, whatever comes after it, at once by the third."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_FORCED = "got 3 SIGTERM/SIGINTs, forcefully exiting"
_WAYS = (
    (signal.SIGHUP,),
    (signal.SIGTERM,),
    (signal.SIGINT,),
    (signal.SIGINT, signal.SIGINT),
)
each_way = pytest.mark.parametrize("numbers", _WAYS, ids=lambda way: "-".join(n.name for n in way))


def ended(
    pybuild: Pybuild, base: str, context: Path, *numbers: signal.Signals, ignoring: str = ""
) -> tuple[int, str]:
    """Send signals to a build whose step is up; return its status and the rest that it said."""
    write(context, Dockerfile=f"FROM {base}\nRUN echo it is up; sleep 300\n")
    trap = f"trap '' {ignoring}; " if ignoring else ""
    with subprocess.Popen(
        ["sh", "-c", f'{trap}exec "$@"', "sh", *pybuild.command("build", "--no-cache", context)],
        env=pybuild.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.endswith(" it is up\n"):
                    break
            for number in numbers:
                process.send_signal(number)
            said = process.stderr.read()
            return process.wait(timeout=60), said
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_cancels_a_build(
    pybuild: Pybuild, base: str, tmp_path: Path, number: signal.Signals
) -> None:
    status, said = ended(pybuild, base, tmp_path / "c", number)
    assert status == 128 + number
    assert "#4 CANCELED\n" in said and said.endswith("\n\nerror: context canceled\n")
    assert leftovers(pybuild.store) == []


def test_a_second_signal_changes_nothing(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    status, said = ended(pybuild, base, tmp_path / "c", signal.SIGINT, signal.SIGTERM)
    assert status in {130, 143}  # both may be there when it looks
    assert "#4 CANCELED\n" in said and said.endswith("\n\nerror: context canceled\n")


def test_signals_without_end_force_it(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """It may have ended by the first of them before the last came."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    status, said = ended(pybuild, base, tmp_path / "c", *numbers)
    assert status in {128 + number for number in numbers}
    assert said.rstrip().endswith(("error: context canceled", _FORCED))
    assert "Traceback" not in said


def test_what_nohup_ignores_stays_ignored(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    numbers = [signal.SIGHUP, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]
    status, said = ended(pybuild, base, tmp_path / "c", *numbers, ignoring="HUP")
    assert (status, said.endswith("error: context canceled\n")) == (143, True)


def ended_by(
    pybuild: Pybuild,
    words: Sequence[str],
    numbers: Sequence[signal.Signals],
    at_work: Callable[[subprocess.Popen[bytes]], None],
    temporary: Path,
) -> tuple[int, str]:
    """Send signals to a command as soon as it is at work; return its status and its last line."""
    temporary.mkdir()
    with subprocess.Popen(
        pybuild.command(*words),
        env={**pybuild.environment, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        try:
            at_work(process)
            for number in numbers:
                process.send_signal(number)
            said = process.stderr.read().decode()
            return process.wait(timeout=60), said.splitlines()[-1]
        finally:
            process.kill()


def until(there: Callable[[], object]) -> None:
    """Wait for something that comes."""
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@each_way
def test_a_load_leaves_nothing_of_what_it_has_read(
    pybuild: Pybuild, tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    def at_work(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.write(b"x" * 4096)
        process.stdin.flush()
        until(lambda: list(pybuild.store.rglob("stdin")))

    done = ended_by(pybuild, ("load",), numbers, at_work, tmp_path / "t")
    assert done == (128 + numbers[0], "canceled")
    assert not list(pybuild.store.rglob("stdin"))


@each_way
def test_an_import_leaves_no_copy_of_what_it_has_read(
    pybuild: Pybuild, tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    temporary = tmp_path / "t"

    def at_work(process: subprocess.Popen[bytes]) -> None:
        until(lambda: list(temporary.rglob("rootfs.tar")))

    done = ended_by(pybuild, ("import", "-", "a:1"), numbers, at_work, temporary)
    assert done == (128 + numbers[0], "canceled")
    assert not list(temporary.iterdir())
    assert pybuild("images", "-q").out == ""


@each_way
def test_a_save_is_cancelled_while_nobody_reads(
    pybuild: Pybuild, base: str, tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:

        def at_work(process: subprocess.Popen[bytes]) -> None:
            assert select.select([reader], [], [], 60)[0]

        done = ended_by(pybuild, ("save", base, "-o", str(pipe)), numbers, at_work, tmp_path / "t")
    assert done == (128 + numbers[0], "canceled")


@pytest.mark.parametrize("command", ["push", "pull"])
@each_way
def test_a_registry_that_never_answers_is_left(
    pybuild: Pybuild, base: str, tmp_path: Path, command: str, numbers: tuple[signal.Signals, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"127.0.0.1:{server.getsockname()[1]}/a:1"
        server.settimeout(60)
        pybuild("tag", base, name)
        connections = ExitStack()

        def at_work(process: subprocess.Popen[bytes]) -> None:
            connections.enter_context(server.accept()[0])

        with connections:
            done = ended_by(pybuild, (command, name), numbers, at_work, tmp_path / "t")
    assert done == (128 + numbers[0], "error: context canceled")


def test_an_output_file_that_is_not_whole_does_not_get_its_name(tmp_path: Path) -> None:
    program = (
        "import signal, sys\n"
        "from pybuild.engine.interruptible import ended_by_signals\n"
        "from pybuild.exporter.atomicfile import whole_file\n"
        "with ended_by_signals(), whole_file(sys.argv[1]) as fd:\n"
        "    print('it is open', flush=True); signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(tmp_path / "image.tar")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"it is open\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [("KeyboardInterrupt()", 130, "canceled"), ("OSError('out of order')", 4, "out of order")],
)
def test_a_signal_that_comes_while_the_end_is_told_changes_nothing(
    error: str, status: int, told: str
) -> None:
    program = (
        "import os, sys\n"
        "from pybuild import cli\n"
        "class Told:\n"
        "    def write(self, text):\n"
        "        os.kill(os.getpid(), 2)\n"
        "        return sys.__stderr__.write(text)\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(sys.__stderr__, name)\n"
        f"def dispatch(words):\n    raise {error}\n"
        "cli._dispatch, sys.stderr, sys.argv = dispatch, Told(), ['pybuild', 'images']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, told in done.stderr) == (status, True)
    assert "KeyboardInterrupt" not in done.stderr
