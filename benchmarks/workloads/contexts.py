"""Contexts of many files, of which little changed or little is needed."""

from __future__ import annotations

from benchmarks.builder import Builder, Job, Output
from benchmarks.data import write_tree
from benchmarks.workload import Workload


class Context(Workload):
    """One file changed among 20,000, all copied into the image."""

    name = "context"
    reach, dream = 0.3, 0.12

    def prepare(self) -> None:
        self._context = self.site.context("context", "FROM scratch\nCOPY src/ /src/\n")
        self._files = write_tree(self._context / "src", self.scaled(20_000), 2_000)

    def before(self, builder: Builder, turn: int) -> None:
        changed = self._files[len(self._files) // 2]
        changed.write_text(f"{builder.name} {turn}\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING))


class Monorepo(Workload):
    """A context of 100,000 files of which a stage needs 50, one of them changed."""

    name = "monorepo"

    def prepare(self) -> None:
        text = f"FROM {self.site.shell}\nCOPY app/ /app/\nRUN cat /app/d000/e00/f000.c > /out\n"
        self._context = self.site.context("monorepo", text)
        write_tree(self._context / "others", self.scaled(100_000), 500)
        self._files = write_tree(self._context / "app", 50, 4_000)

    def before(self, builder: Builder, turn: int) -> None:
        self._files[0].write_text(f"{builder.name} {turn}\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING))
