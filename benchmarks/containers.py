"""Measure containers from the command line: pybuild, and beside it docker and podman where they are.

    scripts/bench containers [--times 20] [--many 200] [--dir DIR]

Commands take turns, so that whatever else the machine does meets all alike. What is printed is the
median and the least, in milliseconds. Docker's engine is one of its own, in namespaces of its own. The
last row is memory of ours alone (`memory`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_TIMEOUT_S = 120
_READY_S = 60
_SLEEPS = ("sleep", "1000")


class Engine:
    """A command that runs containers: its words, and those that a store or a server needs."""

    def __init__(self, name: str, *words: str, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._words = words
        self._env = {**os.environ, **(env or {})}
        # Where this is set, each command compiles all of pybuild anew.
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)

    def __call__(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [*self._words, *words],
            env=self._env,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def timed(self, *words: str) -> float:
        began = time.perf_counter()
        self(*words)
        return time.perf_counter() - began


@contextmanager
def docker(where: Path) -> Generator[Engine]:
    """Yield docker with an engine of its own."""
    address, log = f"unix://{where}/docker.sock", (where / "dockerd.log").open("wb")
    words = ["unshare", "-n", "-m", "dockerd", "--host", address, "--pidfile", f"{where}/pid"]
    words += ["--data-root", f"{where}/data", "--exec-root", f"{where}/exec"]
    with log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        engine = Engine("docker", "docker", env={"DOCKER_HOST": address})
        try:
            end = time.monotonic() + _READY_S
            while time.monotonic() < end and process.poll() is None:
                with suppress(RuntimeError):
                    engine("version")
                    break
                time.sleep(0.2)
            yield engine
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_TIMEOUT_S)


def rounds(engines: list[Engine], times: int, work: Callable[[Engine], float]) -> list[list[float]]:
    """Return the seconds of each engine; they take turns, and the first turn of each counts not."""
    seconds: list[list[float]] = [[] for _ in engines]
    for turn in range(times + 1):
        for index, engine in enumerate(engines):
            took = work(engine)
            if turn:
                seconds[index].append(took)
    return seconds


def start_and_stop(engine: Engine) -> float:
    began = time.perf_counter()
    engine("start", "bench")
    engine("stop", "-t", "0", "bench")
    return time.perf_counter() - began


def first_in_a_while(engine: Engine) -> float:
    """Return the seconds of a run when our spawner has left, which it does after three seconds."""
    time.sleep(4)
    return engine.timed("run", "--rm", "bench", "true")


def memory(engine: Engine) -> tuple[int, int]:
    """Return the private and the proportional KB of all our processes, for each running container.

    These are the spawner and whatever it began that runs the same interpreter: monitors, awake or
    asleep, and the helpers of networks. Monitors sleep after three seconds.
    """
    time.sleep(6)
    ids = engine("ps", "-q").split()
    firsts = engine("inspect", "--format", "{{.State.Pid}}", *ids).split()
    parents = {
        entry.name: _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    spawner = parents[firsts[0]]  # or a monitor
    while _program(parents[spawner]) == _program(spawner):
        spawner = parents[spawner]
    private = proportional = 0
    for pid in parents:
        one = pid
        while one not in ("0", "", spawner):
            one = parents.get(one, "")
        if one != spawner or _program(pid) != _program(spawner):
            continue
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, amount = line.split(":")[0], int(line.split()[1])
            private += amount if name.startswith("Private_") else 0
            proportional += amount if name == "Pss" else 0
    return private // len(firsts), proportional // len(firsts)


def _parent(entry: Path) -> str:
    """Return the number of a process's parent, "" where it has ended meanwhile."""
    with suppress(OSError):
        return (entry / "stat").read_text().rpartition(")")[2].split()[1]
    return ""


def _program(pid: str) -> Path | None:
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink()
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--dir", type=Path, default=None)
    parsed = parser.parse_args()
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parsed.dir)))
        own = Engine("pybuild", sys.executable, "-P", "-m", "pybuild", "--root", f"{where}/store")
        installed = shutil.which("pybuild", path=str(Path(sys.executable).parent))
        if installed:
            own = Engine("pybuild", installed, env={"PYBUILD_ROOT": f"{where}/store"})
        engines = [own]
        if shutil.which("dockerd") and shutil.which("docker"):
            engines.append(stack.enter_context(docker(where)))
        if shutil.which("podman"):
            engines.append(Engine("podman", "podman", "--root", f"{where}/podman"))
        root = where / "root"
        (root / "bin").mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), root / "bin/busybox")
        for tool in ("sh", "true", "sleep"):
            (root / "bin" / tool).symlink_to("busybox")
        subprocess.run(["tar", "cf", f"{where}/root.tar", "-C", str(root), "."], check=True)
        for engine in engines:
            engine("import", f"{where}/root.tar", "bench")
        report(engines, parsed.times, parsed.many)
    return 0


def report(engines: list[Engine], times: int, many: int) -> None:
    """Print a table of all that is measured."""
    print("| what | " + " | ".join(engine.name for engine in engines) + " |")
    print("|---|" + "---|" * len(engines))

    def row(
        what: str, work: Callable[[Engine], float], ours_only: bool = False, most: int = times
    ) -> None:
        chosen = engines[:1] if ours_only else engines
        cells = [
            f"{statistics.median(one) * 1000:.0f} ({min(one) * 1000:.0f})"
            for one in rounds(chosen, min(times, most), work)
        ]
        print(f"| {what} | " + " | ".join(cells) + " |", flush=True)

    row("`run --rm busybox true`", lambda engine: engine.timed("run", "--rm", "bench", "true"))
    row("the same, the first in a while", first_in_a_while, ours_only=True, most=5)
    none = ("run", "--rm", "--network", "none", "bench", "true")
    row("the same, `--network none`", lambda engine: engine.timed(*none))
    for engine in engines:
        engine("run", "-d", "--name", "bench", "bench", *_SLEEPS)
    row("`exec bench true`", lambda engine: engine.timed("exec", "bench", "true"))
    for engine in engines:
        engine("stop", "-t", "0", "bench")
    row("`start` and `stop -t 0`", start_and_stop)
    for engine in engines:
        engine("rm", "-f", "bench")
    for _ in range(many):
        engines[0]("run", "-d", "bench", *_SLEEPS)
    row(f"`ps` of {many}", lambda engine: engine.timed("ps"), ours_only=True)
    private, proportional = memory(engines[0])
    print(f"| KB of ours for each of {many}: private, proportional | {private}, {proportional} |")
    engines[0]("rm", "-f", *engines[0]("ps", "-aq").split())


if __name__ == "__main__":
    sys.exit(main())
