"""Debian packages that create users, chown and set bits, built on every rung, trees compared.

    python -m tests.executor.debian_packages [--rungs root,range,one,jailed] [PACKAGE …]

prints a line for each package and rung, and where a tree differs from root's. All twenty take half
an hour; `test_recorder_apt` has a few of them in one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from tests.executor.plain_user import UID, PlainUser, plain_user
from tests.harness import write

PACKAGES = (
    *("openssh-client", "openssh-server", "postgresql-common", "sudo", "iputils-ping", "dbus"),
    *("man-db", "cron", "at", "exim4-base", "plocate", "systemd", "nginx-light", "redis-server"),
    *("mariadb-common", "postfix", "ntpsec", "tcpdump", "wireshark-common", "screen"),
)
OPAQUE = "/.wh..wh..opq"
RUNGS = ("root", "range", "one", "jailed")
DOCKERFILE = """\
FROM scratch
ADD debian.tar /
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq
RUN apt-get install -y -qq --no-install-recommends @PACKAGES@
@MORE@
"""
MAIN = """
import os, runpy, sys
os.environ["HOME"] = sys.argv[1]
os.environ["PYBUILD_ROOT"] = sys.argv[1] + "/store"
sys.argv[:2] = ["pybuild"]
runpy.run_module("pybuild", run_name="__main__")
"""

Entry = tuple[object, ...]


def make_base(path: Path) -> str:
    """Make a tar of a small Debian; return what went wrong, or ""."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return done.stderr.strip()[-200:] or "it failed" if done.returncode else ""


def built(
    user: PlainUser, debian: Path, rung: str, packages: str, more: str = ""
) -> list[dict[str, Entry]]:
    """Build on a rung; return what each layer says, times and contents aside.

    Raises:
        AssertionError: the build failed; with what it said.
    """
    here = user.place / rung
    context = here / "ctx"
    if not context.is_dir():
        (here / "home").mkdir(parents=True)
        context.mkdir()
        shutil.copy(debian, context / "debian.tar")
    text = DOCKERFILE.replace("@PACKAGES@", packages).replace("@MORE@", more)
    write(context, Dockerfile=text)
    as_root = rung in ("root", "jailed")
    for path in (here, here / "home", context, *context.iterdir()):
        os.chown(path, *((0, 0) if as_root else (UID, UID)))
    output = f"type=oci,tar=false,dest={here}/oci,compression=uncompressed"
    user.python(
        *(MAIN, str(here / "home"), "build", "--progress", "plain", "-o", output, str(context)),
        root=as_root,
        jailed=rung == "jailed",
        sub_ids=rung == "range",
    )
    try:
        return layers_of(here / "oci")
    finally:
        shutil.rmtree(here / "oci")


def layers_of(layout: Path) -> list[dict[str, Entry]]:
    layers: list[dict[str, Entry]] = []
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    blobs = layout / "blobs"
    manifest = json.loads((blobs / entry["digest"].replace(":", "/")).read_bytes())
    for layer in manifest["layers"]:
        with tarfile.open(blobs / layer["digest"].replace(":", "/")) as tar:
            layers.append(
                {
                    m.name: (
                        *(m.type, oct(m.mode), m.uid, m.gid, m.linkname, m.devmajor, m.devminor),
                        sorted((k, v) for k, v in m.pax_headers.items() if ".xattr." in k),
                    )
                    for m in tar.getmembers()
                }
            )
    return layers


def without_what_stat_cannot_see(layers: list[dict[str, Entry]]) -> list[dict[str, Entry]]:
    """Return the layers as a rung has them that looks at the tree after the step.

    It does not see that a file was opened for writing and left as it was, which overlay copies up,
    nor that a directory was renamed into its place, which overlay marks as hiding what is below
    even where nothing is. Directories with nothing in them of which only the time changed are left
    out as well.
    """
    merged: dict[str, Entry] = {}
    found: list[dict[str, Entry]] = []
    for layer in layers:
        kept = {
            name: entry
            for name, entry in layer.items()
            if not (merged.get(name) == entry and entry[0] == tarfile.REGTYPE)
            and not (name.endswith(OPAQUE) and name.removesuffix(OPAQUE) not in merged)
        }
        needed = {name[:at] for name in kept for at, sign in enumerate(name) if sign == "/"}
        for name in [name for name in kept if merged.get(name) == kept[name]]:
            if kept[name][0] == tarfile.DIRTYPE and name not in needed:
                del kept[name]
        found.append(kept)
        merged |= layer
    return found


def differing(ours: dict[str, Entry], theirs: dict[str, Entry]) -> dict[str, tuple[object, object]]:
    """Return the entries in which two layers differ, with what both say."""
    names = sorted(ours.keys() | theirs.keys())
    return {n: (theirs.get(n), ours.get(n)) for n in names if theirs.get(n) != ours.get(n)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rungs", default=",".join(RUNGS))
    parser.add_argument("--base", type=Path)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    asked = parser.parse_args()
    with plain_user() as user, tempfile.TemporaryDirectory() as directory:
        debian = asked.base or Path(directory) / "debian.tar"
        if not asked.base and (problem := make_base(debian)):
            raise SystemExit(f"no Debian mirror in reach: {problem}")
        for package in asked.packages:
            root: list[dict[str, Entry]] | None = None
            for rung in asked.rungs.split(","):
                began = time.monotonic()
                try:
                    layers = built(user, debian, rung, package)
                except AssertionError as error:
                    print(f"{package:20} {rung:8} FAILED {str(error)[-2000:]}", flush=True)
                    continue
                took = time.monotonic() - began
                root = layers if root is None else root
                theirs = without_what_stat_cannot_see(root) if rung == "jailed" else root
                if rung == "jailed":
                    layers = without_what_stat_cannot_see(layers)
                pairs = zip(layers, theirs, strict=True)
                found = [item for one, other in pairs for item in differing(one, other).items()]
                entries = sum(len(layer) for layer in layers)
                said = f"{entries:6} entries {took:6.1f} s  {len(found)} differ"
                print(f"{package:20} {rung:8} {said}", flush=True)
                for name, (other, one) in found[:20]:
                    print(f"    {name}: {other} -> {one}", flush=True)


if __name__ == "__main__":
    main()
