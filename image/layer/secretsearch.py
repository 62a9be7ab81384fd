"""Searches the files of a layer for secrets: in its delta, or in its blob. Lean: runs in workers."""

from __future__ import annotations

import os
import stat
from functools import partial

from pybuild.image.layer import secretrules
from pybuild.image.layer.descent import directories
from pybuild.image.layer.secretrules import LONGEST, Leak, SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pybuild.model.border import WorkerCall

_WINDOW = 4 << 20
_MOST = 100
"""Leaks of one layer; who has more sees enough."""
_MOST_LAYER_BYTES = 1 << 40
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def delta_job(
    call: WorkerCall, roots: Sequence[str], values: Sequence[SecretValue] = ()
) -> list[Leak]:
    """Search the directories of a delta, which nobody changes meanwhile."""
    leaks: list[Leak] = []
    for root in roots:
        for fd, prefix, below in directories(root):
            with os.scandir(fd) as entries:
                files = sorted(entries, key=lambda entry: entry.name)
            for entry in files:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    below.append(name)
                elif entry.is_file(follow_symlinks=False):
                    leaks += _in_file(fd, name, prefix + name, values)
            if len(leaks) >= _MOST:
                return leaks[:_MOST]
    return leaks


def _in_file(
    dir_fd: int, name: bytes, path: bytes, values: Sequence[SecretValue]
) -> Iterator[Leak]:
    fd = os.open(name, _OPEN_FILE, dir_fd=dir_fd)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            yield from search(path, lambda: os.read(fd, _WINDOW), values)
    finally:
        os.close(fd)


def blob_job(call: WorkerCall, path: str, values: Sequence[SecretValue] = ()) -> list[Leak]:
    """Search the layer blob *path*.

    Raises:
        EnvironmentFault: it is damaged.
    """
    from pybuild.image.layer.compression import LayerSource
    from pybuild.image.layer.tarreader import TarReader

    leaks: list[Leak] = []
    with open(path, "rb", buffering=0) as file:
        source = LayerSource(file.read, _MOST_LAYER_BYTES, digests_blob=False)
        reader = TarReader(source.read)
        while (member := reader.next()) is not None and len(leaks) < _MOST:
            if member.kind != b"0" or not member.size:
                continue
            name = os.path.normpath(b"/" + member.name).lstrip(b"/")
            leaks += search(name, partial(next, reader.chunks(), b""), values)
    return leaks[:_MOST]


def search(
    path: bytes,
    read: Callable[[], bytes | memoryview],
    values: Sequence[SecretValue] = (),
) -> Iterator[Leak]:
    """Yield the secrets in a file.

    Args:
        read: returns its next piece, nothing at its end.
    """
    shown = path.decode("utf-8", "backslashreplace")
    kinds: set[str] = set()
    lines = 0
    for window, is_last in _windows(read):
        for leak in secretrules.leaks_in(shown, window, lines, values):
            if leak.kind not in kinds:
                kinds.add(leak.kind)
                yield leak
        if not is_last:
            lines += window.count(b"\n", 0, len(window) - LONGEST)


def _windows(read: Callable[[], bytes | memoryview]) -> Iterator[tuple[bytes, bool]]:
    """Yield a file in windows that overlap by the longest match, and whether each is the last."""
    window = bytearray()
    while piece := read():
        window += piece
        if len(window) >= _WINDOW:
            yield bytes(window), False
            del window[: len(window) - LONGEST]
    yield bytes(window), True
