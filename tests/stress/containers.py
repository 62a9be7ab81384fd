"""Containers in numbers, and killed; prints what went wrong.

    python -m tests.stress.containers runs --count 500
    python -m tests.stress.containers many --count 200 --rounds 5 [--network none|bridge|own]
    python -m tests.stress.containers kills --count 1000 --seed 1 [--network …] [--plain-user]

*runs* counts lost bytes and statuses, in front and in the background. *many* starts containers at once
and removes them, and counts what is left; with a bridge on a machine of its own: the default one, or
one of a network that was made. *kills* ends commands, monitors, the spawner and helpers of networks by
SIGKILL, in an order that the seed gives, and counts containers, lines of logs and states that are not
as they were. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.e2e.networked import NetworkedPybuild, devices, network_namespace
from tests.e2e.rootlessnetworks import rootless_machine
from tests.harness import Pybuild, leftovers, make_base

_AT_ONCE = 4
_ID_LENGTH = 64
_SETTLE_S = 60.0
_SCRIPT = "echo out; echo err >&2; exit 7"
_COUNTS = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
_LINE = re.compile(r"line (\d+)\n")


@dataclass
class Summary:
    """The outcome: *wrong* in words, *done* in numbers."""

    wrong: list[str] = field(default_factory=list[str])
    done: dict[str, float] = field(default_factory=dict[str, float])

    def count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1


def settled(is_so: Callable[[], bool]) -> bool:
    """Wait until it is so; tell whether it came to be."""
    end = time.monotonic() + _SETTLE_S
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- many short ones ------------------------------------------------------------------------------


def short_runs(pybuild: Pybuild, count: int, summary: Summary) -> None:
    """Run a container *count* times in front, and as often in the background."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for problem in pool.map(partial(_short_run, pybuild), range(2 * count)):
            summary.count("runs")
            summary.wrong += problem


def _short_run(pybuild: Pybuild, number: int) -> list[str]:
    words = ("run", "--rm", "base", "sh", "-c", _SCRIPT)
    if number % 2 == 0:
        done = pybuild(*words, code=None)
        seen: tuple[object, ...] = (done.code, done.out, done.err)
    else:
        id = pybuild("run", "-d", "base", "sh", "-c", _SCRIPT).out.strip()
        status = pybuild("wait", id).out
        logs = pybuild("logs", id)
        pybuild("rm", id)
        seen = (int(status), logs.out, logs.err)
    return [] if seen == (7, "out\n", "err\n") else [f"run {number}: {seen!r}"]


# --- many at once ---------------------------------------------------------------------------------


def many_at_once(
    pybuild: Pybuild, count: int, rounds: int, summary: Summary, options: Sequence[str] = ()
) -> None:
    """Start *count* containers and remove them, *rounds* times; nothing may be left of them."""
    store = pybuild.store
    for turn in range(rounds):
        began = time.monotonic()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ids = list(pool.map(partial(_start, pybuild, options), range(count)))
        summary.done["start_s"] = time.monotonic() - began
        rows = pybuild("ps", "--no-trunc", "--format", "{{.ID}} {{.State}}").out.splitlines()
        if sorted(rows) != sorted(f"{id} running" for id in ids):
            summary.wrong.append(f"round {turn}: {len(ids)} started, ps shows {len(rows)}")
        for what, pids in (("monitor", monitors(store)), ("helper", helpers(store))):
            sizes = [size for pid in pids if (size := own_kib(pid))]
            summary.done[f"{what}_kib"] = sum(sizes) // max(1, len(sizes))
        began = time.monotonic()
        pybuild("rm", "-f", *ids, timeout=600)
        summary.done["remove_s"] = time.monotonic() - began
        if not settled(partial(_is_clean, pybuild, ids)):
            summary.wrong.append(f"round {turn}: left {left(pybuild, ids)[:5]}")
        summary.count("rounds")


def _start(pybuild: Pybuild, options: Sequence[str], number: int) -> str:
    del number
    return pybuild("run", "-d", *options, "base", "sleep", "1000", timeout=600).out.strip()


def left(pybuild: Pybuild, ids: Iterable[str]) -> list[str]:
    """Return what is left of containers: files, mounts, processes, cgroups, devices, rules, leases.

    Args:
        ids: theirs, by which cgroups are named.
    """
    store = pybuild.store
    folder, networks = store / "containers", store / "networks"
    files = [path for path in folder.glob("*") if len(path.name) == _ID_LENGTH]
    files += [*(folder / "names").glob("*"), *networks.glob("helpers/*")]
    files += [*networks.glob("*/leases/*"), *networks.glob("*/endpoints/*")]
    found = [*map(str, files), *leftovers(store), *cgroups(ids)]
    if isinstance(pybuild, NetworkedPybuild):
        found += [*devices(pybuild, "veth"), *devices(pybuild, "br-")]
        found += [one for one in pybuild.sh("nft list ruleset").out.splitlines() if "8080" in one]
    return found


