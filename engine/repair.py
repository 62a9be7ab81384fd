"""Repair of the store: damaged parts are made or fetched again, while it is being used [STO].

A layer of ours is made of its files again, one of an image is fetched from where it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pybuild.cache.content.blobs import Blobs
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, DamagedBlob, unwrap
from pybuild.model.events import BuildWarning, Emit

_Made = TypeVar("_Made")
_MOST = 100
"""So many blobs may turn out damaged in one piece of work."""


async def mended(
    work: Callable[[], Awaitable[_Made]],
    blobs: Blobs,
    emit: Emit,
    repeatable: Callable[[], bool] = lambda: True,
) -> _Made:
    """Do *work*, again from its beginning if a blob that it needs is damaged.

    Args:
        work: finds or makes the blobs that it uses.
        repeatable: whether it may be begun twice; if not, the damaged blob is just removed.

    Raises:
        DamagedBlob: it cannot be mended here.
    """
    for attempt in range(_MOST):
        try:
            return await work()
        except Exception as error:
            cause = unwrap(error)
            if not isinstance(cause, DamagedBlob) or attempt + 1 == _MOST:
                raise
            if await asyncio.to_thread(_is_sound, blobs, cause.digest):
                raise  # who read it was wrong, or is mended by now: nothing is gained by trying
            if not repeatable():
                hint = "build again: what is damaged was removed from the store"
                raise cause.hinting(hint) from error
            text = f"{cause.message}: it was removed from the store, and is made or fetched again"
            emit(BuildWarning(message=text))
    raise AssertionError("the last try returns or raises")


def _is_sound(blobs: Blobs, digest: Digest) -> bool:
    try:
        return blobs.verify(digest)
    except BlobMissing:
        return False
