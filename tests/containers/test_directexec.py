"""``exec`` by a word to the monitor: who is understood, and what is left to who looks at the container first."""

from __future__ import annotations

import _socket
import marshal
import os
import select
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.directexec import execute_at_once
from pybuild.containers.execorders import FIELDS, order_of
from pybuild.containers.lines import MESSAGE_BYTES, SOCKET, home_of
from pybuild.containers.order import accept
from pybuild.model.border import Misfit
from pybuild.model.errors import UserError
from tests.containers.busyboxes import BusyboxContainers, busybox_containers

GIVEN: dict[str, Any] = {
    "args": ["true"],
    "env": {},
    "named": [],
    "cwd": "",
    "user": "",
    "terminal": None,
    "privileged": False,
    "stdin": False,
    "detached": False,
}
IDS = ("a1" * 32, "a2" * 32, "b1" * 32)


def given(*args: str, **fields: Any) -> dict[str, Any]:
    return {**GIVEN, "args": list(args), **fields}


def test_what_is_not_given_is_as_the_container_has_it() -> None:  # CTR-50, CTR-51
    config = {"hostname": "here", "env": ["A=1", "B=2"], "cwd": "/w", "user": "7"}
    order = order_of(config, given("a", env={"B": "3"}, named=["B", "C"]))
    assert (order.args, order.cwd, order.user, order.terminal) == (("a",), "/w", "7", None)
    assert order.env == ("HOSTNAME=here", "B=3", "A=1")
    order = order_of(config, given("a", cwd="/", user="0", terminal=(2, 3), stdin=True))
    assert (order.cwd, order.user, order.terminal, order.stdin) == ("/", "0", (2, 3), True)
    assert "TERM=xterm" in order.env


def test_another_version_s_words_are_refused() -> None:
    assert GIVEN.keys() == FIELDS
    with pytest.raises(Misfit):
        order_of({}, {**GIVEN, "more": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "containers/names").mkdir(parents=True)
    for id in IDS:
        (tmp_path / "containers" / id).mkdir()
    (tmp_path / "containers/names/one").write_text(IDS[0])
    (tmp_path / "containers/names/a2").write_text(IDS[2])
    (tmp_path / "containers/names/unfinished").write_text("")
    return tmp_path / "containers"


@pytest.mark.parametrize(
    ("text", "id"),
    [("one", IDS[0]), ("/one", IDS[0]), (IDS[1], IDS[1]), ("b", IDS[2]), ("a2", IDS[2])],
)
def test_a_container_is_known_by_name_id_and_the_beginning_of_one(
    folder: Path, text: str, id: str
) -> None:  # CTR-5
    home = home_of(str(folder), text)
    assert os.path.basename(os.readlink(f"/proc/self/fd/{home}")) == id
    os.close(home)


@pytest.mark.parametrize(
    "text", ["a", "none", "unfinished", "", "../containers", "names", "c" * 64]
)
def test_what_is_no_one_s_or_several_s_is_left_to_who_can_say_so(folder: Path, text: str) -> None:
    with pytest.raises(OSError):
        home_of(str(folder), text)
    assert execute_at_once(str(folder.parent), text, GIVEN, None) is None


def _bind(listener: _socket.socket, home: Path) -> None:
    fd = os.open(home, os.O_PATH | os.O_DIRECTORY)
    listener.bind(f"/proc/self/fd/{fd}/{SOCKET}")  # a path of its own would be too long
    os.close(fd)


def answering(folder: Path, *answers: tuple[Any, ...]) -> threading.Thread:
    """A monitor of the container *one*, which takes one request and gives these answers."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    _bind(listener, folder / IDS[0])
    listener.listen(1)

    def serve() -> None:
        line = accept(listener)
        assert marshal.loads(line.recv(MESSAGE_BYTES)) == ("execute", GIVEN)
        for answer in answers:
            line.send(marshal.dumps(answer))
        line.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize("answer", [("unable",), ("fault", "user", "unknown request: execute", ())])
def test_a_monitor_that_cannot_or_of_an_older_version_leaves_it_to_the_whole_way(
    folder: Path, answer: tuple[Any, ...]
) -> None:
    thread = answering(folder, answer)
    assert execute_at_once(str(folder.parent), "one", GIVEN, None) is None
    thread.join()


def test_its_status_is_the_command_s(folder: Path) -> None:
    thread = answering(folder, ("attached",), ("ended", 7))
    assert execute_at_once(str(folder.parent), "one", GIVEN, None) == 7
    thread.join()


def test_a_socket_that_a_killed_monitor_left_is_no_monitor(folder: Path) -> None:  # MON-6
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    _bind(listener, folder / IDS[0])
    listener.close()
    assert execute_at_once(str(folder.parent), "one", GIVEN, None) is None


@pytest.fixture
def containers(tmp_path: Path) -> Generator[BusyboxContainers]:
    with busybox_containers(tmp_path / "store") as made:
        yield made


def _monitor_of(first: int) -> int:
    stat = Path(f"/proc/{first}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_in_a_container_that_runs_stands_still_lost_its_monitor_and_has_ended(
    containers: BusyboxContainers, capfd: pytest.CaptureFixture[str]
) -> None:  # CTR-50, CTR-51, MON-6
    one = containers.make("trap 'exit 0' TERM; sleep 1000 & wait")
    containers.start(one)

    def done(*args: str, **fields: Any) -> int | None:
        return execute_at_once(containers.root, "one", given(*args, **fields), None)

    script = 'echo "$A $C $PWD"; echo err >&2; exit 3'
    assert done("sh", "-c", script, env={"C": "d"}, named=["C"], cwd="/bin") == 3
    assert capfd.readouterr() == ("b d /bin\n", "err\n")
    assert done("sh", "-c", "exit 9", detached=True) == 0
    with pytest.raises(UserError, match="executable file not found") as raised:
        done("nope")
    assert raised.value.exit_code == 127
    with pytest.raises(UserError) as raised:
        done("true", user="nobody-here")
    assert raised.value.exit_code == 126
    one.ask("pause")
    assert done("true") is None
    one.ask("unpause")
    monitor = os.pidfd_open(_monitor_of(one.state().pid))
    signal.pidfd_send_signal(monitor, signal.SIGKILL)
    assert select.select([monitor], [], [], 60)[0]
    os.close(monitor)
    one.state()  # which waits for the monitor that the spawner forks, but not until it listens
    until = time.monotonic() + 60
    while (status := done("true")) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert status == 0
    one.stop(int(signal.SIGTERM), -1)
    assert done("true") is None
