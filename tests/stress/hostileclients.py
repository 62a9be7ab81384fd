"""Clients of Docker's API that take places, or stop reading; prints what the server paid for them, and what went wrong.

    python -m tests.stress.hostileclients idle --count 10000
    python -m tests.stress.hostileclients unread --count 20

*idle* opens that many connections that ask for one thing each, and nothing after it. *unread* has that many clients of logs, events,
statistics and attached streams of one busy container; they read the head of the answer and no more. Others are answered
meanwhile, the container is not held up, and the server's memory stays within a bound. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.daemon.buildsites import Daemon, daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base
from tests.stress.apifuzz import Sent, ask
from tests.stress.apiload import server_pid
from tests.stress.containers import Summary

_MOST_KB_OF_IDLE = 16
_MOST_KB_OF_UNREAD = 4000
"""Of one client: what waits in its connection, and what is on its way there."""
_WORKS_WITHIN = 1 << 12
_BUSY = "i=0; while :; do i=$((i+1)); echo line $i of a container that says a lot; done"
_ANSWER_S = 60.0
_EVENTS = 500
_LINES = 20_000
_HELD_UP_S = 180.0
"""An attached client that reads nothing holds the container up for a minute."""
ROUTES = (
    "GET /containers/busy/logs?follow=1&stdout=1",
    "GET /events",
    "GET /containers/busy/stats?stream=1",
    "POST /containers/busy/attach?stream=1&stdout=1",
)


class Cost:
    """A server's memory and processor time since this was made."""

    def __init__(self, server: Daemon) -> None:
        self._pid = server_pid(server)
        self._kb, self._s = self._memory_kb(), self._processor_s()

    def _memory_kb(self) -> int:
        match = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{self._pid}/status").read_text())
        return int(match[1]) if match else 0

    def _processor_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def kb(self) -> int:
        return self._memory_kb() - self._kb

    @property
    def seconds(self) -> float:
        return round(self._processor_s() - self._s, 2)


def opened(path: Path, route: str) -> socket.socket:
    """Return a connection on which one thing was asked, and the head of the answer has come."""
    own = socket.socket(socket.AF_UNIX)
    own.settimeout(_ANSWER_S)
    own.connect(str(path))
    own.sendall(f"{route} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += own.recv(_WORKS_WITHIN if "_ping" in route else 1)
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ConnectionError(f"{route}: {head!r}")
    return own


def answered(path: Path, summary: Summary) -> None:
    """Have somebody else ask for what takes work."""
    for target in ("/_ping", "/containers/json?all=1", "/info"):
        status, _ = ask(path, Sent(f"GET {target}", target, b"", ""))
        if status != 200:
            summary.wrong.append(f"{target}: {status}")


def idle(server: Daemon, path: Path, count: int, summary: Summary) -> None:
    answered(path, summary)  # what is loaded for the first client is none of their cost
    cost = Cost(server)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(opened(path, "GET /_ping"))
        summary.done["connections"], summary.done["kb"] = count, cost.kb
        summary.done["seconds"] = cost.seconds
        resting = Cost(server)
        answered(path, summary)
        summary.done["seconds_of_others"] = resting.seconds
        if cost.kb > _MOST_KB_OF_IDLE * count + 8000:
            summary.wrong.append(f"{count} idle connections took {cost.kb} kB")
    answered(path, summary)


def unread(
    pybuild: NetworkedPybuild,
    server: Daemon,
    path: Path,
    count: int,
    routes: Sequence[str],
    summary: Summary,
) -> None:
    limits = ("--log-opt", "max-size=1m", "--log-opt", "max-file=2")
    words = ("--name", "busy", "--network", "none", *limits, "base:1", "sh", "-c", _BUSY)
    pybuild("run", "-d", *words)

    def line() -> int:
        said = pybuild("logs", "--tail", "1", "busy").out
        return int(said.split()[1])

    answered(path, summary)
    cost = Cost(server)
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(opened(path, routes[number % len(routes)]))
        for _ in range(_EVENTS):
            target = "/containers/busy/kill?signal=CONT"
            status, _ = ask(path, Sent(f"POST {target}", target, b"", ""))
            if status != 204:
                summary.wrong.append(f"{target}: {status}")
        before, end = line(), time.monotonic() + _HELD_UP_S
        while line() < before + _LINES and time.monotonic() < end:
            time.sleep(1)
        if line() < before + _LINES:
            summary.wrong.append(f"the container is held up at line {line()}")
        answered(path, summary)
        summary.done["clients"], summary.done["kb"] = count, cost.kb
        if cost.kb > _MOST_KB_OF_UNREAD * count:
            summary.wrong.append(f"{count} clients that do not read took {cost.kb} kB")
    answered(path, summary)
    pybuild("rm", "-f", "busy")


def stress(
    what: str,
    pybuild: NetworkedPybuild,
    folder: Path,
    count: int,
    routes: Sequence[str] = ROUTES,
) -> Summary:
    """Do one of the two with a server of *pybuild*, whose base image is there."""
    summary, path = Summary(), folder / "docker.sock"
    with daemon(pybuild, folder, "--docker-socket", str(path)) as server:
        if what == "idle":
            idle(server, path, count, summary)
        else:
            unread(pybuild, server, path, count, routes, summary)
        summary.wrong += [line for line in server.said().splitlines() if "bug" in line]
        summary.done["stopped with"] = server.stop()
    return summary


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["idle", "unread"])
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as directory, network_namespace() as pid:
        folder = Path(directory)
        pybuild = NetworkedPybuild(folder / "store", pid=pid)
        make_base(pybuild, folder / "context", "base:1")
        summary = stress(given.what, pybuild, folder, given.count)
    for problem in summary.wrong:
        print(problem)
    print(summary.done)
    return bool(summary.wrong)


if __name__ == "__main__":
    sys.exit(main())
