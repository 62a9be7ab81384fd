"""The sizes of deltas, each noted beside its delta."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.cache.store import Store


def delta_size(store: Store, id: str) -> int:
    """Return the bytes that a delta takes; noted beside it the first time, for it never changes."""
    folder = os.path.dirname(store.deltas.path(id))
    note = os.path.join(folder, "size")
    try:
        with open(note, encoding="ascii") as file:
            text = file.read(32)
        if text.endswith("\n") and text[:-1].isdecimal():  # else it was cut short
            return int(text)
        os.unlink(note)
    except (OSError, ValueError):
        pass
    return _noted(store, folder, note)


def _noted(store: Store, folder: str, note: str) -> int:
    try:
        fd = store.disk.create(note)
    except OSError:
        return store.measure(folder).size  # measured again the next time
    try:
        # The note takes a block itself, so it must be there when the delta is measured.
        store.disk.write(fd, b"0")
        extent = store.measure(folder)
        if extent.alone:
            os.lseek(fd, 0, os.SEEK_SET)
            store.disk.write(fd, f"{extent.size}\n".encode("ascii"))
        else:
            os.unlink(note)
    except OSError:
        return store.measure(folder).size
    finally:
        os.close(fd)
    return extent.size
