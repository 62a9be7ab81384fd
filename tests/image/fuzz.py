"""A fuzzer of what strangers' images are read with: ``python -m tests.image.fuzz --inputs 200000``.

Half of the inputs are layers, unpacked beside a directory that nothing may touch; the other half are
manifests, configs and answers of registries. Whatever comes, nothing leaves the root, nothing ends in
another error than an `EnvironmentFault` or `UserError`, nothing takes long, and what was refused leaves
an empty directory. The same seed does the same.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pybuild.image.layer import confined
from pybuild.image.layer.apply import apply_job
from pybuild.image.layer.orders import LowersMissing, UnpackOrder
from pybuild.image.manifest import parse_config, parse_manifest
from pybuild.model.border import WorkerCall
from pybuild.model.errors import PybuildError
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.registry.client import manifests
from pybuild.registry.client.faults import error_codes, status_text
from pybuild.registry.client.pull import candidates
from tests.fuzz.tally import Tally
from tests.image.fuzz_inputs import document, layer

LIMIT_S = 2.0  # of processor time, for one input
_MAX_BYTES = 1 << 20


class Escape(Exception):
    """Something outside of the root is not as it was."""


class Arena:
    """A directory with a root to unpack in, and neighbours that nothing may change."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._work = top / "work"
        self._target = self._work / "target"
        self._target.mkdir(parents=True)
        self._lower = top / "lower"
        (self._lower / "low").mkdir(parents=True)
        (self._lower / "low/x").write_bytes(b"below")
        (self._lower / "lowlink").symlink_to("../outside")
        outside = top / "outside"
        outside.mkdir()
        (outside / "victim").write_bytes(b"safe")
        self.outside = os.fsencode(outside)
        self._watched = (outside, outside / "victim", self._lower, self._lower / "low/x")
        self._before = self._look()

    def unpack(self, data: bytes, rng: random.Random) -> str:
        """Unpack *data*; say what came of it.

        Raises:
            Escape: something else than the root was changed.
        """
        blob = self._work / "blob"
        blob.write_bytes(data)
        order = UnpackOrder(
            blob=str(blob),
            target=str(self._target),
            userxattr=rng.random() < 0.3,
            lowers=rng.choice((None, [], [str(self._lower)])),
            record_owners=rng.random() < 0.2,
            max_bytes=_MAX_BYTES,
            apart=rng.random() < 0.1,
        )
        try:
            result = apply_job(WorkerCall(), order)
            outcome = "needs lowers" if isinstance(result, LowersMissing) else "fine"
        except PybuildError as error:
            outcome = _kind(error.message)
        left = os.listdir(self._target)
        if left and outcome != "fine":
            raise Escape(f"refused, and yet it left {left}")
        self._clear()
        if self._look() != self._before:
            raise Escape("a neighbour of the root was changed")
        (self._work / "target.owners").unlink(missing_ok=True)  # what `record_owners` is for
        beside = {*os.listdir(self._top), *os.listdir(self._work)}
        if beside != {"lower", "outside", "work", "blob", "target"}:
            raise Escape(f"beside the root: {sorted(beside)}")
        return outcome

    def _clear(self) -> None:
        fd = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            confined.empty(fd)
            for name in os.listxattr(fd):
                os.removexattr(fd, name)
        finally:
            os.close(fd)

    def _look(self) -> list[tuple[int, ...]]:
        seen = [os.lstat(path) for path in self._watched]
        return [(s.st_ino, s.st_mode, s.st_nlink, s.st_size, s.st_ctime_ns) for s in seen]


def read_document(data: bytes, rng: random.Random) -> str:
    """Read *data* as all that it could be taken for."""
    content_type = rng.choice((*sorted(manifests.ACCEPT.split(", ")), "", "text/html"))
    readers: tuple[Callable[[], object], ...] = (
        lambda: parse_manifest(data, content_type),
        lambda: parse_config(data),
        lambda: manifests.media_type_of("n", content_type, data),
        lambda: candidates(manifests.children("n", data), LINUX_AMD64),
        lambda: manifests.parts("n", data),
        lambda: manifests.tag_names("n", data),
        lambda: Platform.from_json(parse_config(data)),
    )
    ends = [error_codes(data) and status_text(403, data)]
    for reader in readers:
        try:
            reader()
            ends.append("+")
        except PybuildError as error:
            error.message.encode()
            ends.append("-")
    return "".join(end for end in ends if isinstance(end, str))[-len(readers) :]


def run(inputs: int, seed: int, top: Path) -> Tally:
    """Try so many inputs; *top* is an empty directory."""
    rng = random.Random(seed)
    arena = Arena(top)
    tally = Tally()
    for number in range(inputs):
        is_layer = number % 2 == 0
        data = layer(rng, arena.outside) if is_layer else document(rng)
        began = time.process_time()
        try:
            outcome = arena.unpack(data, rng) if is_layer else read_document(data, rng)
        except Exception:  # noqa: BLE001  that is what we look for
            outcome = "finding"
            tally.findings.append(f"{data!r}\n{traceback.format_exc(limit=-4)}")
        took = time.process_time() - began
        if took > LIMIT_S:
            tally.findings.append(f"took {took:.2f} s: {data[:200]!r}")
        tally.slowest_s = max(tally.slowest_s, took)
        tally.outcomes[f"{'layer' if is_layer else 'document'}: {outcome}"] += 1
        tally.inputs += 1
        if len(tally.findings) >= 10:
            break
    return tally


def _kind(message: str) -> str:
    """The part of a message that does not change with the input."""
    return message.partition('"')[0].partition(": ")[0].rstrip("0123456789 ")[:50]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="fuzz the readers of layers and manifests")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    top = tempfile.mkdtemp(prefix="fuzz-layers-")
    try:
        tally = run(options.inputs, options.seed, Path(top))
    finally:
        shutil.rmtree(top, ignore_errors=True)
    sys.stdout.write(f"{tally}\n".encode("utf-8", "backslashreplace").decode())
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
