"""Builds that write a cache are killed at random moments; how much of their work is lost [CCH].

Issue 6, show 4, in full: ``python -m tests.e2e.killedcaches --kills 200 --seed 1``.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.caches import Machines
from tests.harness import Pybuild, make_base, remove_store, write
from tests.services import start_registry

_LINE = re.compile(r"#(\d+) (.*)")
LONGEST_S = 3.2


@dataclass
class Watched:
    """The lines of a build about its steps, with their times: seconds of the monotonic clock."""

    names: dict[str, str] = field(default_factory=dict[str, str])
    done: dict[str, float] = field(default_factory=dict[str, float])
    cached: set[str] = field(default_factory=set[str])
    one_ran: threading.Event = field(default_factory=threading.Event)

    def hear(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None:
            return
        number, rest = match.groups()
        self.names.setdefault(number, rest)
        name = self.names[number]
        if rest.startswith("CACHED"):
            self.cached.add(name)
        elif rest.startswith("DONE") and "] RUN " in name:
            self.done[name] = time.monotonic()
            if name not in self.cached:
                self.one_ran.set()

    @property
    def ran(self) -> dict[str, float]:
        """When each RUN that ran had ended."""
        return {name: when for name, when in self.done.items() if name not in self.cached}


@dataclass(frozen=True)
class Kill:
    """One build that was killed, and the build after it.

    Attributes:
        finished: steps that had been announced as done by then.
        lost_ages_s: of those that had to run again: how long before the kill each was announced.
        ended: the build was done before it was to be killed.
    """

    finished: int
    lost_ages_s: tuple[float, ...]
    ended: bool


def dockerfile(salt: str) -> str:
    """Return two branches of steps of different lengths, and one stage of both."""
    lines: list[str] = []
    for branch, seconds in (("a", (0.1, 0.4, 0.2, 0.6, 0.1)), ("b", (0.3, 0.5, 0.1, 0.1, 0.7))):
        lines.append(f"FROM base AS {branch}")
        for at, length in enumerate(seconds):
            command = f"sleep {length} && cat /proc/sys/kernel/random/uuid > /{branch}{at}"
            lines.append(f"RUN echo {salt} && {command}")
    lines += ["FROM a", "COPY --from=b /b4 /", "RUN sleep 0.3 && cat /a4 /b4 > /made"]
    return "\n".join(lines) + "\n"


def kill(
    machines: Machines, place: str, salt: str, moment_s: float, *, since_one_ran: bool = False
) -> Kill:
    """Kill a build on an empty store after so long, and build the same on another one."""
    write(machines.context, Dockerfile=dockerfile(salt))
    first, when = _run(machines, place, moment_s, since_one_ran=since_one_ran)
    second, _ = _run(machines, place, None)
    finished = {name: ended for name, ended in first.ran.items() if ended <= when}
    lost = [when - ended for name, ended in finished.items() if name in second.ran]
    return Kill(len(finished), tuple(sorted(lost)), when == float("inf"))


def _run(
    machines: Machines, place: str, moment_s: float | None, *, since_one_ran: bool = False
) -> tuple[Watched, float]:
    machine = machines.fresh()
    words = ("build", "--progress=plain", "--cache", place, "-o", "type=cacheonly")
    watched, killed_at = Watched(), float("inf")
    with subprocess.Popen(
        machine.command(*words, machines.context),
        env=machine.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None

        def hear(lines: Iterator[str]) -> None:
            for line in lines:
                watched.hear(line)

        listener = threading.Thread(target=hear, args=(process.stderr,))
        listener.start()
        if since_one_ran:
            watched.one_ran.wait(60)
        try:
            code = process.wait(moment_s if moment_s is not None else 120)
        except subprocess.TimeoutExpired:
            killed_at = time.monotonic()
            process.send_signal(signal.SIGKILL)
            code = process.wait(60)
        listener.join()
    assert code in (0, -signal.SIGKILL), code
    if machine.store.exists():
        remove_store(machine.store)
    return watched, killed_at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="builds that were not done by then")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=LONGEST_S, help="seconds until a kill")
    parser.add_argument("--directory", action="store_true", help="instead of a registry")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        base = Pybuild(where / "base")
        make_base(base, where / "base-context", "base")
        machines = Machines(where, base.store)
        registry = None
        began = time.monotonic()
        try:
            while sum(not one.ended for one in found) < options.kills:
                number = len(found)
                if not number % 20 and not options.directory:  # one lives five minutes
                    if registry is not None:
                        registry.stop()
                    registry = start_registry(where)
                host = "" if registry is None else registry.host
                place = f"{host}/killed/cache:1" if host else str(where / "cache")
                moment_s = chance.uniform(0.2, options.longest)
                found.append(kill(machines, place, f"{options.seed}-{number}", moment_s))
                print(number, found[-1], flush=True)
        finally:
            if registry is not None:
                registry.stop()
    killed = [one for one in found if not one.ended]
    ages = sorted(age for one in killed for age in one.lost_ages_s)
    whole = sum(not one.lost_ages_s for one in killed)
    early = sum(not one.finished for one in killed)
    print(f"{len(killed)} builds killed of {len(found)}, {time.monotonic() - began:.0f} s")
    print(f"steps that were announced as done by then: {sum(one.finished for one in killed)}")
    print(f"builds that were killed before they had announced any: {early}")
    print(f"builds that lost none of them: {whole}")
    print(f"announced steps that ran again: {len(ages)}")
    if ages:
        print(f"they were announced before the kill by: median {ages[len(ages) // 2]:.2f} s,")
        print(f"  longest {ages[-1]:.2f} s")
    return 1 if ages else 0


if __name__ == "__main__":
    sys.exit(main())
