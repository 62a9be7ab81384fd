"""Simulate builds on thousands of workers: ``python -m benchmarks.clustersim [--workers 10000] [--out DIR]``.

Discrete events, with the placer that a coordinator has. Cells of workers are apart from each other: a build goes
to one of them whole, by rendezvous hash of its project or at random. Steps and bytes are log-normal, projects
Zipf's. Figures: the share of slots that ran steps, of input bytes that moved, of builds that met a cell which had
built their project, the seconds that steps waited, and the processor time of one placing.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from benchmarks import plot
from pybuild.cluster.placing import BYTES_PER_S, Candidate, Needs, place
from pybuild.model.platform import LINUX_AMD64

SLOTS = 4
PROJECTS = 5000
_FULL = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulation.

    Attributes:
        load: work that arrives over what the slots can do.
        routed: whether builds go to their project's cell.
    """

    workers: int
    cell: int
    seconds: float
    load: float = 0.7
    routed: bool = True
    seed: int = 1


@dataclass(slots=True)
class Cell:
    """Workers that share their layers, and the steps that wait for them."""

    workers: list[Candidate]
    waiting: list[Step] = field(default_factory=list["Step"])
    projects: set[int] = field(default_factory=set[int])
    busy: int = 0


@dataclass(slots=True, kw_only=True)
class Step:
    """A step of a build, and those of its stage that follow."""

    project: int
    stage: int
    inputs: tuple[str, ...]
    seconds: float
    ready: float
    after: list[float]


@dataclass(slots=True)
class Result:
    """The sums of a simulation."""

    slot_s: float = 0.0
    moved: int = 0
    needed: int = 0
    builds: int = 0
    warm: int = 0
    waits: list[float] = field(default_factory=list[float])
    placings: int = 0
    placing_s: float = 0.0


class Simulation:
    """Carries a plan out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._cells = [
            Cell([_worker(cell, number) for number in range(plan.cell)])
            for cell in range(max(1, plan.workers // plan.cell))
        ]
        self._sizes: dict[str, int] = {}
        self._events: list[tuple[float, int, Cell, Step | None, int]] = []
        self._numbers = itertools.count()
        self._names = itertools.count()
        weights = [1.0 / rank for rank in range(1, PROJECTS + 1)]
        self._weights = list(itertools.accumulate(weights))
        self.result = Result()

    def run(self) -> Result:
        """Let builds arrive for the plan's time, and return what happened until then."""
        plan, now = self._plan, 0.0
        per_build = 8 * 3.6  # seconds of all steps of a build, on average
        rate = plan.load * len(self._cells) * plan.cell * SLOTS / per_build
        arrival = self._chance.expovariate(rate)
        while arrival < plan.seconds:
            while self._events and self._events[0][0] <= arrival:
                now, _, cell, step, worker = heapq.heappop(self._events)
                self._ended(now, cell, step, worker)
            self._arrive(arrival)
            arrival += self._chance.expovariate(rate)
        return self.result

    def _arrive(self, now: float) -> None:
        project = self._chance.choices(range(PROJECTS), cum_weights=self._weights)[0]
        cell = self._route(project)
        self.result.builds += 1
        self.result.warm += project in cell.projects
        cell.projects.add(project)
        base = f"base{project % 40}"
        self._sizes.setdefault(base, int(self._chance.lognormvariate(18.2, 0.7)))
        for stage in range(4):
            seconds = [self._chance.lognormvariate(0.8, 1.0) for _ in range(2)]
            step = Step(
                project=project,
                stage=stage,
                inputs=(base,),
                seconds=seconds[0],
                ready=now,
                after=seconds[1:],
            )
            cell.waiting.append(step)
        self._serve(now, cell)

    def _route(self, project: int) -> Cell:
        if not self._plan.routed:
            return self._chance.choice(self._cells)

        def score(number: int) -> bytes:
            return blake2b(f"{project}/{number}".encode(), digest_size=8).digest()

        best = sorted(range(len(self._cells)), key=score, reverse=True)[:8]
        room = self._plan.cell * SLOTS
        cells = [self._cells[number] for number in best]
        return next(
            (cell for cell in cells if cell.busy < _FULL * room),
            min(cells, key=lambda cell: cell.busy),
        )

    def _serve(self, now: float, cell: Cell) -> None:
        room = len(cell.workers) * SLOTS
        while cell.waiting and cell.busy < room:
            step = cell.waiting.pop(0)
            needs = Needs(platform=LINUX_AMD64, deltas=step.inputs, seconds=step.seconds)
            began = time.process_time()
            chosen = place(needs, cell.workers, self._sizes).worker
            self.result.placing_s += time.process_time() - began
            self.result.placings += 1
            if chosen is None:  # a holder is worth waiting for, or nothing fits
                cell.waiting.append(step)
                return
            self._begin(now, cell, step, cell.workers.index(chosen))

    def _begin(self, now: float, cell: Cell, step: Step, number: int) -> None:
        worker, result = cell.workers[number], self.result
        missing = [delta for delta in step.inputs if delta not in worker.has]
        moved = sum(self._sizes[delta] for delta in missing)
        result.moved += moved
        result.needed += sum(self._sizes[delta] for delta in step.inputs)
        result.waits.append(now - step.ready)
        result.slot_s += step.seconds
        assert isinstance(worker.has, set)
        worker.has.update(missing)
        cell.workers[number] = _with_busy(worker, worker.busy + 1)
        cell.busy += 1
        end = now + moved / BYTES_PER_S + step.seconds
        heapq.heappush(self._events, (end, next(self._numbers), cell, step, number))

    def _ended(self, now: float, cell: Cell, step: Step | None, number: int) -> None:
        worker = cell.workers[number]
        cell.workers[number] = _with_busy(worker, worker.busy - 1)
        cell.busy -= 1
        if step is not None and step.after:
            made = f"d{next(self._names)}"
            self._sizes[made] = int(self._chance.lognormvariate(16.0, 1.5))
            assert isinstance(worker.has, set)
            worker.has.add(made)
            following = Step(
                project=step.project,
                stage=step.stage,
                inputs=(*step.inputs, made),
                seconds=step.after[0],
                ready=now,
                after=step.after[1:],
            )
            cell.waiting.insert(0, following)
        self._serve(now, cell)


