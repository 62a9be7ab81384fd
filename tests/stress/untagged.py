"""Builds without a name, one after the other, below a ceiling; prints a summary.

    python -m tests.stress.untagged --builds 1000 --ceiling 200MB --layer 2MB

Every build makes other bytes of the same context, a few of other contexts. After each, what the store
takes is measured, and now and then the id that was just printed is run. The exit code is 1 if a
build failed, an id was not there, or the store was above 102 % of its ceiling, as a busy machine
may look late.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from pybuild.cache.disk.extent import measure
from pybuild.model.amounts import parse_size
from tests.harness import Pybuild, make_base, write

_OTHERS = 20  # every so many builds is of another context
_RUN = 25  # after every so many, what was made last is run


@dataclass
class Summary:
    """The outcome.

    Attributes:
        highest: bytes that the store took after a build, at most.
        wrong: what should not have happened.
    """

    builds: int
    highest: int = 0
    seconds: float = 0.0
    images: int = 0
    wrong: list[str] = field(default_factory=list[str])


def build_all(where: Path, builds: int, ceiling: str, layer: int, seed: int = 1) -> Summary:
    """Run all builds in a new store below *where*."""
    rng = random.Random(seed)
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base")
    found, begun = Summary(builds), time.monotonic()
    kept = ""
    for number in range(builds):
        is_other = number % _OTHERS == 0
        context = where / ("other" if is_other else "context")
        write(context, Dockerfile="FROM base\nCOPY data /\nRUN test -f /data\n")
        (context / "data").write_bytes(rng.randbytes(layer))
        done = pybuild("build", "-q", "--cache-max", ceiling, context, code=None)
        found.highest = max(found.highest, measure(str(pybuild.store)))
        if done.code:
            found.wrong.append(f"build {number}: {done.err}")
            continue
        kept = done.out.strip() if is_other else kept
        if number % _RUN == 0:
            # The last of the other context outlives all those of the busy one.
            for id in (done.out.strip(), kept):
                ran = pybuild("run", "--rm", id, "test", "-f", "/data", code=None)
                if ran.code:
                    found.wrong.append(f"run of {id} after build {number}: {ran.err}")
    found.seconds = time.monotonic() - begun
    found.images = len(pybuild("images", "-q").out.split())
    if found.highest > parse_size(ceiling, 0) * 1.02:
        found.wrong.append(f"the store took {found.highest} bytes")
    return found


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="builds without a name below a ceiling")
    parser.add_argument("--builds", type=int, default=1000)
    parser.add_argument("--ceiling", default="200MB")
    parser.add_argument("--layer", default="2MB", help="bytes that differ in each image")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pybuild-untagged-") as folder:
        layer = parse_size(given.layer, 0)
        found = build_all(Path(folder), given.builds, given.ceiling, layer, given.seed)
    print(
        f"{found.builds} builds in {found.seconds:.0f} s, at most {found.highest / 1e6:.1f} MB"
        f" below {given.ceiling}, {found.images} images left, {len(found.wrong)} errors"
    )
    for text in found.wrong[:20]:
        print(text)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
