"""Other programs take images of ours from a registry of ours, and bring it theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import BUSYBOX, Pybuild, write
from tests.needs import need, needs
from tests.registry.server.processes import process

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    needs("busybox"),
]


@dataclass(frozen=True)
class Place:
    """A registry with ``base:1``, and ``app:1`` on top of it."""

    host: str
    pybuild: Pybuild
    directory: Path

    def run(self, *words: str) -> str:
        """Run another program with a home of its own."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.directory,
            env=environment,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def manifest(self, name: str) -> dict[str, Any]:
        raw = self.pybuild("imagetools", "inspect", "--raw", f"{self.host}/{name}").out
        found: dict[str, Any] = json.loads(raw)
        return found

    def digest(self, name: str) -> str:
        words = ["imagetools", "inspect", "--format", "{{.Manifest.Digest}}"]
        return self.pybuild(*words, f"{self.host}/{name}").out.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    top = tmp_path_factory.mktemp("clients")
    base = write(top / "base", Dockerfile="FROM scratch\nCOPY busybox /bin/busybox\n")
    shutil.copy(str(BUSYBOX), base / "busybox")
    with process(top / "served") as serving:
        pybuild = Pybuild(top / "store")
        pybuild("build", "-q", "--push", "-t", f"{serving.host}/base:1", base)
        text = (
            f"FROM {serving.host}/base:1\nCOPY hello /hello\nENV GREETING=hi\n"
            'RUN ["/bin/busybox", "sh", "-c", "echo made > /made; /bin/busybox ln -s made /link"]\n'
        )
        app = write(top / "app", Dockerfile=text, hello="hello\n")
        pybuild("build", "-q", "--push", "-t", f"{serving.host}/app:1", app)
        yield Place(serving.host, pybuild, top)


def test_layers_of_the_base_are_as_they_were(place: Place) -> None:
    assert place.manifest("app:1")["layers"][:1] == place.manifest("base:1")["layers"]


def test_skopeo_and_umoci(place: Place) -> None:
    need("skopeo")
    need("umoci")
    seen = json.loads(
        place.run("skopeo", "inspect", "--tls-verify=false", f"docker://{place.host}/app:1")
    )
    assert seen["Digest"] == place.digest("app:1")
    assert "GREETING=hi" in seen["Env"]
    copy = ["skopeo", "--insecure-policy", "copy", "-q"]
    place.run(*copy, "--src-tls-verify=false", f"docker://{place.host}/app:1", "oci:layout:1")
    unpack = ["umoci", "unpack", "--image", "layout:1", "bundle"]
    place.run(*unpack, *([] if os.geteuid() == 0 else ["--rootless"]))
    root = place.directory / "bundle/rootfs"
    assert (root / "made").read_text() == "made\n"
    assert (root / "hello").read_text() == "hello\n"
    assert os.readlink(root / "link") == "made"
    place.run(*copy, "--dest-tls-verify=false", "oci:layout:1", f"docker://{place.host}/skopeo:2")
    assert place.digest("skopeo:2") == place.digest("app:1")
    place.run("skopeo", "delete", "--tls-verify=false", f"docker://{place.host}/skopeo:2")
    gone = place.pybuild("imagetools", "inspect", f"{place.host}/skopeo:2", code=1)
    assert "not found" in gone.err


def test_crane(place: Place) -> None:
    need("crane")
    host = place.host
    assert place.run("crane", "digest", f"{host}/app:1").strip() == place.digest("app:1")
    assert "PASS" in place.run("crane", "validate", "--remote", f"{host}/app:1")
    place.run("crane", "copy", f"{host}/app:1", f"{host}/crane:1")
    place.run("crane", "tag", f"{host}/crane:1", "two")
    assert place.run("crane", "ls", f"{host}/crane").split() == ["1", "two"]
    assert "crane" in place.run("crane", "catalog", host).split()
    place.run("crane", "delete", f"{host}/crane:1")
    assert place.run("crane", "ls", f"{host}/crane").split() == ["two"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a store of podman's without a namespace")
def test_podman_and_buildah(place: Place) -> None:
    """Their store takes ours, and what they push of it we run; podman's own run needs more."""
    need("podman")
    need("buildah")
    top = place.directory
    store = ["--root", f"{top}/pods", "--runroot", f"{top}/pods-run", "--storage-driver", "vfs"]
    podman = ["podman", *store, "--cgroup-manager=cgroupfs"]
    name, other = f"{place.host}/app:1", f"{place.host}/podman:1"
    place.run(*podman, "pull", "-q", "--tls-verify=false", name)
    place.run(*podman, "tag", name, other)
    place.run(*podman, "push", "-q", "--tls-verify=false", other)
    command = ["/bin/busybox", "cat", "/hello", "/made"]
    assert place.pybuild("run", other, *command).out == "hello\nmade\n"
    archive = top / "ours.tar"
    place.pybuild("save", "-o", archive, name)
    place.run(*podman, "rmi", "-af")
    assert name in place.run(*podman, "load", "-q", "-i", str(archive))
    buildah = ["buildah", *store]
    container = place.run(*buildah, "from", "--tls-verify=false", name).strip()
    place.run(*buildah, "config", "--label", "x=y", container)
    target = f"docker://{place.host}/buildah:1"
    place.run(*buildah, "commit", "-q", "--tls-verify=false", container, target)
    place.run(*buildah, "rm", container)
    assert place.pybuild("run", f"{place.host}/buildah:1", *command).out == "hello\nmade\n"
