"""A base image that has to be fetched first, and a real application on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.builder import Builder, Job, Output
from benchmarks.workload import Workload

_SOURCES = Path(__file__).resolve().parents[2] / "examples/webservice"


class Pull(Workload):
    """A cold pull and unpack of Debian from a registry on loopback."""

    name = "pull"
    reach, dream = 0.5, 0.35

    def prepare(self) -> None:
        # The step makes sure that the tree is really there.
        self._context = self.site.context("pull", f"FROM {self.site.debian}\nRUN true\n")

    def before(self, builder: Builder, turn: int) -> None:
        builder.forget()

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING))


class Apt(Workload):
    """apt-get install of a compiler and the build of our example, never cached, on a pulled base."""

    name = "apt"
    reach, dream = 0.9, 0.8

    def prepare(self) -> None:
        text = f"""FROM {self.site.debian}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make
WORKDIR /src
COPY Makefile ./
COPY src/ src/
RUN make VERSION=bench
"""
        self._context = self.site.context("apt", text)
        shutil.copy(_SOURCES / "Makefile", self._context)
        shutil.copytree(_SOURCES / "src", self._context / "src")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING, no_cache=True))
