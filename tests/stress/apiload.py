"""Docker's own command line against a server, in numbers, and the server killed meanwhile; prints what went wrong.

    python -m tests.stress.apiload load --count 100 --builds 20
    python -m tests.stress.apiload kills --count 20

*load* runs that many containers, and builds, each from a client of its own and all at once; none may fail, and the server may
take no more than 250 MB. *kills* ends the server by SIGKILL that many times while clients run containers: those that run
are untouched, and the next server is ready soon. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.daemon.buildsites import Daemon, daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base, write
from tests.stress.containers import Summary, gaps, left, settled

_MOST_KB = 250_000
_LIMIT_S = 600
_COUNTS = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"


class Clients:
    """Docker's command line, for one server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "docker.sock"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",
        }

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Return the status and what it wrote."""
        done = subprocess.run(
            ["docker", *map(str, words)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def run(self, number: int) -> str:
        """Run a container; return what was wrong."""
        seen = self("run", "--rm", "--network", "none", "base:1", "echo", f"said {number}")
        return "" if seen[:2] == (0, f"said {number}\n") else f"run {number}: {seen}"

    def build(self, number: int) -> str:
        """Build something that nobody has built; return what was wrong."""
        text = f"FROM base:1\nCOPY f /f\nRUN echo {number} > /made\n"
        context = write(self._folder / f"context{number}", Dockerfile=text, f=str(number))
        status, _, err = self("build", "-t", f"built:{number}", context)
        return f"build {number}: {err}" if status else ""


def load(clients: Clients, server: Daemon, runs: int, builds: int, summary: Summary) -> None:
    """Have all clients work at once."""
    with ThreadPoolExecutor(runs + builds) as pool:
        works = [pool.submit(clients.run, number) for number in range(runs)]
        works += [pool.submit(clients.build, number) for number in range(builds)]
        summary.wrong += [problem for work in works if (problem := work.result())]
    summary.done["runs"], summary.done["builds"] = runs, builds
    summary.done["peak_kb"] = peak = peak_kb(server)
    if peak > _MOST_KB:
        summary.wrong.append(f"the server took {peak} kB")


def server_pid(server: Daemon) -> int:
    """Return the server itself, below what limits its life."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return int(children.split()[0])


def peak_kb(server: Daemon) -> int:
    """Return the most memory that a server has had at a time."""
    text = Path(f"/proc/{server_pid(server)}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+)", text)
    return int(match[1]) if match else 0


def kills(pybuild: NetworkedPybuild, folder: Path, count: int, summary: Summary) -> None:
    """Kill servers under load; containers, their logs and their states are as they were."""
    clients, over = Clients(folder), threading.Event()
    ids = [
        pybuild("run", "-d", "--network", "none", "base:1", "sh", "-c", _COUNTS).out.strip()
        for _ in range(4)
    ]
    before = states(pybuild, ids)

    def work(number: int) -> None:
        while not over.is_set():
            with suppress(subprocess.TimeoutExpired):
                clients.run(number)  # whose server is killed fails; no other does harm

    with ThreadPoolExecutor(8) as pool:
        try:
            for number in range(8):
                pool.submit(work, number)
            for _ in range(count):
                server = Daemon(pybuild, folder / "d.sock", "--docker-socket", str(clients.socket))
                try:
                    ready = server.wait_ready()
                    summary.done["ready_s"] = max(ready, summary.done.get("ready_s", 0))
                    summary.wrong += filter(None, map(clients.run, range(3)))
                    summary.wrong += [line for line in server.said().splitlines() if "bug" in line]
                finally:
                    server.kill()
                summary.count("kills")
        finally:
            over.set()
    after = states(pybuild, ids)
    if after != before:
        summary.wrong.append(f"{before} became {after}")
    for id in ids:
        numbers = [int(one) for one in re.findall(r"line (\d+)", pybuild("logs", id).out)]
        if not numbers or gaps(numbers) or numbers[0] != 1:
            summary.wrong.append(f"{id}: lines are lost")


def states(pybuild: NetworkedPybuild, ids: Sequence[str]) -> list[Any]:
    """Return the unchanging facts of containers: that they run, as which process, and how often they began."""
    shown = json.loads(pybuild("inspect", *ids).out)
    return [(one["State"]["Status"], one["State"]["Pid"], one["RestartCount"]) for one in shown]


def stress(what: str, pybuild: NetworkedPybuild, folder: Path, count: int, builds: int) -> Summary:
    """Do it, and see that nothing is left."""
    summary, clients = Summary(), Clients(folder)
    if what == "load":
        with daemon(pybuild, folder, "--docker-socket", str(clients.socket)) as server:
            load(clients, server, count, builds, summary)
            server.stop()
    else:
        kills(pybuild, folder, count, summary)
    ids = pybuild("ps", "-aq", "--no-trunc").out.split()
    names = pybuild("ps", "-a", "--format", "{{.Names}}").out.split()
    for path in (pybuild.store / "containers/names").iterdir():
        if path.name not in names:  # whose maker was killed: it is free for the next
            pybuild("create", "--name", path.name, "base:1")
            pybuild("rm", path.name)
    if what == "load" and ids:
        summary.wrong.append(f"containers are left: {ids}")
    if ids:
        pybuild("rm", "-f", *ids)
    if not settled(lambda: not left(pybuild, ids)):
        summary.wrong.append(f"left {left(pybuild, ids)[:5]}")
    return summary


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["load", "kills"])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--builds", type=int, default=20)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as directory, network_namespace() as pid:
        folder = Path(directory)
        pybuild = NetworkedPybuild(folder / "store", pid=pid)
        make_base(pybuild, folder / "context", "base:1")
        summary = stress(given.what, pybuild, folder, given.count, given.builds)
    for line in summary.wrong:
        print(line)
    print(summary.done)
    return bool(summary.wrong)


if __name__ == "__main__":
    sys.exit(main())
