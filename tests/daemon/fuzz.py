"""A fuzzer of HTTP/2 and gRPC: ``python -m tests.daemon.fuzz --inputs 200000 --seed 1``.

It changes valid byte streams and gives them, in random pieces, to both roles of the connection
without I/O and of the gRPC layer, and bytes to the parsers. Whatever comes, nothing may raise what
its caller does not expect, hold more than the limits allow, take long, or leave a task behind; and
the same bytes in other pieces must mean the same. The same seed does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import traceback

from tests.daemon.fuzz_inputs import changed, seeds
from tests.daemon.fuzz_targets import TARGETS, Loud
from tests.fuzz.tally import Tally

LIMIT_S = 1.0  # of processor time, for one input
_HANG_S = 20.0  # by the clock: nothing waits for anything here
_WEIGHTS = {"server": 5, "client": 3, "grpc_server": 5, "grpc_client": 4, "parsers": 3}


async def run(inputs: int, seed: int) -> Tally:
    """Try so many inputs."""
    rng = random.Random(seed)
    tally = Tally()
    corpus = seeds()
    kinds = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
    loud = Loud(asyncio.get_running_loop())
    for _ in range(inputs):
        kind = rng.choice(kinds)
        data = changed(rng.choice(corpus[kind]), corpus[kind], rng)
        began = time.process_time()
        try:
            async with asyncio.timeout(_HANG_S):
                outcome = await TARGETS[kind](data, random.Random(rng.random()))
            loud.check()
        except Exception:  # noqa: BLE001  that is what we look for
            outcome = "finding"
            tally.findings.append(f"{kind}: {data!r}\n{traceback.format_exc(limit=-4)}")
        took = time.process_time() - began
        if took > LIMIT_S:
            tally.findings.append(f"{kind}: took {took:.2f} s: {data[:200]!r}")
        tally.slowest_s = max(tally.slowest_s, took)
        tally.outcomes[f"{kind}: {outcome}"] += 1
        tally.inputs += 1
        if len(tally.findings) >= 20:
            break
    return tally


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="fuzz HTTP/2 and gRPC")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = asyncio.run(run(options.inputs, options.seed))
    print(tally)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
