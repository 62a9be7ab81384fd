"""Machines that have nothing but a base image, and the caches that they share [CCH]."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST
from tests.daemon.buildsites import Daemon, daemon
from tests.daemon.libraries import library
from tests.harness import Pybuild, write
from tests.services import RegistryProcess

STAGES = """\
FROM base AS tools
RUN cat /proc/sys/kernel/random/uuid > /tool
FROM base AS build
COPY source /source
COPY --from=tools /tool /tool
RUN cat /source /tool > /made; cat /proc/sys/kernel/random/uuid >> /made
FROM scratch
COPY --from=build /made /
COPY readme /
"""


@dataclass(frozen=True)
class Built:
    log: str
    made: str

    @property
    def ran(self) -> list[str]:
        """The steps that ran, by instruction; some may have been found first, and others after."""
        names: dict[str, str] = {}
        done: set[str] = set()
        for line in self.log.splitlines():
            number, _, rest = line.partition(" ")
            if number.startswith("#") and rest:
                names.setdefault(number, rest)
                if rest.startswith("DONE"):
                    done.add(number)
        steps = [names[number] for number in done]
        return sorted(
            name.partition("] ")[2] for name in steps if "] RUN " in name or "] COPY " in name
        )


class Machines:
    """Stores that have the base image and nothing else, and what is built on them."""

    def __init__(self, where: Path, base_store: Path) -> None:
        self.where = where
        self._base = base_store
        self._count = 0
        self.context = write(where / "context", Dockerfile=STAGES, source="s\n", readme="r\n")

    def fresh(self) -> Pybuild:
        self._count += 1
        store = self.where / f"store-{self._count}"
        subprocess.run(["cp", "-a", self._base, store], check=True, timeout=60)
        return Pybuild(store)

    @contextmanager
    def server(self, where: Path) -> Generator[Daemon]:
        """Run a build server on one more, with its socket in *where*; Docker Hub has the base image."""
        with library() as hub:
            hub.of_store(self._base, "docker.io/library/base:latest", "library/base", "latest")
            config = where / "pybuild.toml"
            config.write_text(f'[registry."docker.io"]\nmirrors = ["{hub.host}"]\n')
            with daemon(Pybuild(self.fresh().store, config), where) as server:
                yield server

    def build(
        self,
        machine: Pybuild,
        *words: str | Path,
        output: str = "",
        code: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> Built:
        out = self.where / "out"
        shutil.rmtree(out, ignore_errors=True)
        output = output or f"type=local,dest={out}"
        done = machine(
            *("build", "--progress", "plain", "-o", output, *words, self.context),
            code=code,
            env=env,
        )
        made = (out / "made").read_text() if (out / "made").exists() else ""
        return Built(done.err, made)


def requests(registry: RegistryProcess) -> list[str]:
    """``METHOD path`` of all requests so far."""
    found: list[str] = []
    for line in registry.log.read_text(errors="replace").splitlines():
        words = line.partition(' "')[2].partition('" ')[0].split()
        if len(words) == 3 and words[2].startswith("HTTP/"):
            found.append(f"{words[0]} {words[1]}")
    return found


def manifest(registry: RegistryProcess, ref: str) -> dict[str, Any]:
    path, _, tag = ref.removeprefix(registry.host + "/").rpartition(":")
    accept = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_INDEX}"
    asked = urllib.request.Request(
        f"{registry.url}/v2/{path}/manifests/{tag}", headers={"Accept": accept}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
