"""Results that go somewhere."""

from __future__ import annotations

from benchmarks.builder import Builder, Job, Output
from benchmarks.data import write_file
from benchmarks.site import archived_bytes
from benchmarks.workload import Workload


class Push(Workload):
    """A COPY of 600 MB, one file of it changed, pushed as gzip layers to a registry on loopback."""

    name = "push"
    reach, dream = 0.35, 0.2

    def prepare(self) -> None:
        self._context = self.site.context("push", "FROM scratch\nCOPY data/ /data/\n")
        (self._context / "data").mkdir()
        for number in range(60):
            write_file(self._context / f"data/{number:02}", self.scaled(10_000_000), number)
        self.site.registry  # noqa: B018  it starts here, unmeasured

    def before(self, builder: Builder, turn: int) -> None:
        builder.forget(contexts=False)
        (self._context / "data/turn").write_text(f"{builder.name} {turn}\n")

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.PUSH, ref=self._ref(builder)))

    def layer_bytes(self, builder: Builder) -> int:
        return self.site.pushed_bytes(self._ref(builder))

    def _ref(self, builder: Builder) -> str:
        return f"{self.site.registry}/push-{builder.name}:1"


class OciTar(Workload):
    """A RUN that writes 12,000 files, never cached, exported as an OCI archive."""

    name = "ocitar"
    reach, dream = 0.5, 0.3

    def prepare(self) -> None:
        count = self.scaled(120)
        # The shell's own printing: a program a file would be what is measured.
        body = (
            f"for d in $(seq {count}); do mkdir -p /out/$d; for f in $(seq 100); do "
            'echo "file $f of $d: $((f * d)) $((f + d * 31)) $((f * f * d))" > /out/$d/$f; done; done'
        )
        text = f"FROM {self.site.shell}\nRUN {body}\n"
        self._context = self.site.context("ocitar", text)

    def run(self, builder: Builder) -> None:
        dest = self.site.place / f"{builder.name}.oci.tar"
        job = Job(context=self._context, no_cache=True, output=Output.ARCHIVE, dest=dest)
        builder.build(job)

    def layer_bytes(self, builder: Builder) -> int:
        return archived_bytes(self.site.place / f"{builder.name}.oci.tar")


class Load(Workload):
    """A fully cached rebuild of an image of 1.8 GB in 51 layers, into the local store.

    BuildKit alone has no store that containers start from: as `docker buildx build --load` does, it
    writes the archive that `docker load` reads, here to /dev/null.
    """

    name = "load"

    def prepare(self) -> None:
        count = 50
        lines = [f"FROM {self.site.shell}"] + [f"COPY {n:02} /{n:02}" for n in range(count)]
        self._context = self.site.context("load", "\n".join(lines) + "\n")
        for number in range(count):
            write_file(self._context / f"{number:02}", self.scaled(36_000_000), 1000 + number)

    def run(self, builder: Builder) -> None:
        builder.build(Job(context=self._context, output=Output.STORE))