def _is_clean(pybuild: Pybuild, ids: Sequence[str]) -> bool:
    return not left(pybuild, ids)


def cgroups(ids: Iterable[str]) -> list[str]:
    """Return the cgroups that containers have, or have left."""
    starts = tuple(f"container-{id[:12]}-" for id in ids)
    # Others' come and go meanwhile: what walk cannot read any more it leaves out.
    places = ((root, name) for root, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return [os.path.join(root, name) for root, name in places if name.startswith(starts)]


def own_kib(pid: int) -> int:
    """Return the memory that is a process's own; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(size) for size in re.findall(r"Private_(?:Clean|Dirty): +(\d+)", text))


def monitors(store: Path) -> list[int]:
    """Return the processes that hold the lock of a container."""
    return _holders((store / "containers").glob("*/lock"))


def helpers(store: Path) -> list[int]:
    """Return the processes beside containers that connect them to networks."""
    return _holders((store / "networks/helpers").glob("*"))


def _holders(paths: Iterable[Path]) -> list[int]:
    """Return the processes that have locks open, but the spawner: who took them first may have ended."""
    names = {str(path) for path in paths}
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            links = {os.readlink(fd) for fd in (entry / "fd").iterdir()}
            if links & names and not any(link.endswith("/spawner.lock") for link in links):
                found.append(int(entry.name))
    return sorted(found)


def spawners(store: Path) -> list[int]:
    """Return the store's spawner, by the log that it writes, without the monitors that it forked."""
    log, own = str(store / "containers/spawner.log"), set(monitors(store))
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if b"containers.spawner" in words and os.readlink(entry / "fd/2") == log:
                found.append(int(entry.name))
    return [pid for pid in found if pid not in own]


# --- kills ----------------------------------------------------------------------------------------


@dataclass
class Kept:
    """A container that counts lines, and what is known of it.

    Attributes:
        lines: that its log had when it was last read.
        torn: what was wrong with it then.
    """

    name: str
    id: str
    lines: int = 0
    torn: list[str] = field(default_factory=list[str])


class Kills:
    """A store whose containers live while commands, monitors and the spawner are killed."""

    def __init__(
        self,
        pybuild: Pybuild,
        seed: int,
        summary: Summary,
        containers: int = 4,
        options: Sequence[str] = (),
    ) -> None:
        self._options = options
        self._pybuild = pybuild
        self._random = random.Random(seed)
        self._summary = summary
        self._lost_both = False
        self._kept = [self._begin(f"kept{number}") for number in range(containers)]

    def _begin(self, name: str) -> Kept:
        words = ("run", "-d", *self._options, "--name", name, "base", "sh", "-c", _COUNTS)
        return Kept(name, self._pybuild(*words).out.strip())

    def run(self, count: int) -> None:
        """Kill *count* times, and look whether all is as it was now and then."""
        kinds = [self._command, self._command, self._monitor, self._spawner, self._both]
        kinds += [self._helper] if self._options else []
        for number in range(count):
            kind = self._random.choice(kinds)
            kind(number)
            self._summary.count(f"kills{kind.__name__}")
            if number % 10 == 9 or number == count - 1:
                self._look(number)
        ids = [kept.id for kept in self._kept]
        self._pybuild("rm", "-f", *ids)
        if not settled(partial(_is_clean, self._pybuild, ids)):
            self._wrong(count, f"left {left(self._pybuild, ids)[:5]}")

    def _wrong(self, number: int, text: str) -> None:
        self._summary.wrong.append(f"kill {number}: {text}")

    def _command(self, number: int) -> None:
        """Kill a command at a moment of its life; whatever it was for is done or not, never half."""
        kept, name = self._random.choice(self._kept), f"brief{number}"
        words = self._random.choice(
            (
                ("run", "-d", *self._options, "--name", name, "base", "sh", "-c", "exit 0"),
                ("run", "-d", *self._options, "--rm", "--name", name, "base", "sleep", "1000"),
                ("run", *self._options, "--rm", "--name", name, "base", "sh", "-c", "exit 0"),
                ("create", *self._options, "--name", name, "base", "true"),
                ("exec", kept.name, "echo", "x"),
                ("restart", "-t", "0", kept.name),
                ("logs", "-f", kept.name),
                ("ps", "-a"),
                ("stop", "-t", "0", kept.name),
                ("start", kept.name),
            )
        )
        with subprocess.Popen(
            self._pybuild.command(*words),
            env=self._pybuild.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._random.uniform(0, 0.4))
            process.kill()
        if words[0] in ("restart", "stop", "start"):
            # A start leaves one as it is that still runs, also where the killed command had its monitor
            # stop it a moment ago, as docker's does: the second stop is told when the first is done.
            self._pybuild("stop", "-t", "0", kept.name)
            self._pybuild("start", kept.name)
            kept.lines = -1
        done = self._pybuild("rm", "-f", name, code=None)
        if done.code not in (0, 1) or (done.code and "no such container" not in done.err.lower()):
            self._wrong(number, f"{words[0]}: rm -f: {done.err}")
        if words[0] == "run" and self._pybuild("inspect", name, code=None).code == 0:
            self._wrong(number, f"{' '.join(words)}: it is there after rm -f")

    def _monitor(self, number: int) -> None:
        del number
        pids = monitors(self._pybuild.store)
        if pids:
            self._kill(self._random.choice(pids))

    def _spawner(self, number: int) -> None:
        del number
        for pid in spawners(self._pybuild.store):
            self._kill(pid)

    def _both(self, number: int) -> None:
        self._spawner(number)
        self._monitor(number)

    def _helper(self, number: int) -> None:
        del number
        pids = helpers(self._pybuild.store)
        if pids:
            self._kill(self._random.choice(pids))

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _look(self, number: int) -> None:
        """Compare what commands say with what must be."""
        listed: list[str] = []

        def all_run() -> bool:
            form = "{{.ID}} {{.Names}} {{.State}}"
            nonlocal listed
            listed = self._pybuild("ps", "-a", "--no-trunc", "--format", form).out.splitlines()
            return sorted(listed) == sorted(f"{k.id} {k.name} running" for k in self._kept)

        if not settled(all_run):
            self._wrong(number, f"ps: {listed}")
        for kept in self._kept:
            self._look_at(number, kept)
        if not settled(lambda: len(monitors(self._pybuild.store)) == len(self._kept)):
            self._wrong(number, f"monitors: {monitors(self._pybuild.store)}")

    def _look_at(self, number: int, kept: Kept) -> None:
        (known,) = json.loads(self._pybuild("inspect", kept.name).out)
        state: dict[str, Any] = known["State"]
        if not state["Running"] or not Path(f"/proc/{state['Pid']}").exists():
            self._wrong(number, f"{kept.name}: {state}")
        text = self._pybuild("logs", kept.name).out
        numbers = [int(one) for one in _LINE.findall(text)]
        if _LINE.sub("", text) or gaps(numbers):
            torn = [*_LINE.sub("", text).splitlines(), *gaps(numbers)]
            if torn != kept.torn:
                self._wrong(number, f"{kept.name}: lines are lost or torn: {torn}")
            kept.torn = torn
        if len(numbers) < kept.lines:
            self._wrong(number, f"{kept.name}: the log has shrunk")
        kept.lines = len(numbers)
        if self._pybuild("exec", kept.name, "echo", "here").out != "here\n":
            self._wrong(number, f"{kept.name}: exec says something else")


def gaps(numbers: list[int]) -> list[str]:
    """Return the neighbours of which the second is neither one more, nor the first of another run."""
    return [f"{a}…{b}" for a, b in pairwise(numbers) if b not in (a + 1, 1)]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["runs", "many", "kills"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", choices=["host", "none", "bridge", "own"], default="host")
    parser.add_argument("--plain-user", action="store_true", help="not as root")
    parsed = parser.parse_args(words)
    summary = Summary()
    with ExitStack() as stack:
        options = () if parsed.network == "host" else ("--network", parsed.network)
        if parsed.plain_user:
            pybuild: Pybuild = stack.enter_context(rootless_machine())
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            pybuild = Pybuild(Path(directory) / "store")
            if parsed.network in ("bridge", "own"):
                pid = stack.enter_context(network_namespace())
                pybuild = NetworkedPybuild(pybuild.store, None, pid)
            make_base(pybuild, Path(directory) / "base", "base")
        if parsed.network == "own":
            pybuild("network", "create", "own")
        try:
            if parsed.what == "runs":
                short_runs(pybuild, parsed.count, summary)
            elif parsed.what == "many":
                many_at_once(pybuild, parsed.count, parsed.rounds, summary, options)
            else:
                Kills(pybuild, parsed.seed, summary, options=options).run(parsed.count)
        finally:
            ids = pybuild("ps", "-aq", code=None).out.split()
            if ids:
                pybuild("rm", "-f", *ids, code=None, timeout=600)
            settled(lambda: not leftovers(pybuild.store))
    print(json.dumps({"wrong": summary.wrong, **summary.done}, indent=1))
    return 1 if summary.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