def _worker(cell: int, number: int) -> Candidate:
    return Candidate(
        address=f"{cell}/{number:05}", platforms=(LINUX_AMD64,), slots=SLOTS, busy=0, has=set()
    )


def _with_busy(worker: Candidate, busy: int) -> Candidate:
    return Candidate(
        address=worker.address,
        platforms=worker.platforms,
        slots=worker.slots,
        busy=busy,
        has=worker.has,
    )


def figures(plan: Plan) -> dict[str, float]:
    """Return the figures of a plan."""
    result = Simulation(plan).run()
    waits = sorted(result.waits) or [0.0]
    slots = plan.workers * SLOTS * plan.seconds
    return {
        "workers": plan.workers,
        "cell": plan.cell,
        "builds": result.builds,
        "steps": len(result.waits),
        "offered": round(result.slot_s / slots, 3),
        "moved": round(result.moved / max(1, result.needed), 3),
        "warm": round(result.warm / max(1, result.builds), 3),
        "wait_p50_s": round(waits[len(waits) // 2], 3),
        "wait_p99_s": round(waits[len(waits) * 99 // 100], 3),
        "placing_ms": round(1000 * result.placing_s / max(1, result.placings), 3),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(prog="clustersim", description=__doc__)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--cells", default="50,100,200,500", help="workers in each cell")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", help="directory for clustersim.json and clustersim.svg")
    options = parser.parse_args(words)
    rows: list[dict[str, float]] = []
    for size in map(int, options.cells.split(",")):
        for routed in (True, False):
            plan = Plan(workers=options.workers, cell=size, seconds=options.seconds, routed=routed)
            row = {"routed": routed, **figures(plan)}
            print(json.dumps(row), flush=True)
            rows.append(row)
    if options.out:
        write(Path(options.out), rows)
    return 0


def write(out: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write the figures, and a plot of warm builds and of a placing's time over the cell's size."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "clustersim.json").write_text(json.dumps(list(rows), indent=2) + "\n")
    routed = [row for row in rows if row["routed"]]
    lines = {
        "warm share, routed by project": [(row["cell"], row["warm"]) for row in routed],
        "warm share, at random": [(row["cell"], row["warm"]) for row in rows if not row["routed"]],
        "ms of one placing": [(row["cell"], row["placing_ms"]) for row in routed],
    }
    workers = int(rows[0]["workers"])
    title = f"{workers:,} workers in cells: builds that meet a warm cell, and the placer's time"
    (out / "clustersim.svg").write_text(plot.curves(title, "workers in a cell", "", lines))


if __name__ == "__main__":
    raise SystemExit(main())
