"""Measure pybuild, beside BuildKit where ``buildctl`` and a running ``buildkitd`` are found.

Workloads are made afresh in a temporary directory; variants take turns inside one run, and what is
printed are medians, spreads and ratios. File benchmarks depend on the file system: it is printed.

    scripts/bench [--only noop,wide] [--rounds 9] [--dir DIR]

BuildKit's address is taken from $BUILDKIT_HOST.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Run = Callable[[], None]
_TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dir", default=None, help="where stores and contexts are made")
    parser.add_argument("--json", default="", help="also write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="pybuild-bench-") as name:
        bench = Bench(Path(name), args.rounds)
        wanted = [w for w in args.only.split(",") if w] or list(WORKLOADS)
        print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores, {_file_system(name)}")
        figures = {w: bench.measure(w, WORKLOADS[w](bench)) for w in wanted}
        bench.clean()
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


class Bench:
    """A store, a base image and a place for contexts."""

    def __init__(self, work: Path, rounds: int) -> None:
        self.work = work
        self.rounds = rounds
        self.env = {**os.environ, "PYBUILD_ROOT": str(work / "store")}
        self.pybuild = str(Path(sys.executable).with_name("pybuild"))
        self.buildctl = shutil.which("buildctl") if os.environ.get("BUILDKIT_HOST") else None
        found = shutil.which("busybox")
        if not found:
            raise SystemExit("busybox is needed: apt-get install busybox-static")
        self.busybox = found

    def context(self, name: str, dockerfile: str) -> Path:
        """A context whose Dockerfile builds its own base: no builder has to pull anything."""
        path = self.work / name
        (path / "root/bin").mkdir(parents=True)
        shutil.copy(self.busybox, path / "root/bin/busybox")
        for tool in ("sh", "sleep", "true", "touch", "cat", "ls"):
            (path / "root/bin" / tool).symlink_to("busybox")
        (path / "Dockerfile").write_text(f"FROM scratch AS base\nCOPY root/ /\n{dockerfile}")
        return path

    def build(self, context: Path, *flags: str) -> None:
        self.command(self.pybuild, "build", "--progress", "quiet", *flags, str(context))

    def buildkit(self, context: Path, *flags: str) -> None:
        assert self.buildctl
        self.command(
            *(self.buildctl, "build", "--progress=plain", "--frontend=dockerfile.v0"),
            *(f"--local=context={context}", f"--local=dockerfile={context}", *flags),
        )

    def command(self, *words: str) -> None:
        done = subprocess.run(
            words, env=self.env, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: status {done.returncode}\n{done.stderr.decode()}")

    def measure(self, workload: str, variants: dict[str, Run]) -> dict[str, list[float]]:
        """Let the variants take turns; print medians and the ratio to the last one."""
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for run in variants.values():
            run()
        for _ in range(self.rounds):
            for name, run in variants.items():
                begun = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - begun)
        reference = statistics.median(list(seconds.values())[-1])
        for name, values in seconds.items():
            values.sort()
            median = statistics.median(values)
            print(
                f"{workload:<8} {name:<10} median {median * 1000:8.1f} ms"
                f"  [{values[0] * 1000:.1f} … {values[-1] * 1000:.1f}]  ratio {median / reference:.2f}"
            )
        return seconds

    def clean(self) -> None:
        self.command(self.pybuild, "prune", "--all", "--force")


def noop(bench: Bench) -> dict[str, Run]:
    """A fully cached build of ten steps."""
    lines = ["FROM base", "WORKDIR /w", "COPY a.txt ./"]
    lines += [f"RUN touch /w/{n}" for n in range(7)]
    context = bench.context("noop", "\n".join(lines) + "\n")
    (context / "a.txt").write_text("a\n")
    variants: dict[str, Run] = {"pybuild": lambda: bench.build(context, "-t", "noop")}
    if bench.buildctl:
        variants["buildkit"] = lambda: bench.buildkit(context)
    return variants


def chain(bench: Bench) -> dict[str, Run]:
    """Forty trivial RUNs, never cached."""
    lines = ["FROM base"] + [f"RUN touch /{n}" for n in range(40)]
    context = bench.context("chain", "\n".join(lines) + "\n")
    variants: dict[str, Run] = {
        "pybuild": lambda: bench.build(context, "--no-cache", "--output=type=cacheonly")
    }
    if bench.buildctl:
        variants["buildkit"] = lambda: bench.buildkit(context, "--no-cache")
    return variants


def wide(bench: Bench) -> dict[str, Run]:
    """Sixteen independent stages that each sleep for a second, never cached."""
    stages = [f"FROM base AS s{n}\nRUN sleep 1 && touch /done{n}" for n in range(16)]
    copies = [f"COPY --from=s{n} /done{n} /" for n in range(16)]
    context = bench.context("wide", "\n".join([*stages, "FROM scratch", *copies]) + "\n")
    variants: dict[str, Run] = {
        "pybuild": lambda: bench.build(context, "--no-cache", "--output=type=cacheonly")
    }
    if bench.buildctl:
        variants["buildkit"] = lambda: bench.buildkit(context, "--no-cache")
    return variants


def startup(bench: Bench) -> dict[str, Run]:
    """``--version`` and ``--help``."""
    return {
        "--version": lambda: bench.command(bench.pybuild, "--version"),
        "--help": lambda: bench.command(bench.pybuild, "--help"),
    }


WORKLOADS: dict[str, Callable[[Bench], dict[str, Run]]] = {
    "startup": startup,
    "noop": noop,
    "chain": chain,
    "wide": wide,
}


def _file_system(path: str) -> str:
    out = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, timeout=10, check=False
    )
    return f"file system {out.stdout.strip() or 'unknown'}"


if __name__ == "__main__":
    raise SystemExit(main())
