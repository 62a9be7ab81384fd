"""Small file systems of their own, so that the disk itself can be asked what is taken."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

MKFS = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def why_not() -> str:
    """Return why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root to mount an image"
    return "" if MKFS else "needs mkfs.ext4 (apt install e2fsprogs)"


@contextmanager
def ext4(where: Path, size: int) -> Generator[Path]:
    """Mount a new ext4 of *size* bytes from an image in *where*; gone afterwards.

    Raises:
        OSError, subprocess.SubprocessError: this machine does not let us.
    """
    image, place = where / "disk.img", where / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(size)
    assert MKFS is not None
    # No reserve for root and no lazy initialisation: what df says moves by our writes alone.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    _run(MKFS, "-q", "-F", "-m", "0", "-E", options, str(image))
    _run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        _run("umount", "-l", str(place))
        image.unlink()


def used(place: Path) -> int:
    """Return the bytes that the file system says are taken."""
    disk = os.statvfs(place)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=120, stdin=subprocess.DEVNULL, capture_output=True)
