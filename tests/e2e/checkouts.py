"""One commit, checked out in many ways: which keys and layers come of it [issue 6, show 3; KEY-2].

    python -m tests.e2e.checkouts

checks a repository out by clone and by tar, under three umasks, and by two users, builds each on an
empty store, and prints digests of the keys and layers; then what `explain` names without `--cache`.
Exit code 1: they are not all the same. Needs root, for the second user.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.executor.plain_user import UID, PlainUser, need_packages, plain_user
from tests.harness import Pybuild, make_base, write

UMASKS = ("0002", "0022", "0077")
WAYS = ("clone", "tar")
Come = tuple[list[str], list[str]]
"""Keys of steps, and digests of layers."""
NOTE = "git keeps no such bits; with --modes=git they do not count"
SAID = "[internal] context files have the modes that git stores (--modes=keep: their own)"
DOCKERFILE = """\
FROM base
COPY . /all/
ADD tool sub/l /some/
RUN --mount=type=bind,target=/c cp -a /c/tool /c/sub /
"""
MAIN = """
import os, runpy, sys
os.environ["HOME"] = sys.argv[1]
sys.argv[:2] = ["pybuild"]
runpy.run_module("pybuild", run_name="__main__")
"""


def shell(script: str, *args: str | Path) -> None:
    subprocess.run(["/bin/sh", "-ec", script, "sh", *args], check=True, timeout=60)


def make_origin(where: Path) -> Path:
    """Make a repository with a file of each kind that git knows."""
    made = write(where, Dockerfile=DOCKERFILE, tool="#!/bin/sh\n")
    write(made, **{"sub/deep/f": "f\n", ".dockerignore": ".git\n"})
    (made / "tool").chmod(0o755)
    (made / "sub/l").symlink_to("deep/f")
    git = "git -c init.defaultBranch=main -c user.name=n -c user.email=e@x"
    shell(f'cd "$1"; {git} init -q; {git} add -A; {git} commit -qm one', made)
    return made


def check_out(origin: Path, way: str, umask: str, where: Path) -> Path:
    take = {
        "clone": 'git clone -q "$2" "$3"',
        "tar": 'mkdir "$3"; git -C "$2" archive HEAD | tar -x --no-same-permissions -C "$3"',
    }
    shell(f'umask "$1"; {take[way]}', umask, origin, where)
    return where


def layers(where: Path) -> list[str]:
    def read(digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((where / "blobs" / digest.replace(":", "/")).read_text())
        return found

    (entry,) = json.loads((where / "index.json").read_text())["manifests"]
    return [layer["digest"] for layer in read(entry["digest"])["layers"]]


def keys(report: dict[str, Any]) -> list[str]:
    """Return the keys that the steps are stored under; all of them must have run."""
    found = [step["key"] for step in report["steps"] if "] FROM " not in step["name"]]
    assert all(found)
    return found


def export(where: Path) -> list[str]:
    # Who checks out when is in the times of files, which git does not store either.
    output = f"type=oci,tar=false,dest={where},rewrite-timestamp=true"
    return ["-o", output, "--build-arg=SOURCE_DATE_EPOCH=1000000000"]


def build(origin: Path, base_store: Path, here: Path, way: str, umask: str) -> Come:
    """Check out and build with `--cache` on a machine of its own."""
    here.mkdir()
    context = check_out(origin, way, umask, here / "context")
    subprocess.run(["cp", "-a", base_store, here / "store"], check=True, timeout=60)
    machine = Pybuild(here / "store")
    words = ["build", "--progress=plain", "--cache", str(here / "cache")]
    done = machine(*words, *export(here / "out"), context)
    assert SAID in done.err
    return keys(json.loads(machine("explain", "--format=json").out)), layers(here / "out")


def build_as(user: PlainUser, origin: Path, name: str) -> Come:
    here = user.place / name
    (here / "home").mkdir(parents=True)
    context = check_out(origin, "clone", "0022" if name == "root" else "0077", here / "context")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /all/\nADD tool sub/l /some/\n")
    is_root = name == "root"
    if not is_root:
        for path in (here, *here.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
    # Root's store would be the machine's own.
    start = [MAIN, str(here / "home"), "--root", str(here / "store")]
    words = ["build", "--modes=git", *export(here / "out"), str(context)]
    user.python(*start, *words, root=is_root)
    report = "\n".join(user.python(*start, "explain", "--format=json", root=is_root))
    return keys(json.loads(report)), layers(here / "out")


def without(origin: Path, base_store: Path, here: Path) -> str:
    """Build two checkouts with their own modes; return what is named for the first miss."""
    here.mkdir()
    subprocess.run(["cp", "-a", base_store, here / "store"], check=True, timeout=60)
    machine = Pybuild(here / "store")
    machine("build", "-q", check_out(origin, "clone", "0022", here / "one"))
    other = check_out(origin, "clone", "0077", here / "two")
    return machine("build", "-q", "--fail-on-miss", other, code=1).err.splitlines()[0]


def _line(name: str, come: Come) -> str:
    parts = [hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for part in come]
    return f"{name:18} {len(come[0])} keys {parts[0]}  {len(come[1])} layers {parts[1]}"


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.umask(0o022)  # the repository itself is made under a usual one
    good = True
    with tempfile.TemporaryDirectory(prefix="pybuild-checkouts-") as folder:
        where = Path(folder)
        base = Pybuild(where / "base")
        make_base(base, where / "base-context", "base")
        origin = make_origin(where / "origin")
        came = {
            f"{way} {umask}": build(origin, base.store, where / f"{way}-{umask}", way, umask)
            for way in WAYS
            for umask in UMASKS
        }
        print(*(_line(*one) for one in came.items()), sep="\n", flush=True)
        with plain_user() as user:
            need_packages(user)
            users = {name: build_as(user, origin, name) for name in ("root", "user")}
        print(*(_line(f"as {name}", come) for name, come in users.items()), sep="\n", flush=True)
        for group in (came, users):
            good = good and len({json.dumps(come) for come in group.values()}) == 1
        named = without(origin, base.store, where / "without")
        print(f"without it: {named}")
        good = good and NOTE in named
    print("all the same" if good else "NOT the same")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
