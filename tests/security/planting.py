"""A store that somebody else prepared: what was put in which place, and the directory it is to hurt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pybuild.cache.disk.custody import DIRECTORIES, FILES

STRANGER = 65534
INNER = (
    *("blobs/sha256", "builds", "contexts", "history", "history/records", "refs", "registry"),
    *("registry/repositories", "registry/uploads", "statindex", "listings"),
)
PLACES = (*DIRECTORIES, *INNER)

Plant = Callable[[Path, Path], None]


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _relative_link(path: Path, victim: Path) -> None:
    path.symlink_to(os.path.relpath(victim, path.parent))


def _file(path: Path, victim: Path) -> None:
    path.write_text("not a directory")


def _pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _of_a_stranger(path: Path, victim: Path) -> None:
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)


def _writable(path: Path, victim: Path) -> None:
    path.mkdir()
    (path / "planted").symlink_to(victim)
    path.chmod(0o777)


def _of_a_group(path: Path, victim: Path) -> None:
    path.mkdir()
    (path / "planted").symlink_to(victim)
    os.chown(path, 0, STRANGER)
    path.chmod(0o770)


# In the place of a directory.
DIRECTORY_PLANTS: dict[str, Plant] = {
    "a link": _link,
    "a relative link": _relative_link,
    "a file": _file,
    "a pipe": _pipe,
    "a stranger's directory": _of_a_stranger,
    "a directory open to everybody": _writable,
    "a directory open to a group": _of_a_group,
}


def _file_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "precious")


def _dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "made-by-you")


def _hard_link(path: Path, victim: Path) -> None:
    os.link(victim / "precious", path)


def _strangers_file(path: Path, victim: Path) -> None:
    path.write_text("{}")
    os.chown(path, STRANGER, STRANGER)


# In the place of a file.
FILE_PLANTS: dict[str, Plant] = {
    "a link": _file_link,
    "a dangling link": _dangling,
    "another name of a file": _hard_link,
    "a stranger's file": _strangers_file,
    "a pipe": _pipe,
}


def attempts() -> Iterator[tuple[str, str, Plant]]:
    """Yield (place, what is put there, how)."""
    for place in PLACES:
        for what, plant in DIRECTORY_PLANTS.items():
            yield place, what, plant
    for place in FILES:
        for what, plant in FILE_PLANTS.items():
            yield place, what, plant


def make_victim(path: Path) -> Path:
    """Make a directory that has all the names that a sweep, a prune or a write could choose."""
    path.mkdir()
    (path / "precious").write_text("precious")
    for name in ("trash.0123456789abcdef", "1-0011223344556677.aa", "sha256", "fs"):
        (path / name).mkdir()
        (path / name / "precious").write_text("precious")
        os.utime(path / name / "precious", (1, 1))
    for name in ("sha256-" + "0" * 64, "1-0011223344556677.lock", "b" * 64, "records.db"):
        (path / name).write_text("precious")
        os.utime(path / name, (1, 1))
    return path


def state(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return all that a command could have changed below *path*."""
    found: dict[str, tuple[int, int, int, bytes]] = {}
    for each in sorted([path, *path.rglob("*")]):
        status = each.lstat()
        content = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
        found[str(each)] = status.st_mode, status.st_uid, status.st_mtime_ns, content
    return found


def put(store: Path, place: str, plant: Plant, victim: Path) -> None:
    """Put something in one place of a store, in the place of what is there."""
    path = store / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    plant(path, victim)


def give_away(path: Path) -> None:
    """Make all of a tree the stranger's."""
    for each in [path, *path.rglob("*")]:
        os.chown(each, STRANGER, STRANGER, follow_symlinks=False)
