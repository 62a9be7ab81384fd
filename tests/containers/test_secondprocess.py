"""More processes in a container: how they begin, what is heard of them, how they end [CTR-50, CTR-37].

Their processes are the test's: what is under test is the monitor's side of them.
"""

from __future__ import annotations

import marshal
import os
import socket
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest

from pybuild.containers.lines import LocalLine
from pybuild.containers.loop import Loop
from pybuild.containers.order import ContainerOrder, ExecOrder
from pybuild.containers.secondprocess import Execs
from pybuild.containers.streams import AttachedClient
from pybuild.executor.steps.spec import StepExit, StepSpec
from pybuild.executor.zygote import joining, wire
from pybuild.executor.zygote.cgroups import Leaf
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.border import unpacked

STEP = StepSpec(
    (), "/up", "/work", ("init",), env=("A=b",), cwd="/w", user="7", security="sandbox",
    ulimits=(("nofile", 1, 2),),
)  # fmt: skip
ORDER = ContainerOrder("0" * 64, STEP)
EXEC = ExecOrder(("ls", "-l"), ("B=c",), "/d", "1", id="x1")

FIRST, ENDED = 7, 8


def place_of(pid: int, leaf: Leaf | None) -> joining.Place:
    """Return a place in name alone: no process is started there."""
    if pid != FIRST:
        raise joining.has_ended()
    assert leaf is None
    return cast(joining.Place, None)


