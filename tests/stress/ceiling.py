"""Random builds by several builders on one store below a ceiling; prints a summary.

    python -m tests.stress.ceiling --builds 1000 --builders 4 --ceiling 2GB

Builders are killed now and then, images lose their names, and prunes run in between. What the disk
itself says is sampled every few milliseconds. The exit code is 1 if the store was above 102 % of
its ceiling, or anything but a refusal for want of room went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pybuild.model.amounts import parse_size
from tests.harness import ROOT, Pybuild, make_base, write
from tests.stress.disks import ext4, used, why_not
from tests.stress.randombuilds import Plans

_CEILING = "(--cache-max)"


@dataclass
class Summary:
    """The outcome.

    Attributes:
        ended: how builds ended: done, refused, killed, or what was wrong.
        highest: bytes that the disk said were taken, at most.
    """

    builds: int
    ceiling: int
    ended: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    cached: int = 0
    ran: int = 0
    highest: int = 0
    samples: int = 0
    during_large: bool = False
    kept: int = 0
    seconds: float = 0.0
    drift: float = 0.0

    @property
    def good(self) -> bool:
        return not self.wrong and self.highest <= self.ceiling * 1.02

    def text(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.ended.items()))
        steps = self.cached + self.ran
        lines = [
            f"builds      {self.builds} in {self.seconds:.0f} s: {counts}",
            f"steps       {steps}, of which {self.cached} cached",
            f"highest     {self.highest / self.ceiling:.2%} of {self.ceiling / 1e6:.0f} MB",
            f"            ({self.samples} samples of what the disk says; the highest "
            + ("while a build was too large)" if self.during_large else "in ordinary builds)"),
            f"kept images {self.kept}, each verified",
            f"du and df   differ by {self.drift:.2%} at the end",
            f"wrong       {len(self.wrong)}",
            *(f"  {line}" for line in self.wrong[:20]),
        ]
        return "\n".join(lines) + "\n"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Sampler:
    """Asks the disk, all the time."""

    def __init__(self, place: Path, work: Path) -> None:
        self._place = place
        self._work = work
        self._empty = used(place)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.highest = self.samples = 0
        self.running: list[int] = []

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.004):
            self.samples += 1
            if (now := self.now()) > self.highest:
                self.highest = now
                self.running = [int(p.name) for p in self._work.glob("[0-9]*") if not _size(p)]

    def now(self) -> int:
        return used(self._place) - self._empty

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def run(
    *,
    builds: int,
    builders: int,
    ceiling: int,
    unit: int,
    seed: int,
    kills: int,
    where: Path,
    patience: float,
) -> Summary:
    """Do it all on a new ext4 in *where*, within *patience* seconds."""
    summary = Summary(builds, ceiling)
    begun = time.monotonic()
    plans = Plans(seed, unit, ceiling)
    plans.context(where / "context")
    with ext4(where, ceiling * 5 // 2) as disk:
        work = where / "work"
        work.mkdir()
        sampler = Sampler(disk, work)
        pybuild = Pybuild(disk / "store")
        make_base(pybuild, where / "plain", "plain")
        dockerfile = "FROM plain\nRUN for t in yes head sha256sum printf; do "
        dockerfile += "busybox ln -sf busybox /bin/$t; done; mkdir /files\n"
        pybuild("build", "-t", "base", write(where / "base", Dockerfile=dockerfile))
        sampler.start()
        chance = random.Random(seed)
        command = [sys.executable, "-m", "tests.stress.ceiling", "--builder", str(where)]
        command += ["--seed", str(seed), "--ceiling", str(ceiling), "--builds", str(builds)]
        command += ["--unit", str(unit)]
        living: dict[int, subprocess.Popen[bytes]] = {}
        kill_at = sorted(chance.sample(range(builds), kills))
        prune_at = list(range(builds // 8, builds, max(1, builds // 8)))
        try:
            while True:
                for number in range(builders):
                    process = living.get(number)
                    if process is None or (process.poll() is not None and process.returncode):
                        living[number] = subprocess.Popen(
                            command, cwd=ROOT, env=pybuild.environment, start_new_session=True
                        )
                taken = len(list(work.iterdir()))
                if kill_at and taken >= kill_at[0]:
                    kill_at.pop(0)
                    os.kill(chance.choice(list(living.values())).pid, signal.SIGKILL)
                if prune_at and taken >= prune_at[0]:
                    prune_at.pop(0)
                    slot = f"kept:{chance.randrange(6)}"
                    pybuild("rmi", "--force", slot, timeout=600)
                    pybuild("prune", "--force", "--max-used-space", str(ceiling // 2), timeout=600)
                if all(process.poll() == 0 for process in living.values()):
                    break
                if time.monotonic() - begun > patience:
                    summary.wrong.append(f"not done after {patience:.0f} s")
                    break
                time.sleep(0.05)
            _tell(summary, work, plans)
            _verify(summary, pybuild, sampler)
        finally:
            for process in living.values():
                process.kill()
                process.wait()
            sampler.close()
        summary.highest, summary.samples = sampler.highest, sampler.samples
        summary.during_large = any(plans.plan(number).too_large for number in sampler.running)
    summary.seconds = time.monotonic() - begun
    return summary


def _tell(summary: Summary, work: Path, plans: Plans) -> None:
    for number in range(summary.builds):
        path = work / str(number)
        text = path.read_text() if path.exists() else ""
        told: dict[str, Any] = json.loads(text) if text else {}
        error = str(told.get("error", "killed" if path.exists() else ""))
        summary.cached += int(told.get("cached", 0))
        summary.ran += int(told.get("ran", 0))
        if error == "" and path.exists():
            summary.ended["done"] += 1
            if plans.plan(number).too_large:
                summary.wrong.append(f"build {number} is too large and was done")
        elif error == "killed":
            summary.ended["killed"] += 1
        elif _CEILING in error:
            summary.ended["refused"] += 1
        else:
            summary.ended["failed"] += 1
            summary.wrong.append(f"build {number}: {error or 'never begun'}")


def _verify(summary: Summary, pybuild: Pybuild, sampler: Sampler) -> None:
    rows = [json.loads(line) for line in _lines(pybuild, "images")]
    for name in sorted(f"{row['repository']}:{row['tag']}" for row in rows if row["tag"]):
        checked = pybuild("inspect", "--check", name, code=None, timeout=600)
        summary.kept += 1
        if checked.code:
            summary.wrong.append(f"image {name}: {checked.err}")
    said = sum(row["size"] for row in map(json.loads, _lines(pybuild, "du")))
    os.sync()
    summary.drift = abs(sampler.now() - said) / max(1, sampler.now())


def _lines(pybuild: Pybuild, command: str) -> list[str]:
    return pybuild(command, "--format", "json", timeout=600).out.splitlines()


# --- one builder --------------------------------------------------------------------------------


async def _builder(where: Path, seed: int, unit: int, ceiling: int, builds: int) -> None:
    """Take builds that nobody has taken, one after the other."""
    from pybuild.api import run_request
    from pybuild.builds.request import BuildRequest
    from pybuild.engine.settings import load_settings
    from pybuild.exporter.output import parse_output
    from pybuild.model.errors import PybuildError
    from pybuild.model.events import Event, VertexCached, VertexCompleted
    from pybuild.model.reference import Reference

    plans = Plans(seed, unit, ceiling)
    settings = load_settings(cache_max=str(ceiling))
    for number in range(builds):
        path = where / "work" / str(number)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        plan = plans.plan(number)
        told: Counter[str] = Counter()
        ended = ""

        def count(event: Event, told: Counter[str] = told) -> None:
            if isinstance(event, VertexCached | VertexCompleted):
                told["cached" if isinstance(event, VertexCached) else "ran"] += 1

        request = BuildRequest(
            context=str(where / "context"),
            dockerfile_text=plan.dockerfile,
            tags=(Reference.parse(plan.tag),) if plan.tag else (),
            outputs=() if plan.tag else (parse_output("type=cacheonly"),),
        )
        try:
            await run_request(request, settings, count)
        except PybuildError as error:
            ended = error.message
        except Exception as error:  # noqa: BLE001 - that is what we are looking for
            ended = f"{type(error).__name__}: {error}"
        partial = path.with_name(f".{number}")
        partial.write_text(json.dumps({**told, "error": ended}))
        partial.rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=1000)
    parser.add_argument("--builders", type=int, default=4)
    parser.add_argument("--ceiling", default="2GB")
    parser.add_argument("--unit", type=int, help="scale of what steps write, in bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--patience", type=float, default=7200.0)
    parser.add_argument("--builder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    ceiling = parse_size(options.ceiling, 0)
    unit = options.unit or ceiling // 400
    if options.builder:
        import uvloop

        uvloop.run(_builder(options.builder, options.seed, unit, ceiling, options.builds))
        return 0
    if why_not():
        sys.stderr.write(f"{why_not()}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="pybuild-stress-") as where:
        summary = run(
            builds=options.builds,
            builders=options.builders,
            ceiling=ceiling,
            unit=unit,
            seed=options.seed,
            kills=options.kills,
            where=Path(where),
            patience=options.patience,
        )
    sys.stdout.write(summary.text())
    return 0 if summary.good else 1


if __name__ == "__main__":
    asyncio.set_event_loop(None)
    sys.exit(main())
