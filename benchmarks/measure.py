"""Let builders take turns at workloads, and keep their figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.builder import Builder, CommandFailed
from benchmarks.place import settle, trim
from benchmarks.processes import Sampler, processor_seconds
from benchmarks.site import Missing, Site
from benchmarks.workload import Workload


@dataclass(slots=True)
class Figures:
    """One builder's figures for one workload.

    Attributes:
        seconds: one for each round.
        processor: processor time in each round, the steps' included.
        peak_bytes: the most memory, in a round of its own.
        layer_bytes: of the last result; 0 where layers are not compared.
        failed: why there is nothing more; "" if there is.
    """

    seconds: list[float] = field(default_factory=list[float])
    processor: list[float] = field(default_factory=list[float])
    peak_bytes: int = 0
    layer_bytes: int = 0
    failed: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else 0.0


def measure(
    workload: Workload,
    builders: Sequence[Builder],
    rounds: int,
    say: Callable[[str], None],
) -> dict[str, Figures]:
    """Measure one workload; a builder that fails it is left out of it, with its reason."""
    figures = {builder.name: Figures() for builder in builders}
    site = workload.site
    try:
        workload.prepare()
    except Missing as missing:
        for figure in figures.values():
            figure.failed = str(missing)
        return figures
    going = list(builders)

    def attempt(builder: Builder, do: Callable[[], None]) -> None:
        try:
            do()
        except CommandFailed as failure:
            figures[builder.name].failed = str(failure)
            going.remove(builder)
            say(f"{workload.name}: {builder.name} fails: {failure}")

    for builder in list(going):
        attempt(builder, partial(workload.warm, builder))
    for turn in range(1, rounds + 1):
        first = turn % max(1, len(going))
        for builder in [*going[first:], *going[:first]]:
            attempt(builder, partial(_timed, workload, builder, turn, figures[builder.name]))
    for builder in list(going):
        attempt(builder, partial(_weighed, workload, builder, rounds + 1, builders, figures))
    for builder in builders:
        builder.forget()
    trim(site.place)
    return figures


def _timed(workload: Workload, builder: Builder, turn: int, figures: Figures) -> None:
    workload.before(builder, turn)
    settle(workload.site.place)
    daemons = builder.daemons()
    used = processor_seconds(daemons)
    began = time.perf_counter()
    workload.run(builder)
    figures.seconds.append(time.perf_counter() - began)
    figures.processor.append(processor_seconds(daemons) - used)


def _weighed(
    workload: Workload,
    builder: Builder,
    turn: int,
    all_of_them: Sequence[Builder],
    figures: dict[str, Figures],
) -> None:
    """Run once more and watch the memory, which would disturb the clock."""
    workload.before(builder, turn)
    others = [pid for other in all_of_them for pid in other.daemons()]
    with Sampler(builder.daemons(), [*others, *workload.site.pids()]) as sampler:
        workload.run(builder)
    figures[builder.name].peak_bytes = sampler.peak_bytes
    figures[builder.name].layer_bytes = workload.layer_bytes(builder)


def run(
    site: Site,
    kinds: Sequence[type[Workload]],
    builders: Sequence[Builder],
    rounds: int,
    say: Callable[[str], None],
    *,
    size: float = 1.0,
) -> dict[str, dict[str, Figures]]:
    """Measure all *kinds*, one after the other."""
    figures: dict[str, dict[str, Figures]] = {}
    for kind in kinds:
        say(f"{kind.name}: {(kind.__doc__ or '').strip().splitlines()[0]}")
        began = time.perf_counter()
        figures[kind.name] = measure(kind(site, size), builders, rounds, say)
        medians = ", ".join(f"{name} {f.median:.3f} s" for name, f in figures[kind.name].items())
        say(f"{kind.name}: {medians} ({time.perf_counter() - began:.0f} s in all)")
    return figures
