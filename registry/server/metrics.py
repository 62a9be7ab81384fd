"""Counters of the server's work, as numbers that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field

from pybuild.model.dataclass import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

Labels = tuple[str, ...]


@dataclass(slots=True)
class Times:
    """A histogram of durations: a count for each bound, the count of all, and the sum."""

    within: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    count: int = 0
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        at = bisect_left(_BOUNDS, seconds)
        if at < len(_BOUNDS):
            self.within[at] += 1
        self.count += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Metrics:
    """The numbers of one process; they begin at nothing when it does.

    Attributes:
        requests: by kind, method and status.
        seconds: until an answer began, by kind and method.
        collected: by what went: manifests, links, uploads, blobs, bytes.
        fetched: from upstream registries, by upstream and outcome.
        linked: blobs that came without a byte being sent, by how.
    """

    requests: Counter[Labels] = field(default_factory=Counter[Labels])
    seconds: dict[Labels, Times] = field(default_factory=dict[Labels, Times])
    in_flight: int = 0
    received_bytes: int = 0
    answered_bytes: int = 0
    collected: Counter[Labels] = field(default_factory=Counter[Labels])
    fetched: Counter[Labels] = field(default_factory=Counter[Labels])
    linked: Counter[Labels] = field(default_factory=Counter[Labels])

    def answered(self, kind: str, method: str, status: int, seconds: float, size: int) -> None:
        """Count one request that was answered."""
        self.requests[kind, method, str(status)] += 1
        self.seconds.setdefault((kind, method), Times()).add(seconds)
        self.answered_bytes += size

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all of it; *gauges* are measured now: help and value by name."""
        lines: list[str] = []
        _family(
            lines,
            "requests_total",
            "counter",
            "Requests by kind of path, method and status.",
            _counted(self.requests, ("kind", "method", "status")),
        )
        _family(
            lines,
            "request_seconds",
            "histogram",
            "Time until an answer began.",
            _timed(self.seconds),
        )
        for name, help, table, labels in (
            ("collected_total", "What nothing needed any more.", self.collected, ("what",)),
            (
                "upstream_total",
                "Questions to upstream registries.",
                self.fetched,
                ("upstream", "outcome"),
            ),
            ("linked_total", "Blobs that came without their bytes.", self.linked, ("how",)),
        ):
            _family(lines, name, "counter", help, _counted(table, labels))
        for name, help, total in (
            ("received_bytes_total", "Bytes of bodies taken in.", self.received_bytes),
            ("answered_bytes_total", "Bytes of bodies that answers had.", self.answered_bytes),
        ):
            _family(lines, name, "counter", help, [("", {}, total)])
        _family(lines, "requests_in_flight", "gauge", "Requests now.", [("", {}, self.in_flight)])
        for name, (help, value) in gauges.items():
            _family(lines, name, "gauge", help, [("", {}, value)])
        return "".join(lines)


Sample = tuple[str, Mapping[str, str], float]


def _counted(table: Counter[Labels], names: Labels) -> list[Sample]:
    return [
        ("", dict(zip(names, labels, strict=True)), count)
        for labels, count in sorted(table.items())
    ]


def _timed(table: Mapping[Labels, Times]) -> list[Sample]:
    samples: list[Sample] = []
    for (kind, method), times in sorted(table.items()):
        labels = {"kind": kind, "method": method}
        total = 0
        for bound, count in zip(_BOUNDS, times.within, strict=True):
            total += count
            samples.append(("_bucket", {**labels, "le": f"{bound:g}"}, total))
        samples.append(("_bucket", {**labels, "le": "+Inf"}, times.count))
        samples.append(("_sum", labels, times.sum_s))
        samples.append(("_count", labels, times.count))
    return samples


def _family(lines: list[str], name: str, kind: str, help: str, samples: Iterable[Sample]) -> None:
    full = f"pybuild_registry_{name}"
    lines.append(f"# HELP {full} {help}\n# TYPE {full} {kind}\n")
    for suffix, labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{full}{suffix}{'{' + inner + '}' if inner else ''} {value:.17g}\n")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
