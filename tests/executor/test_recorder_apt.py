"""Debian's package tools in a user namespace with one id: the tree that root gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executor.plain_user import UID, PlainUser, need_packages, plain_user
from tests.harness import write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.network]

PACKAGES = "openssh-client dbus sudo iputils-ping"
DOCKERFILE = f"""\
FROM scratch
ADD debian.tar /
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {PACKAGES}
RUN adduser --disabled-password --gecos '' app && install -d -o app -g www-data -m 2750 /srv/app
RUN su app -c 'umask 022; cd /srv/app && mkdir x && touch x/y && ln -s y x/z'
"""
MAIN = """
import os, runpy, sys
os.environ["HOME"] = sys.argv[1]
sys.argv[:2] = ["pybuild"]
runpy.run_module("pybuild", run_name="__main__")
"""


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        need_packages(made)
        yield made


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("mmdebstrap"):
        pytest.skip("needs mmdebstrap")
    made = tmp_path_factory.mktemp("debian") / "debian.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        pytest.skip(f"no Debian mirror in reach: {done.stderr.strip()[-200:]}")
    return made


def built(user: PlainUser, debian: Path, name: str) -> list[dict[str, tuple[object, ...]]]:
    """Build as root or as the user; return what each layer says, times and contents aside."""
    here = user.place / name
    (here / "home").mkdir(parents=True)
    context = write(here / "ctx", Dockerfile=DOCKERFILE)
    shutil.copy(debian, context / "debian.tar")
    for path in (here, *here.rglob("*")):
        os.chown(path, *((0, 0) if name == "root" else (UID, UID)))
    output = f"type=oci,tar=false,dest={here}/oci,compression=uncompressed"
    words = ["build", "--progress", "plain", "-o", output, str(context)]
    user.python(MAIN, str(here / "home"), *words, root=name == "root")
    layers: list[dict[str, tuple[object, ...]]] = []
    (entry,) = json.loads((here / "oci/index.json").read_text())["manifests"]
    blobs = here / "oci/blobs"
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


def test_packages_that_create_users_and_set_bits_give_the_tree_that_root_gets(
    user: PlainUser, debian: Path
) -> None:
    root, one = built(user, debian, "root"), built(user, debian, "one")
    for number, (theirs, ours) in enumerate(zip(root, one, strict=True)):
        differing = {
            name: (theirs.get(name), ours.get(name))
            for name in theirs.keys() | ours.keys()
            if theirs.get(name) != ours.get(name)
        }
        assert differing == {}, number
    assert one[1]["usr/lib/dbus-1.0/dbus-daemon-launch-helper"][1] == "0o4754"
    assert one[1]["usr/bin/ssh-agent"][1:3] == ("0o2755", 0)
    assert one[1]["usr/bin/ping"][-1]  # its capability
    assert one[3]["srv/app/x/z"][2:4] == (1000, 33)
