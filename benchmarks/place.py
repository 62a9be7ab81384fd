"""The place of a benchmark's stores and contexts: a journaled ext4 of its own, or a given directory.

File benchmarks depend on the file system: ext4 without a journal, which some cloud machines have as
their root, is 4 to 18 times slower at making files after many were deleted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_ISOLATED = "PYBUILD_BENCH_ISOLATED"
_RESERVE = 4 << 30


def isolate() -> None:
    """Start again in a mount namespace of our own, which ends with us, however we end."""
    if os.geteuid() or os.environ.get(_ISOLATED) or not shutil.which("unshare"):
        return
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "benchmarks"]
    os.execvpe("unshare", [*words, *sys.argv[1:]], {**os.environ, _ISOLATED: "1"})


@contextmanager
def place(directory: str | None, size_gib: int) -> Generator[Path]:
    """Yield an empty directory, which is removed in the end.

    Args:
        directory: make it there; default: on a loop image, where we may mount one.
    """
    base = Path(tempfile.mkdtemp(prefix="pybuild-bench-", dir=directory))
    try:
        mounted = directory is None and _mount(base, size_gib)
        inside = base / "work"
        inside.mkdir()
        try:
            yield inside
        finally:
            if mounted:
                _run("umount", "--lazy", str(base))
    finally:
        remove(base)


def _mount(base: Path, size_gib: int) -> bool:
    """Mount a new ext4 with a journal over *base*; tell whether that was possible."""
    if os.geteuid() or not os.environ.get(_ISOLATED) or not shutil.which("mkfs.ext4"):
        return False
    image = base.with_suffix(".ext4")
    free = shutil.disk_usage(base).free - _RESERVE
    try:
        with image.open("wb") as file:
            file.truncate(min(size_gib << 30, free))  # sparse: it takes what is written
        if not _run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(image)):
            return False
        return _run("mount", "-o", "loop", str(image), str(base))
    finally:
        image.unlink(missing_ok=True)  # the mount holds it: whatever happens, nothing is left


def remove(path: Path) -> None:
    """Delete *path*, if it is there; flushes behind the last build may still make files in it."""
    for _ in range(100):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            break


def trim(path: Path) -> None:
    """Give deleted blocks back to the disk below, as far as that is possible."""
    _run("fstrim", str(path))


def settle(path: Path) -> None:
    """Write out what earlier builds left, so that nobody pays for another's files."""
    _run("sync", "--file-system", str(path))


def describe(path: Path) -> str:
    """Return the kind of file system that *path* is on."""
    best = ""
    kind = "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        at, rest = fields[4], fields[fields.index("-") + 1 :]
        if f"{path}/".startswith(f"{at.rstrip('/')}/") and len(at) >= len(best):
            best, kind = at, f"{rest[0]} on {rest[1].rstrip('0123456789')}"
            journal = Path(f"/proc/fs/jbd2/{rest[1].rpartition('/')[2]}-8")
            if rest[0] == "ext4":
                kind += " with a journal" if journal.exists() else " without a journal"
    return kind


def _run(*words: str) -> bool:
    try:
        done = subprocess.run(words, capture_output=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
