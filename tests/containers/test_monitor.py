"""A monitor of a container that runs, as its callers see it [MON-5, MON-6, ENG-34].

It has adopted the container, whose process the test has started: nothing is mounted for it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.keeping import CALLS, TERMINAL
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import LOCK, ExecOrder, RestartPolicy, StreamAttachment
from pybuild.containers.state import EXITED, RUNNING, STATUS_UNKNOWN
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.border import packed
from tests.containers.adoptions import (
    Make,
    adopted_container,
    attached,
    hear,
    say,
)

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

LASTING = "exec sleep 1000"
DEAF = "trap '' TERM; echo deaf; read x"


@pytest.fixture
def make(tmp_path: Path) -> Generator[Make]:
    """Return a function that returns a container whose process runs a script."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(adopted_container(tmp_path / "store", script))


def heard_until_end(line: LocalLine) -> list[Any]:
    heard: list[Any] = []
    while (message := hear(line)) is not None:
        heard.append(message)
    return heard


def test_input_is_handed_on_and_ends_and_output_is_heard(make: Make) -> None:
    one = make("cat; echo err >&2; exit 3")
    one.adopt(stdin_once=True)
    with attached(one) as line, attached(one, StreamAttachment(stdout=False)) as other:
        say(line, "input", b"one\n")
        assert sorted((hear(line), hear(line))) == [("output", 1, b"one\n"), ("taken",)]
        say(line, "eof")
        assert heard_until_end(line) == [("output", 2, b"err\n"), ("ended", 3)]
        assert heard_until_end(other) == [("output", 2, b"err\n"), ("ended", 3)]
    state = one.ended()
    assert (state.status, state.pid, state.exit_code) == (EXITED, 0, 3)
    assert (state.stopped, state.restarts, state.error) == (False, 0, "")
    assert one.log() == [("stdout", "one\n"), ("stderr", "err\n")]
    attach, another, die = one.events()
    assert attach == another == ("attach", {})
    assert die == ("die", {"exitCode": "3", "execDuration": "0"})


def test_one_that_only_waits_is_not_attached(make: Make) -> None:
    one = make(LASTING)
    one.adopt()
    neither = StreamAttachment(stdout=False, stderr=False)
    with attached(one, neither) as line, one.line() as waiting, one.line() as gone:
        say(gone, "wait")
        say(waiting, "wait")
        gone.close()
        assert one.ask("kill", 15) == ("done", [])
        assert heard_until_end(waiting) == heard_until_end(line) == [("ended", 143)]
    state = one.ended()
    assert (state.status, state.exit_code, state.stopped) == (EXITED, 143, True)
    assert [action for action, _ in one.events()] == ["kill", "die"]
    assert one.events()[0] == ("kill", {"signal": "15"})


def test_who_lives_holds_the_lock_and_is_started_once(make: Make) -> None:
    one = make(LASTING)
    one.adopt()
    with one.line() as waiting, (one.home / LOCK).open("a") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        say(waiting, "wait")
        assert one.ask("kill", 9)[0] == "done"
        assert hear(waiting) == ("ended", 137)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who has heard it may start it again
    assert one.ended().exit_code == 137


@pytest.mark.parametrize("word", ["stop", "restart"])
def test_one_that_does_not_end_by_itself_is_killed(make: Make, word: str) -> None:
    one = make(DEAF)
    with one.adopt_attached(StreamAttachment(removes=True)) as line:
        assert hear(line) == ("output", 1, b"deaf\n")
        with one.line() as caller:
            say(caller, word, 15, 0.02)
            end = "kept" if word == "restart" else "ended"
            assert heard_until_end(line) == [(end, 137)]
    state = one.ended()
    assert (state.stopped, state.kill_at, state.unsent, state.exit_code) == (True, 0.0, 0, 137)
    actions = [action for action, _ in one.events()]
    assert actions == ["attach", "kill", "kill", "die", "stop"]
    assert [more["signal"] for action, more in one.events() if action == "kill"] == ["15", "9"]


def test_without_a_time_it_is_not_killed(make: Make) -> None:
    one = make(DEAF)
    with one.adopt_attached() as line:
        hear(line)
        with one.line() as caller:
            say(caller, "stop", 15, -1.0)
            say(caller, "update", packed(StepLimits()), None)
            assert hear(caller) == ("done", [])
        state = one.known()
        assert (state.status, state.kill_at, state.stopped) == (RUNNING, 0.0, True)
        one.process.kill()
        assert heard_until_end(line) == [("ended", 137)]
    assert one.ended().stopped
    assert [action for action, _ in one.events()] == ["attach", "kill", "die", "stop"]


def test_a_signal_of_another_kind_stops_nothing_for_good(make: Make) -> None:
    one = make("trap 'exit 4' USR1; echo up; read x")
    with one.adopt_attached(stop_signal=9) as line:
        assert hear(line) == ("output", 1, b"up\n")
        say(line, "signal", 10)
        assert heard_until_end(line) == [("ended", 4)]
    assert not one.ended().stopped


@pytest.mark.parametrize("signal", [9, 12])
def test_its_own_stop_signal_stops_it_for_good(make: Make, signal: int) -> None:
    one = make(LASTING)  # SIGQUIT may be ignored, where a shell has all of this in its background
    one.adopt(stop_signal=12, restart=RestartPolicy("always"))
    with attached(one) as line:
        say(line, "signal", signal)
        assert heard_until_end(line) == [("ended", 128 + signal)]
    state = one.ended()
    assert (state.status, state.stopped, state.unsent) == (EXITED, True, 0)


