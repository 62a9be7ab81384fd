"""Lean on ``pybuild daemon``: ``python -m benchmarks.server [--kills 20]``; needs buildctl and root.

First a hundred builds of twenty clients at once: all of them end well, and memory is told. Then the
server is killed in the middle of builds, again and again: how soon does it answer again, and does
every step that a client saw done still count?
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Sampler

_CLIENTS, _EACH = 20, 5
_BUILD_S, _READY_S = 600.0, 60.0


class Server:
    """The daemon as a process, on one store."""

    def __init__(self, place: Path) -> None:
        self.address = f"unix://{place}/s.sock"
        self._words = [
            *(str(Path(sys.executable).with_name("pybuild")), "daemon"),
            *("--addr", self.address, "--root", str(place / "store")),
        ]
        self._log = place / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start, and return after how many seconds it listened."""
        seen = self._log.stat().st_size if self._log.exists() else 0
        began = time.monotonic()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while b"running server on" not in self._log.read_bytes()[seen:]:
            if self.process.poll() is not None or time.monotonic() - began > _READY_S:
                raise SystemExit(self._log.read_text()[-2000:])
            time.sleep(0.005)
        return time.monotonic() - began

    def end(self, number: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(60)


@dataclass
class Seen:
    """A client's view of a build: steps done and steps found in the cache, by digest."""

    code: int | None = None
    names: dict[str, str] = field(default_factory=dict[str, str])
    done: set[str] = field(default_factory=set[str])
    cached: set[str] = field(default_factory=set[str])
    text: str = ""


class Build:
    """buildctl as a process, whose progress is read when it has ended."""

    def __init__(self, server: Server, context: Path, **args: str) -> None:
        flags = [f"--opt=build-arg:{name}={value}" for name, value in args.items()]
        self._said = context.with_name(f"{context.name}.{secrets.token_hex(4)}.progress")
        with self._said.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("buildctl", "--addr", server.address, "build", "--progress=rawjson"),
                    *("--frontend=dockerfile.v0", f"--local=context={context}"),
                    *(f"--local=dockerfile={context}", *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def wait(self) -> Seen:
        try:
            seen = Seen(code=self._process.wait(_BUILD_S))
        except subprocess.TimeoutExpired:
            self._process.kill()
            seen = Seen(code=None)
        for line in self._said.read_text(errors="replace").splitlines():
            try:
                status = json.loads(line)
            except ValueError:
                seen.text += f"{line}\n"
                continue
            for vertex in status.get("vertexes") or ():
                seen.names[vertex["digest"]] = vertex.get("name", "")
                if vertex.get("completed") and not vertex.get("error"):
                    seen.done.add(vertex["digest"])
                    if vertex.get("cached"):
                        seen.cached.add(vertex["digest"])
        self._said.unlink()
        return seen


def _context(place: Path, name: str, tail: str) -> Path:
    """A context whose Dockerfile brings its own base: no registry is asked."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is needed (Debian: busybox-static)")
    context = place / name
    (context / "root/bin").mkdir(parents=True)
    shutil.copy(busybox, context / "root/bin/busybox")
    for tool in ("sh", "seq", "cat", "sleep", "mkdir"):
        (context / "root/bin" / tool).symlink_to("busybox")
    (context / "own").write_text(name)
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY root/ /\n{tail}")
    return context


def many(place: Path) -> bool:
    """Let twenty clients start five builds each at the same time; tell whether all was well."""
    tail = (
        "COPY own /own\nARG N\nRUN for i in $(seq 200); do echo $i > /f$i; done\nRUN echo $N > /n\n"
    )
    contexts = [_context(place, f"client{number}", tail) for number in range(_CLIENTS)]
    server = Server(place)
    server.start()
    assert server.process
    began = time.monotonic()
    with Sampler([server.process.pid], clients=False) as sampler:
        builds = [
            Build(server, context, N=f"{context.name}.{number}")
            for context in contexts
            for number in range(_EACH)
        ]
        seen = [build.wait() for build in builds]
    took = time.monotonic() - began
    server.end(signal.SIGTERM)
    failed = [one for one in seen if one.code != 0]
    for one in failed[:3]:
        print(one.code, one.text[-500:], file=sys.stderr)
    peak = sampler.peak_bytes / 1e6
    print(
        f"{len(builds)} builds of {_CLIENTS} clients at once: {len(failed)} failed, {took:.1f} s,"
    )
    print(f"  the server's processes had {peak:.0f} MB at most")
    return not failed and peak < 1000


def kills(place: Path, count: int) -> bool:
    """Kill the server in the middle of builds; tell whether nothing that was done is done again."""
    tail = "ARG N\n" + "".join(f"RUN sleep 0.05; echo $N > /{n}\n" for n in range(40))
    context = _context(place, "killed", tail)
    server = Server(place)
    server.start()
    starts: list[float] = []
    missed: list[str] = []
    finished = 0
    for number in range(count):
        builds = [Build(server, context, N=f"{number}.{which}") for which in range(4)]
        time.sleep(0.4 + 0.15 * (number % 8))
        server.end(signal.SIGKILL)
        before = [build.wait() for build in builds]
        starts.append(server.start())
        again = [Build(server, context, N=f"{number}.{which}") for which in range(4)]
        for old, new in zip(before, [build.wait() for build in again], strict=True):
            if new.code != 0:
                raise SystemExit(f"after kill {number}: {new.text[-1000:]}")
            steps = {d for d in old.done if "[internal]" not in old.names[d]}
            finished += len(steps)
            missed += [old.names[digest] for digest in steps - new.cached]
    server.end(signal.SIGTERM)
    starts.sort()
    print(
        f"{count} kills under load: {finished} steps were done, {len(missed)} of them done again,"
    )
    print(f"  ready again after {starts[len(starts) // 2]:.2f} s, {starts[-1]:.2f} s at most")
    for name in missed[:5]:
        print(f"  lost: {name}")
    return not missed and starts[-1] < 1


def main() -> int:
    """Do both; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--dir", help="where the store lies")
    options = parser.parse_args()
    if not shutil.which("buildctl") or os.geteuid():
        raise SystemExit("buildctl on PATH and root are needed")
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="pybuild-server-") as name:
        (Path(name) / "many").mkdir()
        (Path(name) / "kills").mkdir()
        good = [many(Path(name) / "many"), kills(Path(name) / "kills", options.kills)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
