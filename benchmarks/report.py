"""Figures as a table for people and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.measure import Figures
from benchmarks.workload import Workload

REFERENCE = "buildkit"
_MOST_LAYER_BYTES = 1.10
All = Mapping[str, Mapping[str, Figures]]


def ratio(row: Mapping[str, Figures], name: str, reference: str = REFERENCE) -> float | None:
    """Return the seconds of *name* over those of *reference*, if both have some."""
    ours, theirs = row.get(name), row.get(reference)
    if not ours or not theirs or not ours.seconds or not theirs.seconds:
        return None
    return ours.median / theirs.median


def processor_ratio(row: Mapping[str, Figures]) -> float | None:
    """Return our processor time over BuildKit's: on a crowded machine it lies less than the clock."""
    ours, theirs = row.get("pybuild"), row.get(REFERENCE)
    if not ours or not theirs or not ours.processor or not theirs.processor:
        return None
    most = statistics.median(theirs.processor)
    return statistics.median(ours.processor) / most if most else None


def layer_ratio(row: Mapping[str, Figures]) -> float | None:
    """Return our bytes of layers over BuildKit's."""
    ours, theirs = row.get("pybuild"), row.get(REFERENCE)
    if not ours or not theirs or not ours.layer_bytes or not theirs.layer_bytes:
        return None
    return ours.layer_bytes / theirs.layer_bytes


def verdict(kind: type[Workload], row: Mapping[str, Figures]) -> str:
    """Return the row's verdict on its aim."""
    reached = ratio(row, "pybuild")
    layers = layer_ratio(row)
    if layers is not None and layers > _MOST_LAYER_BYTES:
        return "does not count: layers are too large"
    if reached is None or kind.reach is None:
        return ""
    if kind.dream is not None and reached <= kind.dream:
        return "dream"
    return "reached" if reached <= kind.reach else "not reached"


def table(kinds: Mapping[str, type[Workload]], figures: All, names: Sequence[str]) -> str:
    """Return a Markdown table, a row for each workload."""
    others = [name for name in names if name != "pybuild"]
    head = ["workload", *(f"{name} s (least … most)" for name in names)]
    head += [f"/ {name}" for name in others]
    head += ["reach", "dream", "verdict", "processor", "layers"]
    head += [f"{name} MB" for name in names]
    rows = [head, ["---"] * len(head)]
    for workload, row in figures.items():
        kind = kinds[workload]
        cells = [workload, *(_seconds(row.get(name)) for name in names)]
        cells += [_number(ratio(row, "pybuild", name)) for name in others]
        cells += [_number(kind.reach), _number(kind.dream), verdict(kind, row)]
        cells += [_number(processor_ratio(row)), _number(layer_ratio(row))]
        cells += [_megabytes(row.get(name)) for name in names]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def as_json(figures: All) -> dict[str, dict[str, dict[str, object]]]:
    """Return the figures for `json` to write."""
    return {
        workload: {
            name: {
                "seconds": [round(value, 4) for value in one.seconds],
                "processor": [round(value, 3) for value in one.processor],
                "median": round(one.median, 4),
                "peak_bytes": one.peak_bytes,
                "layer_bytes": one.layer_bytes,
                "failed": one.failed,
            }
            for name, one in row.items()
        }
        for workload, row in figures.items()
    }


def _seconds(figures: Figures | None) -> str:
    if figures is None or not figures.seconds:
        return "–"
    least, most = min(figures.seconds), max(figures.seconds)
    return f"{figures.median:.3f} ({least:.3f} … {most:.3f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _megabytes(figures: Figures | None) -> str:
    return f"{figures.peak_bytes / 1e6:.0f}" if figures and figures.peak_bytes else "–"
