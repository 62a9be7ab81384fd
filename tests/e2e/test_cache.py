"""Caches carried between stores: by a registry, a directory, an image [CCH]; issue 6, show 2."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Pybuild, write
from tests.services import RegistryProcess, has_registry, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    pytest.mark.skipif(not has_registry(), reason="docker-registry is not installed"),
]

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


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


class Machines:
    """Stores that have the base image and nothing else."""

    def __init__(self, where: Path, base_store: Path) -> None:
        self._where = where
        self._base = base_store
        self._count = 0
        self.context = write(where / "context", Dockerfile=STAGES, source="s\n", readme="r\n")

    def fresh(self) -> Pybuild:
        self._count += 1
        store = self._where / f"store-{self._count}"
        subprocess.run(["cp", "-a", self._base, store], check=True, timeout=60)
        return Pybuild(store)

    def build(self, machine: Pybuild, *words: str | Path, name: str = "out") -> Built:
        out = self._where / f"{name}-{self._count}"
        shutil.rmtree(out, ignore_errors=True)
        done = machine(
            "build", "--progress", "plain", "-o", f"type=local,dest={out}", *words, self.context
        )
        made = (out / "made").read_text() if (out / "made").exists() else ""
        return Built(done.err, made)


class Built:
    def __init__(self, log: str, made: str) -> None:
        self.log = log
        self.made = made

    @property
    def ran(self) -> list[str]:
        """The steps that were not cached."""
        names: dict[str, str] = {}
        cached: set[str] = set()
        for line in self.log.splitlines():
            number, _, rest = line.partition(" ")
            if number.startswith("#") and rest:
                names.setdefault(number, rest)
                if rest == "CACHED":
                    cached.add(number)
        return [
            name
            for number, name in names.items()
            if number not in cached and ("] RUN" in name or "] COPY" in name)
        ]


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def test_everything_is_found_again_from_a_registry(
    machines: Machines, registry: RegistryProcess
) -> None:
    ref = f"{registry.host}/caches/max:1"
    first = machines.build(machines.fresh(), "--cache-to", f"type=registry,ref={ref},mode=max")
    assert len(first.ran) == 6
    again = machines.build(machines.fresh(), "--cache-from", f"type=registry,ref={ref}")
    assert (again.ran, again.made) == ([], first.made)
