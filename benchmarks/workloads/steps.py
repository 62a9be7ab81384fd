"""Steps that cost nothing themselves: what is left is the builder."""

from __future__ import annotations

from benchmarks.builder import Builder, Job, Output
from benchmarks.workload import Workload


class Noop(Workload):
    """A fully cached rebuild of ten steps."""

    name = "noop"
    reach, dream = 1.0, 0.5

    def prepare(self) -> None:
        lines = [f"FROM {self.site.shell}", "WORKDIR /w", "COPY a.txt ./"]
        lines += [f"RUN touch /w/{n}" for n in range(7)]
        self._context = self.site.context(self.name, "\n".join(lines) + "\n")
        (self._context / "a.txt").write_text("a\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context))


class NoopMade(Noop):
    """A fully cached rebuild of ten steps that goes nowhere."""

    name = "noopmade"
    reach, dream = 0.4, 0.3

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.NOTHING))


class NoopArchive(Noop):
    """A fully cached rebuild of ten steps into an archive that is there already."""

    name = "nooparchive"
    reach, dream = 0.4, 0.3

    def run(self, builder: Builder) -> None:
        dest = self.site.place / f"{builder.name}-noop.tar"
        builder.build(Job(context=self._context, output=Output.ARCHIVE, dest=dest))


class NoopPush(Noop):
    """A fully cached rebuild of ten steps, pushed to a registry that has it already."""

    name = "nooppush"
    reach, dream = 0.4, 0.3

    def prepare(self) -> None:
        super().prepare()
        self.site.registry  # noqa: B018  it starts here, unmeasured

    def run(self, builder: Builder) -> None:
        ref = f"{self.site.registry}/noop-{builder.name}:1"
        builder.build(Job(context=self._context, output=Output.PUSH, ref=ref))


class Chain(Workload):
    """Forty trivial RUNs, never cached."""

    name = "chain"
    reach, dream = 0.12, 0.06

    def prepare(self) -> None:
        lines = [f"FROM {self.site.shell}"]
        lines += [f"RUN touch /{n}" for n in range(self.scaled(40))]
        self._context = self.site.context("chain", "\n".join(lines) + "\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, no_cache=True, output=Output.NOTHING))


class Wide(Workload):
    """Sixteen independent stages that each sleep for half a second, never cached."""

    name = "wide"
    reach, dream = 0.5, 0.42

    def prepare(self) -> None:
        base, count = self.site.shell, self.scaled(16)
        stages = [f"FROM {base} AS s{n}\nRUN sleep 0.5 && touch /done{n}" for n in range(count)]
        copies = [f"COPY --from=s{n} /done{n} /" for n in range(count)]
        text = "\n".join([*stages, "FROM scratch", *copies])
        self._context = self.site.context("wide", text + "\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, no_cache=True, output=Output.NOTHING))


class Many(Workload):
    """A hundred sibling images at once: by our Python API, by commands where there is none."""

    name = "many"

    def prepare(self) -> None:
        text = f"FROM {self.site.shell}\nRUN seq 1000 > /shared\nARG N\nRUN echo $N > /own\n"
        self._context = self.site.context("many", text)
        self._turn = 0

    def before(self, builder: Builder, turn: int) -> None:
        self._turn = turn

    def run(self, builder: Builder) -> None:
        builder.build_all(
            [
                Job(
                    context=self._context,
                    args={"N": f"{self._turn}.{number}"},
                    ref=f"localhost/many:{number}",
                )
                for number in range(self.scaled(100))
            ]
        )
