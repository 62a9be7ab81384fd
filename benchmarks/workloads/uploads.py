"""A context on its way to a build server that has none of it; a mount makes that all there is to do."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from benchmarks.builder import Builder, Job, Output
from benchmarks.data import write_file, write_tree
from benchmarks.workload import Workload


class _Upload(Workload):
    reach = 1.0

    @abstractmethod
    def fill(self, context: Path) -> None:
        """Write what is to be sent."""

    def prepare(self) -> None:
        base = self.site.shell
        text = f"FROM {base}\nRUN --mount=type=bind,target=/context true\n"
        self._context = self.site.context(self.name, text)
        self.fill(self._context)

    def before(self, builder: Builder, turn: int) -> None:
        builder.forget()

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING))


class UploadFile(_Upload):
    """One file of 1 GiB, sent to a server that has nothing."""

    name = "upload-file"

    def fill(self, context: Path) -> None:
        write_file(context / "big", self.scaled(1 << 30), 7)


class UploadFiles(_Upload):
    """Twenty thousand files of 2 kB, sent to a server that has nothing."""

    name = "upload-files"

    def fill(self, context: Path) -> None:
        write_tree(context / "tree", self.scaled(20_000), 2_000)
