"""The engine's processes as the tests start them, and lines to and from them."""

from __future__ import annotations

import importlib.util
import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pybuild.cluster.certificates import Certificates, make_certificates
from pybuild.cluster.roles import Role

ANSWER_S = 60.0
LOOPBACK = "127.0.0.1"
ROLES = {"agent": Role.WORKER, "dispatcher": Role.COORDINATOR, "scheduler": Role.SCHEDULER}
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="the extra pybuild-oci[cluster] (distributed) is not installed",
)


class LineProcess:
    """A process that speaks JSON lines."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            ["timeout", "-k", "5", "300", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def say(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self, *names: str) -> dict[str, Any]:
        """Return the next message that has all of *names*."""
        while True:
            line = self._lines.get(timeout=ANSWER_S)
            assert line, "the process has ended"
            message: dict[str, Any] = json.loads(line)
            if all(name in message for name in names):
                return message

    def kill(self) -> None:
        self.signal("KILL")
        self._ended()

    def signal(self, name: str) -> None:
        command = ["pkill", f"-{name}", "-s", str(self.process.pid)]
        subprocess.run(command, check=False, timeout=10)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._ended()

    def _ended(self) -> None:
        assert self.process.stdin is not None
        self.process.wait(20)
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self._reader.join(20)


def start(module: str, *words: str) -> LineProcess:
    return LineProcess(sys.executable, "-P", "-m", f"pybuild.cluster.dask.{module}", *words)


class Engine:
    """A scheduler, its agents and dispatchers; with *tls* each has the certificate of its role."""

    def __init__(self, tls: Mapping[Role, Certificates] | None = None) -> None:
        self.tls = dict(tls or {})
        self.processes: list[LineProcess] = []
        self._scratch = tempfile.TemporaryDirectory(prefix="pbe-")
        self.scheduler = self._start("scheduler", "--addr", "tcp://127.0.0.1:0")
        self.address: str = self.scheduler.hear("address")["address"]

    def _start(self, module: str, *words: str) -> LineProcess:
        own = self.tls.get(ROLES[module], Certificates())
        self.processes.append(start(module, *words, *own.words()))
        return self.processes[-1]

    def again(self) -> None:
        """Start the scheduler again, where it was."""
        self.scheduler = self._start("scheduler", "--addr", self.address)
        self.scheduler.hear("address")

    @contextmanager
    def dying(self) -> Generator[None]:
        """Have the scheduler be killed, and come back, again and again within the context."""
        over = threading.Event()
        chance = random.Random(1)

        def go() -> None:
            while not over.wait(chance.uniform(1.0, 4.0)):
                self.scheduler.kill()
                over.wait(chance.uniform(0.0, 2.0))
                self.again()

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def agent(self, name: str, slots: int = 2) -> LineProcess:
        words = ("--scheduler", self.address, "--name", name, "--slots", str(slots))
        return self._start("agent", *words, "--scratch", f"{self._scratch.name}/{name}")

    def dispatcher(self) -> LineProcess:
        return self._start("dispatcher", "--scheduler", self.address)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self._scratch.cleanup()


@contextmanager
def running_engine(tls: Mapping[Role, Certificates] | None = None) -> Generator[Engine]:
    engine = Engine(tls)
    try:
        yield engine
    finally:
        engine.close()


def role_certificates(directory: Path) -> dict[Role, Certificates]:
    """Make a cell's certificates, one of each role, for the loopback device."""
    members = [(role, LOOPBACK) for role in Role]
    made = make_certificates(str(directory), members, 1)
    ca = str(directory / "ca.pem")
    return {
        role: Certificates(ca=ca, cert=cert, key=key)
        for (role, _), (cert, key) in zip(members, made, strict=True)
    }
