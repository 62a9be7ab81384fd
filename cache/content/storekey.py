"""A secret of the store: who can read it can read everything in the store."""

from __future__ import annotations

import hmac
import os
from contextlib import suppress

from pybuild.cache.disk.atomic import Disk, discard, faults
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.disk.scratch import Scratch

_BYTES = 32


def make_key(root: str, disk: Disk, scratch: Scratch) -> bytes:
    """Return the secret of the store at *root*, made by whoever asks first.

    Raises:
        EnvironmentFault: it can neither be read nor made.
    """
    with faults("cannot make the store's key", root):
        while True:
            key = read_key(root)
            if key is not None:
                return key
            with suppress(FileExistsError):
                disk.mkdir(os.path.join(root, "registry"))
            tmp = scratch.name()
            fd = disk.create(tmp)
            try:
                disk.write(fd, os.urandom(_BYTES))
                disk.flush(fd)
                # A link and no rename: the first one stays.
                with suppress(FileExistsError):
                    os.link(tmp, _path(root))
            finally:
                os.close(fd)
                discard(tmp)


def read_key(root: str) -> bytes | None:
    """Return the secret; None when there is none yet."""
    try:
        with open(_path(root), "rb", opener=plain) as file:
            key = file.read(_BYTES)
    except FileNotFoundError:
        return None
    return key if len(key) == _BYTES else None


def identity(key: bytes) -> str:
    """Return the public identity of a store."""
    return hmac.digest(key, b"identity", "sha256").hex()[:32]


def proof(key: bytes, repository: str, digest: str) -> str:
    """Return the proof for a server on the store that its client can read the blob *digest* itself."""
    return hmac.digest(key, f"mount\0{repository}\0{digest}".encode(), "sha256").hex()


def secret_value(key: bytes, id: str, value: bytes) -> str:
    """Return a keyed digest of a secret's value, with which nobody who lacks *key* can try values."""
    return hmac.digest(key, b"secret\0" + id.encode() + b"\0" + value, "sha256").hex()


def _path(root: str) -> str:
    return os.path.join(root, "registry", "key")
