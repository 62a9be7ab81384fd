"""Containers whose process is the test's, watched by a monitor in a process of its own that adopted it."""

from __future__ import annotations

import json
import marshal
import os
import select
import socket
import subprocess
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pybuild.cache.disk.locks import born
from pybuild.containers.dozing import become_monitor
from pybuild.containers.keeping import STDIN, Adopted, SpawnerLine, pair, receive
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import CONFIG, PIPES, ContainerOrder, StreamAttachment
from pybuild.containers.state import RUNNING, ContainerState, read_state, write_state
from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.zygote import isolation
from pybuild.model.border import packed
from pybuild.networks.helper import FIRST

ID = "ab" * 32
BOOT = "this boot"
_PATIENCE_S = 30
RECORD: dict[str, Any] = {"id": ID, "name": "web", "image": "app", "labels": {}, "mounts": []}
ALL = StreamAttachment(stdin=True, stdout=True, stderr=True, waits=True)


class AdoptedContainer:
    """A container of one process, which a monitor has adopted; what the test may say and hear.

    Attributes:
        keeper: the spawner's end of the monitor's line.
    """

    def __init__(self, root: Path, script: str) -> None:
        self.root = root
        self.home = root / "containers" / ID
        self.journal = root / "events" / "journal"
        (self.home / "fs").mkdir(parents=True)
        (self.home / CONFIG).write_text(json.dumps(RECORD))
        self._home = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.step = StepSpec((), str(self.home / "fs"), str(self.home / "work"), ("sh",))
        self.order = ContainerOrder(ID, self.step, boot=BOOT, root=str(root))
        self.keeper, self._kept = pair()
        self._monitor = 0
        outputs: list[int] = []
        for name in PIPES:
            os.mkfifo(self.home / name)
            outputs.append(os.open(self.home / name, os.O_RDWR | os.O_CLOEXEC))
        inner, self._input = os.pipe()
        os.set_blocking(self._input, False)
        self.process = subprocess.Popen(
            ["sh", "-c", script], stdin=inner, stdout=outputs[0], stderr=outputs[1],
            start_new_session=True,
        )  # fmt: skip
        for fd in (inner, *outputs):
            os.close(fd)
        self.state = ContainerState(
            RUNNING, self.process.pid, BOOT, started=time.time_ns(), born=born(self.process.pid)
        )

    def adopt(
        self,
        fds: dict[str, int] | None = None,
        attached: Sequence[tuple[LocalLine, StreamAttachment]] = (),
        *,
        status: int | None = None,
        dozes: bool = False,
        **order: Any,
    ) -> None:
        """Have a monitor adopt it, in a process of its own."""
        write_state(self._home, self.state)
        known = {STDIN: self._input} if fds is None else fds
        known = {**known, FIRST: os.pidfd_open(self.process.pid)} if dozes else known
        self._monitor = os.fork()
        if self._monitor == 0:
            try:
                self.keeper.close()
                lines = [(LocalLine(fileno=os.dup(own.fileno())), one) for own, one in attached]
                isolation.enter(None)
                adopted = Adopted(self.process.pid, known, status, dozes=dozes)
                keeper = SpawnerLine(self._kept)
                become_monitor(
                    self.order._replace(**order), self._home, None, keeper, lines, adopted
                )
            except BaseException:  # noqa: BLE001  told on standard error
                traceback.print_exc()
            finally:
                os._exit(1)
        self._kept.close()
        os.close(self._input)
        if dozes:
            os.close(known[FIRST])

    def adopt_attached(self, attachment: StreamAttachment = ALL, **order: Any) -> LocalLine:
        """Have a monitor adopt it; return a line that was attached before its first byte of output."""
        ours, theirs = LocalLine.pair()
        ours.settimeout(_PATIENCE_S)
        with theirs:
            self.adopt(attached=[(theirs, attachment)], **order)
        return ours

    def line(self) -> LocalLine:
        """Return a line to the monitor, which may be about to begin."""
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                line = LocalLine.into(self._home)
                line.settimeout(_PATIENCE_S)
                return line
            assert os.waitpid(self._monitor, os.WNOHANG)[0] == 0, "the monitor has ended"
            time.sleep(0.001)

    def ask(self, *message: Any) -> Any:
        """Return the monitor's answer."""
        with self.line() as line:
            say(line, *message)
            return hear(line)

    def listen(self) -> int:
        """Return a listening socket in its directory, as a monitor leaves it."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"/proc/self/fd/{self._home}/monitor")
        listener.listen()
        return listener.detach()

    def ended(self) -> ContainerState:
        """Return its state once the monitor has gone; nobody could call that any more."""
        pid, self._monitor = self._monitor, 0
        assert os.waitpid(pid, 0)[1] == 0
        assert not {"monitor", "health.json"} & set(os.listdir(self.home))
        return self.known()

    def known(self) -> ContainerState:
        return read_state(self._home)

    def events(self) -> list[tuple[str, dict[str, str]]]:
        """Return the actions in the journal, with what they say beside the container's own words."""
        entries = [json.loads(line) for line in self.journal.read_text().splitlines()]
        assert {entry["Actor"]["ID"] for entry in entries} == {ID}
        own = {"image": "app", "name": "web"}
        return [
            (entry["Action"], dict(entry["Actor"]["Attributes"].items() - own.items()))
            for entry in entries
        ]

    def log(self) -> list[tuple[str, str]]:
        lines = map(json.loads, (self.home / "log.json").read_text().splitlines())
        return [(line["stream"], line["log"]) for line in lines]

    def kept(self) -> list[Any]:
        """Return the next message to the spawner, without descriptors."""
        message = receive(self.keeper)
        assert message is not None
        for fd in message[1]:
            os.close(fd)
        return list(message[0])

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(60)
        self.keeper.close()
        self._kept.close()
        if self._monitor:
            poller = select.poll()
            poller.register(os.pidfd_open(self._monitor), select.POLLIN)
            assert poller.poll(60_000)
            os.waitpid(self._monitor, 0)
        os.close(self._home)


@contextmanager
def adopted_container(root: Path, script: str) -> Generator[AdoptedContainer]:
    made = AdoptedContainer(root, script)
    try:
        yield made
    finally:
        made.close()


def say(line: LocalLine, *message: Any) -> None:
    line.send(marshal.dumps(message))


def hear(line: LocalLine) -> Any:
    """Return the next message, None: the monitor has let go of the line."""
    data = line.recv(1 << 18)
    return marshal.loads(data) if data else None


def attached(container: AdoptedContainer, attachment: StreamAttachment = ALL) -> LocalLine:
    """Return a line that is attached to its streams."""
    line = container.line()
    say(line, "attach", packed(attachment))
    assert hear(line) == ("attached",)
    return line


Make = Callable[[str], AdoptedContainer]
