"""Files that a later build may do without, written whole and ending with a digest of themselves."""

from __future__ import annotations

import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

SEAL_BYTES = hashlib.sha256().digest_size


def write_sealed(path: str, parts: Iterable[bytes | bytearray | array[int]]) -> bool:
    """Write *parts* and the SHA-256 of all of them; the last writer wins.

    Returns:
        Whether that worked; else what was there stays.
    """
    digest = hashlib.sha256()
    tmp = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(tmp, "xb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
        os.replace(tmp, path)
    except OSError:
        try:
            os.unlink(tmp)
        except OSError:
            pass
        return False
    return True
