"""Causes that `explain` names for one change after the other, here and of an imported cache [issue 6, show 1].

    python -m tests.e2e.mutations

builds a context, makes one change after the other to copies of it, and prints what was named: on the
store that built it, and on an empty one with `--cache-from` a directory. Exit code 1: one was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.causes import CASES, DOCKERFILE, FILES, Case, Site
from tests.harness import Pybuild, make_base, write


def check(case: Case, report: dict[str, Any]) -> dict[str, Any]:
    missed = [step for step in report["steps"] if step["miss"]]
    found = [s for s in missed if s["name"].partition("] ")[2].startswith(case.step)]
    assert len(found) == 1, [step["name"] for step in missed]
    step = found[0]
    miss: dict[str, Any] = step["miss"]
    assert miss["reason"] == case.reason, miss
    if case.reason != "changed":
        return miss
    cause = miss["differences"][0]
    assert (cause["field"], cause["path"]) == (case.field, case.path), miss
    if case.was is not None or case.now is not None:
        assert (cause["was"], cause["now"]) == (case.was, case.now)
    assert not case.note or cause["note"] == case.note
    # A single cause is not told as several; an ignore file that is copied differs as well.
    assert [one["field"] for one in miss["differences"]] == [case.field]
    return miss


def prepare(where: Path) -> None:
    """Make a store and a context that was built there, with its cache, and a store with the base."""
    site = Site(Pybuild(where / "store"), where / "context")
    make_base(site.pybuild, where / "base", "base")
    copy(where / "store", where / "fresh")
    write(site.context, Dockerfile=DOCKERFILE, **FILES)
    for path in [site.context, *site.context.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (site.context / "src/link").symlink_to("a")
    site.build("--cache-to", f"type=local,mode=max,dest={where / 'cache'}")


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True, timeout=60)


def explained(case: Case, built: Path, where: Path, *, imports: bool) -> dict[str, Any]:
    """Do it to a copy of what `prepare` made; return the miss. Raises AssertionError: it is wrong."""
    copy(built / ("fresh" if imports else "store"), where / "store")
    copy(built / "context", where / "context")
    site = Site(Pybuild(where / "store"), where / "context")
    case.mutate(site)
    cache = built / "cache"
    site.build(*(["--cache-from", f"type=local,src={cache}"] if imports else []), *case.options)
    miss = check(case, site.explained())
    known = imports and case.reason not in ("new", "no-cache")
    assert miss["place"] == (str(cache) if known else "")
    return miss


def told(miss: dict[str, Any]) -> str:
    """Say in a line what was named."""
    if not miss["differences"]:
        return str(miss["reason"])
    cause = miss["differences"][0]
    values = [str(cause[key]) for key in ("was", "now") if cause[key] is not None]
    return " ".join(part for part in (cause["field"], cause["path"], " -> ".join(values)) if part)


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    wrong = named = 0
    with tempfile.TemporaryDirectory(prefix="pybuild-causes-") as folder:
        built = Path(folder, "built")
        built.mkdir()
        prepare(built)
        for number, case in enumerate(CASES):
            for imports in (False, True) if case.reason != "evicted" else (False,):
                where = Path(folder, f"{number}-{imports}")
                where.mkdir()
                try:
                    text = told(explained(case, built, where, imports=imports))
                    named += 1
                except AssertionError as error:
                    text = f"WRONG {error}"
                    wrong += 1
                print(f"{'imported' if imports else 'here':8}  {case.name:28}  {text}", flush=True)
                subprocess.run(["rm", "-rf", where], check=False, timeout=60)
    print(
        f"{len(CASES)} single causes, here and of an imported cache: {named} named exactly, {wrong} not"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
