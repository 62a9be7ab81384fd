"""The parts that workloads share: a place, a registry on loopback, base images in it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import urllib.request
from functools import cached_property
from pathlib import Path

from benchmarks.builder import CommandFailed, Job, Output, command
from benchmarks.peers import Pybuild
from tests.services import RegistryProcess, has_registry, start_registry

_ROOT = Path(__file__).resolve().parents[1]
_LIFETIME_S = 6 * 3600
_TOOLS = ("sh", "cat", "chmod", "cp", "ls", "mkdir", "mv", "rm", "seq", "sleep", "touch", "true")


class Missing(Exception):
    """The machine lacks something that a workload needs."""


class Site:
    """Made once for a run.

    Attributes:
        place: an empty directory of ours.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._registry: RegistryProcess | None = None

    @property
    def registry(self) -> str:
        """Return host and port of a registry that everybody may push to."""
        if self._registry is None:
            if not has_registry():
                raise Missing("docker-registry is not installed (Debian: docker-registry)")
            self._registry = start_registry(self.place, lifetime_s=_LIFETIME_S)
        return self._registry.host

    def pids(self) -> list[int]:
        """Return the servers' processes, which are nobody's memory."""
        return [self._registry.pid] if self._registry else []

    def close(self) -> None:
        if self._registry:
            self._registry.stop()

    @cached_property
    def shell(self) -> str:
        """A base image with a shell: busybox, in the registry."""
        busybox = shutil.which("busybox")
        if busybox is None:
            raise Missing("busybox is not installed (Debian: busybox-static)")
        context = self.place / "shell"
        (context / "root/bin").mkdir(parents=True)
        shutil.copy(busybox, context / "root/bin/busybox")
        for tool in _TOOLS:
            (context / "root/bin" / tool).symlink_to("busybox")
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")
        ref = f"{self.registry}/shell:1"
        self._own().build(Job(context=context, output=Output.PUSH, ref=ref))
        return ref

    @cached_property
    def debian(self) -> str:
        """A base image of a minimal Debian, in the registry."""
        if shutil.which("mmdebstrap") is None:
            raise Missing("mmdebstrap is not installed")
        ref = f"{self.registry}/debian:1"
        own = self._own()
        try:
            command(_ROOT / "scripts/make-base", "debian", ref, env=own.environment)
            command(own.program, "push", ref, env=own.environment)
        except CommandFailed as error:
            raise Missing(f"no Debian can be made: {error}") from error
        return ref

    def _own(self) -> Pybuild:
        """The one that makes base images: never one that is measured."""
        return Pybuild(self.place / "maker")

    def context(self, name: str, dockerfile: str) -> Path:
        """Make a directory with a Dockerfile."""
        path = self.place / name
        path.mkdir(parents=True)
        (path / "Dockerfile").write_text(dockerfile)
        return path

    def pushed_bytes(self, ref: str) -> int:
        """Return the size of the layers that *ref* has in the registry."""
        name, _, tag = ref.removeprefix(f"{self.registry}/").partition(":")
        kinds = "application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://{self.registry}/v2/{name}/manifests/{tag}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(url, headers={"Accept": kinds})
        with opener.open(request, timeout=30) as answer:
            return _layers(json.load(answer))


def archived_bytes(path: Path) -> int:
    """Return the size of the layers in an OCI archive."""
    with tarfile.open(path) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            return (file or io.BytesIO()).read()

        index = json.loads(member("index.json"))
        digest = index["manifests"][0]["digest"].replace(":", "/")
        return _layers(json.loads(member(f"blobs/{digest}")))


def _layers(manifest: dict[str, list[dict[str, int]]]) -> int:
    return sum(layer["size"] for layer in manifest["layers"])
