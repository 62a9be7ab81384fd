"""Measure pybuild beside the builders found here: ``scripts/bench [--only noop,wide] [--rounds 9]``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import machine, peers, place, plot, report, scale
from benchmarks.builder import Builder, CommandFailed
from benchmarks.measure import run
from benchmarks.site import Site
from benchmarks.workloads import SERVED, WORKLOADS


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = _parser().parse_args(words)
    known = scale.SCALES if options.scale else SERVED if options.servers else WORKLOADS
    unknown = set(options.only) - set(known)
    if unknown:
        raise SystemExit(f"no such workload: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, _end)
    with place.place(options.dir, options.image_gib) as where:
        facts = {**machine.describe(), "file system": place.describe(where)}
        print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
        if options.scale:
            return _scale(options, where, facts)
        return _compare(options, where, facts)


def _compare(options: argparse.Namespace, where: Path, facts: dict[str, str]) -> int:
    site = Site(where)
    kinds = SERVED if options.servers else WORKLOADS
    if options.servers:
        builders = peers.servers(where)
    else:
        builders = peers.find(where, durable=options.durable, among=options.peers)
    try:
        facts |= {builder.name: _version(builder) for builder in builders}
        chosen = [kinds[name] for name in options.only or kinds]
        figures = run(site, chosen, builders, options.rounds, _say, size=options.size)
    finally:
        for builder in builders:
            builder.close()
        site.close()
    names = [builder.name for builder in builders]
    print("\n" + report.table(kinds, figures, names))
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        written = {
            "machine": facts,
            "durable": options.durable,
            "workloads": report.as_json(figures),
        }
        (out / "bench.json").write_text(json.dumps(written, indent=2) + "\n")
        rows = [
            plot.Bar(name, ratio, kinds[name].reach)
            for name, row in figures.items()
            if (ratio := report.ratio(row, "pybuild")) is not None
        ]
        title = "seconds of pybuild over BuildKit's; less is faster, red is what was aimed at"
        (out / "bench.svg").write_text(plot.bars(title, rows))
    return 0


def _scale(options: argparse.Namespace, where: Path, facts: dict[str, str]) -> int:
    measured = scale.run(where, options.only or list(scale.SCALES), options.most, _say)
    print("\n" + scale.table(measured))
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        written = {"machine": facts, "scales": scale.as_json(measured)}
        (out / "scale.json").write_text(json.dumps(written, indent=2) + "\n")
        for name, points in measured.items():
            for what, drawn in scale.drawn(name, points).items():
                (out / f"scale-{name}-{what}.svg").write_text(drawn)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").strip())
    parser.add_argument("--only", type=_names, default=[], help="these workloads, by commas")
    parser.add_argument(
        "--peers",
        type=_names,
        default=peers.PEERS,
        help="only beside these: buildkit, buildah or none",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured times of each builder")
    parser.add_argument("--size", type=float, default=1.0, help="a fraction, to try a workload out")
    parser.add_argument(
        "--durable", action="store_true", help="pybuild writes out before it is done"
    )
    parser.add_argument(
        "--dir", help="where stores lie; default: a journaled ext4 image of our own"
    )
    parser.add_argument("--image-gib", type=int, default=40, help="most size of that image")
    parser.add_argument("--out", help="directory for bench.json, bench.svg and scale-*.svg")
    parser.add_argument("--servers", action="store_true", help="both servers, driven by buildctl")
    parser.add_argument("--scale", action="store_true", help="measure how time and memory grow")
    parser.add_argument("--most", type=float, default=1.0, help="of --scale: 1 is the largest step")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _version(builder: Builder) -> str:
    try:
        return builder.version()
    except CommandFailed as failure:
        return f"unknown: {failure}"


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    place.isolate()
    raise SystemExit(main())
