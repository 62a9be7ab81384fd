"""Movements in a context while it is built: each a change that is made again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Movement:
    """Something that happens again and again beside a build.

    Attributes:
        once: does it, in the context; the number says how often it was done.
        may_be_missing: it takes away what is copied by name.
    """

    name: str
    once: Callable[[Path, int], object]
    may_be_missing: bool = False


def _append(context: Path, _number: int) -> None:
    with (context / "f").open("ab") as file:
        file.write(b"more and more\n" * 1000)


def _shrink(context: Path, number: int) -> None:
    os.truncate(context / "big", (number % 9) << 20)


def _rewrite(context: Path, number: int) -> None:
    with (context / "f").open("r+b") as file:
        file.write(b"%d" % (number % 2))


def _replace(context: Path, number: int) -> None:
    (context / "new").write_text(str(number))
    (context / "new").replace(context / "f")


def _come_and_go(context: Path, number: int) -> None:
    (context / f"d/{number % 7}").write_text(str(number))
    (context / f"d/{(number + 3) % 7}").unlink(missing_ok=True)


def _directory_comes_and_goes(context: Path, number: int) -> None:
    if number % 2:
        os.makedirs(context / "d/deep/er", exist_ok=True)
        (context / "d/deep/er/g").write_text("g")
    else:
        (context / "d/deep/er/g").unlink(missing_ok=True)
        for name in ("d/deep/er", "d/deep"):
            if (context / name).is_dir():
                (context / name).rmdir()


def _link_for_a_file(context: Path, number: int) -> None:
    (context / "new").symlink_to("/etc/passwd" if number % 2 else "Dockerfile")
    (context / "new").replace(context / "f")
    if number % 3 == 0:
        (context / "new").write_text("a file")
        (context / "new").replace(context / "f")


def _link_for_a_directory(context: Path, number: int) -> None:
    os.rename(context / "d", context / "was")
    (context / "d").symlink_to("/etc" if number % 2 else "was")
    (context / "d").unlink()
    os.rename(context / "was", context / "d")


def _pipe_for_a_file(context: Path, number: int) -> None:
    (context / "f").unlink(missing_ok=True)
    if number % 2:
        os.mkfifo(context / "f")
    else:
        (context / "f").write_text("a file")


def _directory_for_a_file(context: Path, number: int) -> None:
    if number % 2:
        (context / "f").rmdir()
        (context / "f").write_text("a file")
    else:
        (context / "f").unlink()
        (context / "f").mkdir()


def _modes(context: Path, number: int) -> None:
    (context / "f").chmod(0o600 if number % 2 else 0o755)


def _times(context: Path, number: int) -> None:
    os.utime(context / "d/g", (number, number))


def _back_and_forth(context: Path, number: int) -> None:
    """Another file for a moment, then the old one, with its old times."""
    before = (context / "f").stat()
    (context / "f").write_text(f"for a moment {number}")
    (context / "f").write_text("f")
    os.utime(context / "f", ns=(before.st_atime_ns, before.st_mtime_ns))


MOVEMENTS = (
    Movement("a file grows", _append),
    Movement("a file shrinks and grows", _shrink),
    Movement("a file is written in place", _rewrite),
    Movement("a file is replaced by another", _replace),
    Movement("files come and go", _come_and_go),
    Movement("directories come and go", _directory_comes_and_goes),
    Movement("links and files trade places", _link_for_a_file, may_be_missing=True),
    Movement("a link stands for a directory", _link_for_a_directory, may_be_missing=True),
    Movement("pipes and files trade places", _pipe_for_a_file, may_be_missing=True),
    Movement("directories and files trade places", _directory_for_a_file, may_be_missing=True),
    Movement("modes change", _modes),
    Movement("times change", _times),
    Movement("a file is another one for a moment", _back_and_forth),
)


def _all(context: Path, number: int) -> None:
    for name in _TOGETHER:
        name(context, number)


_TOGETHER = (_append, _shrink, _come_and_go, _directory_comes_and_goes, _modes)
ALL_AT_ONCE = Movement("several at once", _all)


@contextmanager
def moving(context: Path, movement: Movement) -> Generator[None]:
    """Do it until the block ends, and leave a file in the end."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            try:
                movement.once(context, number)
            except BaseException as error:
                failed.append(error)
                raise
            number += 1
            # Often enough that no build finds it still; neither disk nor processor is attacked.
            large = number % 64 == 0 and _size(context) > 1 << 25
            stop.wait(0.1 if large else 0.0005)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed
    file = context / "f"
    if file.is_symlink() or not file.is_file():
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink(missing_ok=True)
        file.write_text("a file at last")


def _size(context: Path) -> int:
    with os.scandir(context) as entries:
        return sum(entry.stat().st_size for entry in entries)


def tree(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return what is below a directory: modes, and contents or targets, by path."""
    return dict(_entries(root, ""))


def _entries(root: Path, prefix: str) -> Iterator[tuple[str, tuple[int, bytes | str]]]:
    for path in sorted(root.iterdir()):
        status = path.lstat()
        name = prefix + path.name
        if path.is_symlink():
            yield name, (0, os.readlink(path))
        elif path.is_dir():
            yield name, (status.st_mode, "")
            yield from _entries(path, name + "/")
        else:
            yield name, (status.st_mode, path.read_bytes() if path.is_file() else "")
