"""A hundred images of a repository with one command: ``pybuild bake`` beside ``docker buildx bake``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.builder import Builder
from benchmarks.data import write_tree
from benchmarks.workload import Workload

_DOCKERFILE = """FROM {shell} AS base
COPY shared/ /shared/
RUN cat /shared/d000/e00/*.c > /lib
FROM base
ARG SERVICE
COPY services/$SERVICE/ /app/
RUN cat /lib /app/main.c > /app/built
"""
_DEFINITION = """group "default" {{ targets = ["service"] }}
target "service" {{
  matrix = {{ n = range({count}) }}
  name = "service-${{n}}"
  args = {{ SERVICE = "s${{n}}" }}
  tags = ["localhost/bake/service-${{n}}:1"]
}}
"""


class _Bake(Workload):
    """A bake file of a hundred targets on a shared base stage."""

    def prepare(self) -> None:
        self._repository = self.site.context(self.name, _DOCKERFILE.format(shell=self.site.shell))
        count = self.scaled(100)
        (self._repository / "docker-bake.hcl").write_text(_DEFINITION.format(count=count))
        write_tree(self._repository / "shared", 200, 2_000)
        for number in range(count):
            write_tree(self._service(number), 20, 2_000)
            (self._service(number) / "main.c").write_text(f"{number}\n")

    def _service(self, number: int) -> Path:
        return self._repository / f"services/s{number}"

    def run(self, builder: Builder) -> None:
        builder.bake(self._repository)


class BakeCold(_Bake):
    """A hundred targets on a shared base stage, in a fresh store."""

    name = "bakecold"
    reach = 0.5

    def before(self, builder: Builder, turn: int) -> None:
        builder.forget()


class BakeNoop(_Bake):
    """The same hundred targets again, nothing changed."""

    name = "bakenoop"
    reach = 0.3


class BakeChanged(_Bake):
    """The same hundred targets, a file of one of them changed."""

    name = "bakechanged"
    reach = 0.3

    def before(self, builder: Builder, turn: int) -> None:
        (self._service(1) / "main.c").write_text(f"{builder.name} {turn}\n")
