"""A cold machine that starts from somebody's cache."""

from __future__ import annotations

from benchmarks.builder import Builder, Job, Output
from benchmarks.workload import Workload


class CacheImport(Workload):
    """A cold store and a cache in a registry: the last of six steps changed, the rest is imported."""

    name = "cacheimport"

    def prepare(self) -> None:
        fill = "for f in $(seq {}); do echo $f $((f * f)) > /{}.$f; done"
        lines = [f"FROM {self.site.shell}"]
        lines += [f"RUN {fill.format(self.scaled(2000), name)}" for name in "abcd"]
        lines += ["COPY turn /turn", "RUN cat /turn > /out"]
        self._context = self.site.context("cacheimport", "\n".join(lines) + "\n")
        (self._context / "turn").write_text("0")

    def warm(self, builder: Builder) -> None:
        builder.forget()
        (self._context / "turn").write_text("0")
        builder.build(
            Job(context=self._context, output=Output.NOTHING, cache_to=self._ref(builder))
        )

    def before(self, builder: Builder, turn: int) -> None:
        builder.forget()
        (self._context / "turn").write_text(f"{builder.name} {turn}")

    def run(self, builder: Builder) -> None:
        builder.build(
            Job(context=self._context, output=Output.NOTHING, cache_from=self._ref(builder))
        )

    def _ref(self, builder: Builder) -> str:
        return f"{self.site.registry}/cache-{builder.name}:1"