class Beside:
    """Processes that are started beside a container's, as far as their descriptors go."""

    def __init__(self) -> None:
        self.fds: dict[str, list[int]] = {}
        self.killed: list[tuple[str, int, bool]] = []
        self.refusal: Exception | None = None

    def start_in(self, job: str, place: joining.Place, fds: list[int]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.fds[job] = list(fds)

    def pid(self, job: str) -> int:
        return 1000 + int(job.removeprefix("exec-"))

    def kill(self, job: str, number: int, *, exactly: bool = False) -> None:
        self.killed.append((job, number, exactly))


class Monitor:
    """The part of a monitor that executes, with one client at the other end of *line*."""

    def __init__(self) -> None:
        self.first = FIRST
        self.loop = Loop()
        self.beside = Beside()
        self.record: dict[str, Any] = {}
        self.notes: list[tuple[str, dict[str, str]]] = []
        self.execs = Execs(
            self.loop,
            cast(Any, self.beside),
            ORDER,
            cast(Any, self),
            place_of,
        )
        self.line, theirs = LocalLine.pair()
        theirs.setblocking(False)
        self.client = AttachedClient(self.loop, theirs)
        self.client.watch(lambda events: None)

    def note(self, action: str, more: dict[str, str]) -> None:
        self.notes.append((action, more))

    def config(self) -> dict[str, Any]:
        return self.record

    def start(self, **fields: Any) -> socket.socket:
        """Execute something; return the channel of its process, which has been read by it."""
        self.execs.start(self.client, EXEC._replace(**fields), self.first, None)
        return self.process("exec-1")

    def process(self, job: str) -> socket.socket:
        return socket.socket(fileno=self.beside.fds[job].pop(0))

    def turn(self) -> None:
        self.loop.turn(0)

    def heard(self) -> list[Any]:
        self.line.setblocking(False)
        messages: list[Any] = []
        try:
            while data := self.line.recv(1 << 18):
                messages.append(marshal.loads(data))
            messages.append(None)
        except BlockingIOError:
            pass
        return messages

    def close(self) -> None:
        self.execs.end_all()
        self.client.abandon()
        self.line.close()
        for fds in self.beside.fds.values():
            for fd in fds:
                os.close(fd)


@pytest.fixture
def monitor() -> Generator[Monitor]:
    made = Monitor()
    yield made
    made.close()


def test_it_becomes_what_was_ordered_in_the_place_of_the_first(monitor: Monitor) -> None:
    with monitor.start() as process:
        [spec] = wire.Reassembler().feed(process.recv(1 << 16))
        step = unpacked(spec)
    assert step.args == ("ls", "-l")
    assert (step.upper, step.env, step.cwd, step.user) == ("/up", ("B=c",), "/d", "1")
    assert (step.security, step.ulimits, step.terminal) == ("sandbox", (("nofile", 1, 2),), None)
    assert step.lasting
    assert monitor.notes == [
        ("exec_create: ls -l", {"execID": "x1"}),
        ("exec_start: ls -l", {"execID": "x1"}),
    ]


def test_one_that_may_all_is_no_sandbox(monitor: Monitor) -> None:
    with monitor.start(privileged=True) as process:
        [spec] = wire.Reassembler().feed(process.recv(1 << 16))
    assert unpacked(spec).security == "insecure"


def test_its_output_is_handed_on_and_then_its_end(monitor: Monitor) -> None:
    with monitor.start() as process:
        stdout, stderr = monitor.beside.fds["exec-1"]
        assert [os.fstat(fd).st_mode & 0o777 for fd in (stdout, stderr)] == [0o622, 0o622]
        process.send(wire.frame(("ready",)))
        monitor.turn()
        os.write(stdout, b"out")
        os.write(stderr, b"err")
        monitor.turn()
        assert monitor.heard() == [("output", 1, b"out"), ("output", 2, b"err")]
        os.write(stdout, b"last")
        monitor.execs.note_end("exec-1", StepExit(3))
        assert monitor.heard() == []  # it may still say why it did not become its program
    monitor.turn()
    assert monitor.heard() == [("output", 1, b"last"), ("began", 1001), ("ended", 3), None]
    assert monitor.notes[2:] == [("exec_die", {"execID": "x1", "exitCode": "3"})]
    assert monitor.execs.descriptors() == ()


def test_one_that_nobody_named_has_an_id_of_its_own(monitor: Monitor) -> None:
    monitor.start(id="").close()
    [one, two] = [note[1]["execID"] for note in monitor.notes]
    assert one == two
    assert len(one) == 64
    int(one, 16)


def test_its_end_is_told_when_all_was_said(monitor: Monitor) -> None:
    with monitor.start() as process:
        process.send(wire.frame(("ready",)))
    monitor.turn()
    monitor.turn()
    assert monitor.heard() == [("began", 1001)]
    monitor.execs.note_end("exec-9", StepExit(4))  # a job that is none of these
    assert monitor.heard() == []
    monitor.execs.note_end("exec-1", StepExit(4))
    assert monitor.heard() == [("ended", 4), None]


@pytest.mark.parametrize("word", ["unexecuted", "fault"])
def test_a_program_that_cannot_be_executed_is_told_in_the_place_of_its_end(
    monitor: Monitor, word: str
) -> None:
    with monitor.start(detached=True) as process:
        process.send(wire.frame((word, 127, "no such file")))
        process.send(wire.frame(("ready",)))
    monitor.turn()
    monitor.turn()
    monitor.execs.note_end("exec-1", StepExit(1))
    assert monitor.heard() == [(word, 127, "no such file"), None]


def test_who_detaches_hears_that_it_was_executed(monitor: Monitor) -> None:
    with monitor.start(detached=True) as process:
        assert monitor.client.attachment is None
        process.send(wire.frame(("ready",)))
        monitor.turn()
        assert monitor.heard() == []
    monitor.turn()
    assert monitor.heard() == [("done", []), None]
    monitor.execs.note_end("exec-1", StepExit(0))


@pytest.mark.parametrize("stdin", [False, True])
def test_who_has_its_input_is_attached_to_it(monitor: Monitor, stdin: bool) -> None:
    with monitor.start(stdin=stdin):
        attachment = monitor.client.attachment
        assert attachment is not None
        assert (attachment.stdin, attachment.waits) == (stdin, True)
        fds = monitor.beside.fds["exec-1"]
        assert len(fds) == 2 + stdin
        streams = monitor.execs.streams_of(monitor.client)
        assert streams is not None
        if stdin:
            assert os.fstat(fds[2]).st_mode & 0o777 == 0o644
            streams.feed(monitor.client, b"typed")
            assert os.read(fds[2], 9) == b"typed"


def test_its_terminal_comes_when_it_is_ready(monitor: Monitor) -> None:
    with monitor.start(terminal=(24, 80)) as process:
        assert monitor.beside.fds["exec-1"] == []
        [spec] = wire.Reassembler().feed(process.recv(1 << 16))
        assert unpacked(spec).terminal == (24, 80)
        attachment = monitor.client.attachment
        assert attachment is not None
        assert attachment.stdin
        master, slave = os.openpty()
        other, unwanted = os.pipe()
        rights = b"".join(fd.to_bytes(4, "little") for fd in (other, master))
        message = wire.frame(("ready", "listener", "terminal"))
        process.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(master)
        os.close(other)
        monitor.turn()
        streams = monitor.execs.streams_of(monitor.client)
        assert streams is not None
        assert streams.terminal >= 0
        with pytest.raises(BrokenPipeError):  # nobody else has the other one
            os.write(unwanted, b"x")
        os.write(slave, b"shown\n")
        monitor.turn()
        assert monitor.heard() == [("output", 1, b"shown\r\n")]
        os.close(slave)
        os.close(unwanted)


def test_a_signal_goes_to_what_the_client_executes(monitor: Monitor) -> None:
    ours, theirs = LocalLine.pair()
    other = AttachedClient(monitor.loop, theirs)
    with monitor.start(), ours, theirs:
        assert monitor.execs.signal(monitor.client, 15)
        assert not monitor.execs.signal(other, 15)
        assert monitor.execs.streams_of(other) is None
        assert monitor.beside.killed == [("exec-1", 15, True)]
        monitor.execs.leave(other)
        assert monitor.execs.signal(monitor.client, 9)
        monitor.execs.leave(monitor.client)
        assert not monitor.execs.signal(monitor.client, 15)


def test_with_the_container_all_have_ended(monitor: Monitor) -> None:
    with monitor.start() as process:
        assert len(monitor.execs.descriptors()) == 3
        monitor.execs.end_all()
        assert monitor.heard() == [("ended", 137), None]
        assert monitor.execs.descriptors() == ()
        assert len(process.recv(1 << 16)) > 9  # its order, which nobody has read
        assert process.recv(9) == b""


def test_beside_one_that_has_ended_nothing_is_started(monitor: Monitor) -> None:
    with pytest.raises(Fault, match="^the container has ended$") as caught:
        monitor.execs.start(monitor.client, EXEC, ENDED, None)
    assert caught.value.kind == USER
    assert monitor.execs.descriptors() == ()
    assert monitor.notes == []
    monitor.beside.refusal = OSError("no process is left")
    with pytest.raises(OSError, match="no process is left"):
        monitor.execs.start(monitor.client, EXEC, monitor.first, None)
    assert monitor.execs.descriptors() == ()


GIVEN: dict[str, Any] = {
    "args": ["ls"], "env": {"B": "c"}, "named": [], "cwd": "", "user": "", "terminal": None,
    "privileged": False, "stdin": False, "detached": False,
}  # fmt: skip


def test_what_is_given_is_executed_as_the_record_says(monitor: Monitor) -> None:
    monitor.record = {"env": ["A=b"], "cwd": "/w", "user": "9", "hostname": "here"}
    monitor.execs.start_given(monitor.client, GIVEN, FIRST, None)
    with monitor.process("exec-1") as process:
        [spec] = wire.Reassembler().feed(process.recv(1 << 16))
    step = unpacked(spec)
    assert (step.args, step.cwd, step.user) == (("ls",), "/w", "9")
    assert {"B=c", "HOSTNAME=here"} <= set(step.env)
    assert monitor.heard() == [("attached",)]


@pytest.mark.parametrize(("record", "pid"), [({}, FIRST), ({"cwd": "/w"}, 0)])
def test_where_nothing_runs_nothing_is_executed(
    monitor: Monitor, record: dict[str, Any], pid: int
) -> None:
    monitor.record = record
    monitor.execs.start_given(monitor.client, GIVEN, pid, None)
    assert monitor.heard() == [("unable",)]
    assert monitor.notes == []


Probed = list[tuple[int, bytes]]


def noting(done: Probed) -> Callable[[int, bytes], None]:
    return lambda status, output: done.append((status, output))


def test_a_probe_has_the_first_ones_surroundings_and_says_what_it_wrote(monitor: Monitor) -> None:
    done: Probed = []
    end = monitor.execs.probe(monitor.first, None, ("CMD", "check", "-x"), noting(done))
    with monitor.process("exec-1") as process:
        [spec] = wire.Reassembler().feed(process.recv(1 << 16))
        step = unpacked(spec)
        assert step.args == ("check", "-x")
        assert (step.env, step.cwd, step.user) == (("A=b",), "/w", "7")
        process.send(wire.frame(("ready",)))
        os.write(monitor.beside.fds["exec-1"][0], b"a" * 4000)
        monitor.turn()
        os.write(monitor.beside.fds["exec-1"][1], b"b" * 4000)
        monitor.turn()
        assert end() == b"a" * 4000 + b"b" * 96
        assert monitor.beside.killed == [("exec-1", 9, False)]
    monitor.turn()
    monitor.execs.note_end("exec-1", StepExit(1))
    assert done == [(1, b"a" * 4000 + b"b" * 96)]
    assert end() == b"a" * 4000 + b"b" * 96
    assert len(monitor.beside.killed) == 1


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (("unexecuted", 127, "no such file"), (127, b"no such file")),
        (("fault", "user", "so", ()), (-1, b"")),
    ],
)
def test_a_probe_that_cannot_be_executed_fails(
    monitor: Monitor, message: tuple[Any, ...], known: tuple[int, bytes]
) -> None:
    done: Probed = []
    monitor.execs.probe(monitor.first, None, ("CMD", "x"), noting(done))
    with monitor.process("exec-1") as process:
        process.send(wire.frame(message))
    monitor.turn()
    monitor.turn()
    monitor.execs.note_end("exec-1", StepExit(1))
    assert done == [known]


def test_a_probe_beside_one_that_has_ended_fails_in_its_turn(monitor: Monitor) -> None:
    done: Probed = []
    end = monitor.execs.probe(ENDED, None, ("CMD", "x"), noting(done))
    assert done == []
    monitor.loop.turn()
    assert done == [(-1, b"the container has ended")]
    assert end() == b""
