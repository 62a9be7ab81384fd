"""How time and memory grow with the work: ``scripts/bench --scale``.

Each step of a scale is about three to ten times the one before, in a store of its own. Measured are
a first build, the same again, and one after a small change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import plot
from benchmarks.builder import Job, Output
from benchmarks.data import write_file, write_tree
from benchmarks.peers import Pybuild
from benchmarks.place import remove, settle, trim
from benchmarks.processes import Sampler, processor_seconds


@dataclass(frozen=True, slots=True)
class Scale:
    """One kind of work that can be more.

    Attributes:
        unit: what there is more of.
        steps: how many of them; the last is what users are promised.
        make: puts so many into a context.
        output: where the result goes.
    """

    unit: str
    steps: tuple[int, ...]
    make: Callable[[Path, int], None]
    output: Output = Output.DEFAULT


@dataclass(frozen=True, slots=True)
class Point:
    """The cost of one size: seconds and seconds of processor, and the most memory of any build.

    A busy machine stretches the former; what grows with the work is the latter.
    """

    size: int
    first: float
    again: float
    changed: float
    first_processor: float
    again_processor: float
    changed_processor: float
    peak_bytes: int


def run(
    place: Path, names: Sequence[str], most: float, say: Callable[[str], None]
) -> dict[str, list[Point]]:
    """Measure the scales, each up to *most* of its largest step."""
    points: dict[str, list[Point]] = {}
    for name in names:
        scale = SCALES[name]
        points[name] = []
        for size in [step for step in scale.steps if step <= most * scale.steps[-1]]:
            points[name].append(_point(place / f"{name}-{size}", scale, size))
            trim(place)
            say(f"{name} {size}: {points[name][-1]}")
    return points


def _point(work: Path, scale: Scale, size: int) -> Point:
    work.mkdir()
    context = work / "context"
    context.mkdir()
    (context / "changing").write_text("0")
    scale.make(context, size)
    builder = Pybuild(work / "store")
    job = Job(context=context, output=scale.output, dest=work / "out.tar")
    seconds: list[float] = []
    processor: list[float] = []
    peak = 0
    for turn in range(3):
        if turn == 2:
            (context / "changing").write_text("1")
        settle(work)
        with Sampler([]) as sampler:
            began, used = time.perf_counter(), processor_seconds(())
            builder.build(job)
            seconds.append(time.perf_counter() - began)
            processor.append(processor_seconds(()) - used)
        peak = max(peak, sampler.peak_bytes)
    remove(work)
    first, again, changed = zip(seconds, processor, strict=True)
    return Point(
        size,
        first=first[0],
        again=again[0],
        changed=changed[0],
        first_processor=first[1],
        again_processor=again[1],
        changed_processor=changed[1],
        peak_bytes=peak,
    )


def _vertices(context: Path, count: int) -> None:
    """Stages of twenty copies each, all of them copied together."""
    stages = max(1, count // 21)
    lines: list[str] = []
    for stage in range(stages):
        lines.append(f"FROM scratch AS s{stage}")
        lines += [f"COPY changing /{stage}.{step}" for step in range(20)]
    lines.append("FROM scratch")
    lines += [f"COPY --from=s{stage} /{stage}.19 /" for stage in range(stages)]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


def _stages(context: Path, count: int) -> None:
    """Stages that stand on one another, ten deep, gathered by the hundred: no stage has 500 layers."""
    lines: list[str] = []
    for stage in range(count):
        base = f"s{stage - 1}" if stage % 10 else "scratch"
        lines += [f"FROM {base} AS s{stage}", f"ENV STAGE={stage}", f"COPY changing /{stage}"]
    for first in range(0, count, 100):
        lines.append(f"FROM scratch AS g{first}")
        lines += [f"COPY --from=s{n} /{n} /" for n in range(first, min(first + 100, count))]
    lines.append("FROM scratch")
    lines += [f"COPY --from=g{first} / /" for first in range(0, count, 100)]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


def _files(context: Path, count: int) -> None:
    write_tree(context / "tree", count, 200)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")


def _megabytes(context: Path, count: int) -> None:
    """A layer of so many million bytes, in files of up to a gigabyte, written to an archive."""
    (context / "data").mkdir()
    for number in range((count + 999) // 1000):
        size = min(1000, count - number * 1000) * 1_000_000
        write_file(context / f"data/{number}", size, number)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")


SCALES: dict[str, Scale] = {
    "vertices": Scale("vertices", (100, 300, 1_000, 3_000, 10_000), _vertices),
    "stages": Scale("stages", (20, 60, 200, 600, 2_000), _stages),
    "files": Scale("files", (1_000, 10_000, 100_000, 1_000_000), _files),
    "layer": Scale("MB", (20, 200, 2_000, 20_000), _megabytes, Output.ARCHIVE),
}


def table(points: Mapping[str, Sequence[Point]]) -> str:
    """Return a Markdown table of all points."""
    rows = [
        "| work | first s (processor) | again s | after a change s (processor) | peak MB |",
        "|---|---|---|---|---|",
    ]
    for name, of_scale in points.items():
        rows += [
            f"| {point.size:,} {SCALES[name].unit} | {point.first:.2f} ({point.first_processor:.2f}) "
            f"| {point.again:.3f} | {point.changed:.2f} ({point.changed_processor:.2f}) "
            f"| {point.peak_bytes / 1e6:.0f} |"
            for point in of_scale
        ]
    return "\n".join(rows)


def as_json(points: Mapping[str, Sequence[Point]]) -> dict[str, list[dict[str, float]]]:
    return {
        name: [{field: getattr(p, field) for field in Point.__slots__} for p in of_scale]
        for name, of_scale in points.items()
    }


def drawn(name: str, points: Sequence[Point]) -> dict[str, str]:
    """Draw seconds of processor and memory over size; return the plots by what they show."""
    unit = SCALES[name].unit
    seconds = {
        "first": [(p.size, p.first_processor) for p in points],
        "after a change": [(p.size, p.changed_processor) for p in points],
        "again": [(p.size, p.again_processor) for p in points],
    }
    memory = {"peak": [(p.size, p.peak_bytes / 1e6) for p in points]}
    scales = "both scales logarithmic"
    return {
        "processor": plot.curves(f"{name}: seconds of processor, {scales}", unit, "s", seconds),
        "memory": plot.curves(f"{name}: peak memory, {scales}", unit, "MB", memory),
    }
