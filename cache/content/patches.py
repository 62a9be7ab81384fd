"""Patches: deltas that hold only what differs from another one, which is found right below them.

A patch and the delta that it changes are one delta to everybody who stacks, records or leases deltas,
and become one layer. Only who reads files needs both directories (`Deltas.directories`), and who frees
must know that the one below is held. The name of a patch says which that is, so that nobody has to
read anything to know it. What is changed is never a patch itself: trees stay two deep.

A patch never deletes. It does not know what else it will lie on, and what hides a file of the delta
below would hide another one of that name further down, too.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

COPIED = "copied"
"""Records by where something is copied to: the delta that a patch may change the next time."""
_OVER = ".over."


def name_patch(whole: str) -> str:
    """Return a new name for a patch of *whole*, which is none itself."""
    return f"{os.urandom(16).hex()}{_OVER}{whole}"


def whole_of(id: str) -> str | None:
    """Return the delta that *id* is a patch of; None: it is none."""
    return id.partition(_OVER)[2] or None


def with_wholes(ids: Iterable[str]) -> tuple[str, ...]:
    """Return *ids*, each patch behind the delta that it changes."""
    return tuple(one for id in ids for one in (whole_of(id), id) if one is not None)
