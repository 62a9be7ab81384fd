"""Measure what a trivial RUN step costs in a build, from the end of one to the end of the next.

    python benchmarks/steps.py [--steps 200] [--rungs root,userns,single,crun,runc] [--dir DIR]

That is the whole path: solver, cache records, overlay, sandbox, commit. Run as root, it builds on
each rung of isolation as the user that has it; builds of twenty steps take turns between rungs,
and what is printed is of all steps of a rung: median, least, and processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import site
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import uvloop

UID = 65534
PER_BUILD = 20
RUNGS = {
    # name: (user, sub-ids, runtime)
    "root": (0, False, ""),
    "userns": (UID, True, ""),
    "single": (UID, False, ""),
    "crun": (0, False, "crun"),
    "runc": (0, False, "runc"),
}
_TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rungs", default="root,userns,single")
    parser.add_argument("--dir", default=None, help="where stores and contexts are made")
    parser.add_argument("--python", default="/usr/bin/python3", help="one that every user may run")
    parser.add_argument("--inside", nargs=2, metavar=("STORE", "RUNTIME"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(uvloop.run(_measure(Path(args.inside[0]), args.inside[1]))))
        return 0
    if os.geteuid() != 0:
        raise SystemExit("run as root: it becomes the users of the other rungs by itself")
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="pybuild-steps-") as name:
        place = Path(name)
        place.chmod(0o755)
        names = args.rungs.split(",")
        figures: dict[str, list[dict[str, list[float]]]] = {rung: [] for rung in names}
        for rung in names:
            _run(place, rung, args.python)  # fills the store and the page cache
        for _ in range(-(-args.steps // PER_BUILD)):
            for rung in names:
                figures[rung].append(_run(place, rung, args.python))
        first = 0.0
        for rung in names:
            walls = [ms for figure in figures[rung] for ms in figure["walls"]]
            cpus = [ms for figure in figures[rung] for ms in figure["cpu"]]
            median = statistics.median(walls)
            first = first or median
            print(
                f"{rung:<8} median {median:6.2f} ms  least {min(walls):6.2f}  "
                f"processor {statistics.median(cpus):6.2f}  n={len(walls)}  ratio {median / first:.2f}"
            )
    return 0


def _run(place: Path, rung: str, python: str) -> dict[str, list[float]]:
    uid, sub_ids, runtime = RUNGS[rung]
    store = place / rung
    store.mkdir(exist_ok=True)
    os.chown(store, uid, uid)
    (place / "subid").write_text(f"{UID}:200000:65536\n" if sub_ids else "")
    binds = "".join(
        f"[ -e /etc/{name} ] && mount --bind {place}/subid /etc/{name};"
        for name in ("subuid", "subgid")
    )
    command = ["unshare", "--mount", "/bin/sh", "-c", binds + 'exec "$@"', "sh"] if uid else []
    if uid:
        command += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    command += [python, str(Path(__file__).resolve())]
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [*command, "--inside", str(store), runtime],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONPATH": ":".join([str(here), *site.getsitepackages()])},
    )
    if done.returncode:
        raise SystemExit(f"{rung}: status {done.returncode}\n{done.stderr}")
    figures: dict[str, list[float]] = json.loads(done.stdout)
    return figures


async def _measure(store: Path, runtime: str) -> dict[str, list[float]]:
    """Build as the user we are; return milliseconds of each step but the first, which starts us."""
    from pybuild.builds.build import build
    from pybuild.builds.request import BuildRequest
    from pybuild.engine.engine import Engine
    from pybuild.engine.settings import load_settings
    from pybuild.exporter.output import parse_output
    from pybuild.model.events import Event, VertexCompleted

    context = store / "context"
    if not context.exists():
        (context / "root/bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", context / "root/bin/busybox")
        (context / "root/bin/sh").symlink_to("busybox")
    steps = "".join(f"RUN : {number}\n" for number in range(PER_BUILD + 1))
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY root/ /\n{steps}")
    ends: list[tuple[float, float]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, VertexCompleted):
            ends.append((event.time, _processor_seconds()))

    request = BuildRequest(
        context=str(context), no_cache=True, outputs=(parse_output("type=cacheonly"),)
    )
    async with Engine(load_settings(root=str(store / "store"), runtime=runtime)) as engine:
        await build(engine, request, on_event)
    walls = [after[0] - before[0] for before, after in pairwise(ends[-PER_BUILD - 1 :])]
    used = (ends[-1][1] - ends[-PER_BUILD - 1][1]) / PER_BUILD
    return {"walls": [seconds * 1000 for seconds in walls], "cpu": [used * 1000]}


def _processor_seconds() -> float:
    """Return what we, the zygotes and their children that ended have used."""
    tick = os.sysconf("SC_CLK_TCK")
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = used.ru_utime + used.ru_stime
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15]) / tick
    return total


if __name__ == "__main__":
    sys.exit(main())
