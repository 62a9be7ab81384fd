"""Our standard streams at a process: what is typed, shown, and done with signals [ENG-34, ENG-36]."""

from __future__ import annotations

import fcntl
import marshal
import os
import signal
import struct
import termios
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from pybuild.containers.attaching import Attached, Unable, terminal_size
from pybuild.containers.lines import LocalLine
from pybuild.containers.starting import NotExecuted
from pybuild.model.errors import EnvironmentFault, UserError
from tests.watchdog import ends

Say = Callable[[LocalLine], None]


@pytest.fixture
def stdin() -> Generator[Callable[[int], None]]:
    """Make a descriptor our standard input for the test."""
    before = os.dup(0)
    yield lambda fd: void(os.dup2(fd, 0))
    os.dup2(before, 0)
    os.close(before)


def void(_value: object) -> None:
    """Return nothing."""


def said(line: LocalLine) -> tuple[Any, ...]:
    known: tuple[Any, ...] = marshal.loads(line.recv(1 << 18))
    return known


def say(line: LocalLine, *message: Any) -> None:
    line.send(marshal.dumps(message))


def follow(monitor: Say, **options: Any) -> tuple[int | None, Attached]:
    """Follow a process whose monitor says and hears, in a thread, what a test does."""
    given: dict[str, Any] = {"stdin": False, "terminal": False, "keys": None, "proxies": False}
    ours, theirs = LocalLine.pair()
    theirs.settimeout(60)
    with ours, theirs, ends():
        thread = threading.Thread(target=monitor, args=(theirs,))
        thread.start()
        attached = Attached(ours, **{**given, **options})
        try:
            return attached.follow(), attached
        finally:
            thread.join()