def test_what_cannot_be_done_is_refused(make: Make) -> None:
    one = make(LASTING)
    one.adopt()
    with one.line() as line:
        for message, fault in (
            (("nonsense", 1), ("user", "unknown request: nonsense")),
            (("unpause",), ("user", f"container {one.order.id} is not paused")),
            (
                ("pause",),
                (
                    "environment",
                    "container abababababab cannot be paused: it has no cgroup with a freezer here",
                ),
            ),
            (
                ("attach", (*packed(StreamAttachment()), 1)),
                (
                    "environment",
                    "containers of this store run under another version of pybuild",
                ),
            ),
            (
                ("exec", packed(ExecOrder(("true",)))),
                ("user", "the container has ended"),  # it has no child inside
            ),
        ):
            say(line, *message)
            answer = hear(line)
            assert (answer[0], answer[1:3]) == ("fault", fault)
        say(line, "execute", {})
        assert hear(line)[0] in ("unable", "fault")
        say(line, "processes")
        word, numbers = hear(line)
        assert word == "done" and one.process.pid in numbers and os.getpid() in numbers
    assert one.known().status == RUNNING
    assert not one.journal.exists()


def test_a_terminal_has_the_size_that_is_said(make: Make) -> None:
    one = make(LASTING)
    ours, slave = os.openpty()
    one.adopt({TERMINAL: ours})
    with attached(one) as line:
        say(line, "size", 10, 10)
        assert hear(line)[0] == "done"  # said when it has that size
        size = fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8))
        assert struct.unpack("HHHH", size)[:2] == (10, 10)
    with attached(one) as line:
        say(line, "resize", 20, 30)
        say(line, "processes")
        assert hear(line)[0] == "done"
        os.write(slave, b"shown\n")
        assert hear(line) == ("output", 1, b"shown\r\n")
        size = fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8))
        assert struct.unpack("HHHH", size)[:2] == (20, 30)
        assert one.events()[-1] == ("resize", {"height": "20", "width": "30"})
        say(line, "input", b"typed\n")
        assert os.read(slave, 9) == b"typed\n"
    os.close(slave)
    os.close(ours)


def test_the_spawner_keeps_its_input_until_it_ends(make: Make) -> None:
    one = make(LASTING)
    one.adopt(stdin_once=True)
    with attached(one) as line:
        say(line, "eof")
        assert one.kept() == ["keep", one.process.pid, []]
        say(line, "signal", 9)
        heard_until_end(line)
    assert one.kept() == ["drop"]
    one.ended()


def test_the_policy_of_now_decides(make: Make) -> None:
    one = make(LASTING)
    one.adopt(restart=RestartPolicy("always"))
    assert one.ask("update", packed(StepLimits()), packed(RestartPolicy("no"))) == ("done", [])
    one.process.kill()
    state = one.ended()
    assert (state.status, state.exit_code, state.restarts) == (EXITED, 137, 0)


def test_one_that_waits_to_be_started_again_can_be_stopped(make: Make) -> None:
    one = make("exit 5")
    one.adopt(restart=RestartPolicy("on-failure"))
    with one.line() as line:
        while one.known().status == RUNNING:
            time.sleep(0.001)
        assert (one.known().status, one.known().exit_code) == ("restarting", 5)
        say(line, "pause")
        assert hear(line)[2] == "container abababababab is restarting, wait until it is running"
        say(line, "wait")
        say(line, "stop", 15, 10.0)
        assert hear(line) == ("ended", 5)
    state = one.ended()
    assert (state.status, state.exit_code, state.stopped) == (EXITED, 5, True)


# --- adoption -------------------------------------------------------------------------------------


def test_another_of_its_number_is_not_taken_for_it(make: Make) -> None:
    one = make(LASTING)
    one.state = one.state._replace(born=one.state.born + 1)
    one.adopt()
    state = one.ended()
    assert (state.status, state.exit_code, state.pid) == (EXITED, STATUS_UNKNOWN, 0)
    assert one.process.poll() is None


def test_nothing_of_another_boot_runs(make: Make) -> None:
    one = make(LASTING)
    one.state = one.state._replace(boot="another")
    one.adopt(status=7)
    assert one.ended().exit_code == 7
    assert one.process.poll() is None


def test_a_signal_that_was_not_sent_is_sent(make: Make) -> None:
    one = make(LASTING)
    one.state = one.state._replace(unsent=15, stopped=True)
    one.adopt(restart=RestartPolicy("always"))
    state = one.ended()
    assert (state.status, state.exit_code, state.unsent) == (EXITED, 143, 0)


def test_one_whose_time_is_up_is_killed(make: Make) -> None:
    one = make(LASTING)
    one.state = one.state._replace(kill_at=time.monotonic() + 0.01, stopped=True)
    one.adopt()
    assert one.ended().exit_code == 137
    assert [more for action, more in one.events() if action == "kill"] == [{"signal": "9"}]


def test_one_that_sleeps_wakes_for_a_call(make: Make) -> None:
    one = make(LASTING)
    listener = one.listen()
    one.adopt({CALLS: listener}, dozes=True)
    os.close(listener)
    assert one.ask("kill", 15) == ("done", [])
    assert one.ended().exit_code == 143


def test_one_that_sleeps_wakes_for_the_end(make: Make) -> None:
    one = make(LASTING)
    one.adopt(dozes=True)
    one.process.kill()
    assert one.ended().exit_code == 137
