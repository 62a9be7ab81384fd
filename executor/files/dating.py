"""The worker function that finds out how old the content of an archive is [REP-1]."""

from __future__ import annotations

import os

from pybuild.executor.files.archives import Damaged, capped, open_archive
from pybuild.executor.zygote.faults import Fault
from pybuild.image.layer.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REGULAR = frozenset((b"0", b"\0", b"7"))
# What an archive may unpack to while it is looked through; the time matters more than the space.
_MAX_BYTES = 64 << 30


def newest(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return ``seconds``, the newest time of a regular file in the archive ``path``.

    Returns nothing where the file is no archive, a damaged one, or has no regular files.
    """
    fd = os.open(args["path"], _OPEN)
    try:
        read = open_archive(fd)
        if read is None:
            return {}
        found: int | None = None
        reader = TarReader(capped(read, os.path.basename(args["path"]), _MAX_BYTES))
        while (member := reader.next()) is not None:
            if member.kind in _REGULAR and (found is None or member.mtime_ns > found):
                found = member.mtime_ns
    except Damaged:
        return {}
    except Exception as error:
        from pybuild.model.errors import PybuildError

        if isinstance(error, (Fault, PybuildError)):
            return {}
        raise
    finally:
        os.close(fd)
    return {} if found is None else {"seconds": found // 1_000_000_000}