def raised(*message: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        follow(lambda line: say(line, *message))
    return caught.value


@pytest.mark.parametrize(
    ("message", "status", "is_kept"),
    [(("ended", 3), 3, False), (("kept", 4), 4, True), (("done", ()), 0, False)],
)
def test_the_end_of_a_process_ends_it(message: tuple[Any, ...], status: int, is_kept: bool) -> None:
    known, attached = follow(lambda line: say(line, *message))
    assert (known, attached.is_kept) == (status, is_kept)


def test_output_is_shown_where_it_belongs(capfd: pytest.CaptureFixture[str]) -> None:
    def monitor(line: LocalLine) -> None:
        say(line, "output", 1, b"out\n")
        say(line, "output", 2, b"err\n")
        say(line, "word that later versions have")
        say(line, "ended", 0)

    assert follow(monitor)[0] == 0
    assert capfd.readouterr() == ("out\n", "err\n")


def test_a_program_that_cannot_be_executed_is_an_error_with_its_status() -> None:
    error = raised("unexecuted", 127, "no such file")
    assert isinstance(error, NotExecuted)
    assert (error.message, error.status) == ("no such file", 127)


def test_a_fault_of_the_monitor_is_raised_here() -> None:
    error = raised("fault", "user", "container web is paused", ("pybuild unpause lets it go on",))
    assert isinstance(error, UserError)
    assert error.message == "container web is paused"
    assert tuple(error.hints) == ("pybuild unpause lets it go on",)


def test_one_that_does_not_run_is_no_place_to_execute_anything() -> None:
    assert isinstance(raised("unable"), Unable)


def test_a_monitor_that_has_gone_is_an_error() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        follow(lambda line: line.close())
    assert caught.value.message == "the container's monitor has gone"
    assert tuple(caught.value.hints) == ("pybuild ps -a shows what became of it",)


def test_what_is_typed_is_handed_on_to_its_end(stdin: Callable[[int], None]) -> None:
    read_end, write_end = os.pipe()
    stdin(read_end)
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        os.write(write_end, b"typed")
        heard.append(said(line))
        os.close(write_end)
        heard.append(said(line))
        say(line, "ended", 0)

    assert follow(monitor, stdin=True)[0] == 0
    assert heard == [("input", b"typed"), ("eof",)]
    os.close(read_end)


def test_no_more_is_read_than_the_process_takes(stdin: Callable[[int], None]) -> None:
    read_end, write_end = os.pipe()
    stdin(read_end)
    heard: list[Any] = []
    os.write(write_end, bytes(1 << 16))

    def monitor(line: LocalLine) -> None:
        heard.append(said(line))
        say(line, "output", 1, b"")
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(1)
        line.settimeout(60)
        say(line, "taken")
        heard.append(said(line))
        say(line, "ended", 0)

    follow(monitor, stdin=True)
    assert heard == [("input", bytes(1 << 15))] * 2
    for fd in (read_end, write_end):
        os.close(fd)


def test_nothing_is_read_before_the_monitor_has_said_something(
    stdin: Callable[[int], None],
) -> None:
    read_end, write_end = os.pipe()
    stdin(read_end)
    os.write(write_end, b"typed")
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(1)
        line.settimeout(60)
        say(line, "attached")
        heard.append(said(line))
        say(line, "ended", 0)

    follow(monitor, stdin=True, is_heard=False)
    assert heard == [("input", b"typed")]
    for fd in (read_end, write_end):
        os.close(fd)


def test_input_that_is_not_ours_is_not_read(stdin: Callable[[int], None]) -> None:
    read_end, write_end = os.pipe()
    stdin(read_end)
    os.write(write_end, b"typed")
    follow(lambda line: say(line, "ended", 0), stdin=False)
    assert os.read(read_end, 9) == b"typed"
    for fd in (read_end, write_end):
        os.close(fd)


@pytest.fixture
def terminal(stdin: Callable[[int], None]) -> Generator[int]:
    """A terminal of 24 rows and 80 columns as our standard input; its other end."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    stdin(slave)
    os.close(slave)
    yield master
    os.close(master)


def test_keys_go_to_the_process_as_they_are_pressed(terminal: int) -> None:
    before = termios.tcgetattr(0)
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        heard.append(said(line))
        os.write(terminal, b"\x03\r")
        heard.append(said(line))
        say(line, "ended", 0)

    assert follow(monitor, stdin=True, terminal=True)[0] == 0
    assert heard == [("resize", 24, 80), ("input", b"\x03\r")]
    assert termios.tcgetattr(0) == before
    assert terminal_size() == (24, 80)


def test_keys_to_leave_are_held_back_until_they_are_whole(terminal: int) -> None:
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        heard.append(said(line))
        os.write(terminal, b"a\x10")
        heard.append(said(line))
        os.write(terminal, b"\x11")
        while data := line.recv(1 << 18):
            heard.append(marshal.loads(data))

    ours, theirs = LocalLine.pair()
    with theirs, ends():
        thread = threading.Thread(target=monitor, args=(theirs,))
        thread.start()
        attached = Attached(ours, stdin=True, terminal=True, keys=b"\x10\x11")
        assert attached.follow() is None
        ours.close()
        thread.join()
    assert heard == [("resize", 24, 80), ("input", b"a")]


def test_a_terminal_that_changes_its_size_says_so(terminal: int) -> None:
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        heard.append(said(line))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
        os.kill(os.getpid(), signal.SIGWINCH)
        heard.append(said(line))
        say(line, "ended", 0)

    before = signal.getsignal(signal.SIGWINCH)
    follow(monitor, terminal=True)
    assert heard == [("resize", 24, 80), ("resize", 10, 20)]
    assert signal.getsignal(signal.SIGWINCH) == before


def test_where_there_is_no_terminal_there_is_no_size(stdin: Callable[[int], None]) -> None:
    read_end, write_end = os.pipe()
    stdin(read_end)
    assert terminal_size() == (0, 0)
    for fd in (read_end, write_end):
        os.close(fd)


Signals = Callable[..., tuple[list[Any], int | None]]


@pytest.fixture
def signals(stdin: Callable[[int], None]) -> Generator[Signals]:
    """Return the words that a monitor hears of signals that we get one after the other, and the status at the end."""
    read_end, write_end = os.pipe()
    stdin(read_end)
    os.write(write_end, b"typed")
    handlers = {number: signal.getsignal(number) for number in (1, 2, 3, 10, 12, 15, 28)}
    yield send_signals
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for fd in (read_end, write_end):
        os.close(fd)


def send_signals(
    *numbers: int, patience_s: float = -1.0, end: int = 0
) -> tuple[list[Any], int | None]:
    heard: list[Any] = []

    def monitor(line: LocalLine) -> None:
        assert said(line) == ("input", b"typed")  # by then signals are heard
        for number in numbers:
            os.kill(os.getpid(), number)
            heard.append(said(line))
        if patience_s == 0:
            heard.append(said(line))
        say(line, "ended", end)

    status, _ = follow(monitor, stdin=True, proxies=True, patience_s=patience_s)
    return heard, status


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTERM])
def test_signals_are_the_processs(signals: Signals, number: int) -> None:
    assert signals(number, number) == (
        [("signal", number), ("signal", 9 if number == signal.SIGTERM else number)],
        0,
    )


@pytest.mark.parametrize(
    ("numbers", "patience_s", "heard"),
    [
        ((2, 15), -1, [("signal", 2), ("signal", 9)]),
        ((10, 15), -1, [("signal", 10), ("signal", 15)]),
        ((15,), 60, [("end", 15)]),
        ((15,), 0, [("end", 15), ("signal", 9)]),
        ((10,), 60, [("end", 10)]),
    ],
)
def test_one_that_does_not_end_is_killed(
    signals: Signals, numbers: tuple[int, ...], patience_s: float, heard: list[Any]
) -> None:
    """At the second signal to end it, or when it was waited for."""
    assert signals(*numbers, patience_s=patience_s)[0] == heard


@pytest.mark.parametrize(
    ("numbers", "end", "status"),
    [((2,), 137, 130), ((10, 2), 137, 130), ((2,), 3, 3)],
)
def test_a_status_of_who_was_killed_for_it_is_that_of_the_signal(
    signals: Signals, numbers: tuple[int, ...], end: int, status: int
) -> None:
    assert signals(*numbers, end=end)[1] == status


def test_the_status_of_one_that_others_killed_is_its_own() -> None:
    assert follow(lambda line: say(line, "ended", 137))[0] == 137


def test_a_signal_that_came_first_is_handed_on_where_signals_are_the_processs() -> None:
    ours, theirs = LocalLine.pair()
    with ours, theirs:
        attached = Attached(ours, stdin=False, terminal=False, keys=None)
        assert attached.hand_on_first(15)
        assert said(theirs) == ("signal", 15)
        mute = Attached(ours, stdin=False, terminal=False, keys=None, proxies=False)
        assert not mute.hand_on_first(15)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
