"""The digest of a file's content, and the memory of such digests. Lean."""

from __future__ import annotations

import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class FileIndex(Protocol):
        """Remembers digests of files by what stat says of them."""

        def get(self, status: os.stat_result) -> bytes | None: ...

        def put(self, status: os.stat_result, body: bytes) -> None:
            """Called with the status from before the file was read."""
            ...


def body_state(xattrs: list[tuple[str, bytes]]) -> hashlib._Hash:  # pyright: ignore[reportPrivateUsage]
    """Return the digester of a file's content: its bytes are still to be added."""
    state = hashlib.sha256()
    for name, value in xattrs:
        raw = os.fsencode(name)
        state.update(b"%d:%s%d:%s" % (len(raw), raw, len(value), value))
    state.update(b"\0")
    return state
