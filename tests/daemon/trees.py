"""Trees on disk for tests of transfers, and both ends of one without a network."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from pybuild.buildkit.fsutil.receiver import Receiver
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.buildkit.fsutil.writer import TreeWriter


def describe(root: Path | str) -> dict[str, tuple[object, ...]]:
    """Return the facts that a transfer must carry over: type, mode, time, content, and who shares an inode."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            body: object = None
            if stat.S_ISREG(status.st_mode):
                body = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                body = os.readlink(path)
            first = inodes.setdefault(status.st_ino, os.path.relpath(path, root))
            key = os.path.relpath(path, root)
            found[key] = (status.st_mode, status.st_mtime_ns, body, first)
    return found


class Transfer:
    """One transfer from a directory to another, in this thread.

    Attributes:
        asked: files that were asked for.
    """

    def __init__(
        self,
        source: Path | str,
        target: Path | str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow: Sequence[str] = (),
        attributes: bool = False,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        writer = TreeWriter(str(target))
        receiver = Receiver(writer)
        try:
            with Walk(
                str(source), include=include, exclude=exclude, follow=follow, attributes=attributes
            ) as walk:
                sender = Sender(walk.entries(), walk.open)
                while not (receiver.finished and sender.finished):
                    step()
                    sender.feed(receiver.feed(sender.produce(1 << 16)))
            writer.finish()
        finally:
            writer.close()
        self.asked = receiver.requested
        self.received = receiver.received
        self.removed = writer.removed
        self.short = receiver.short
