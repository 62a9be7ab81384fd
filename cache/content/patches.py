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

from pybuild.model.border import NamedTuple
from pybuild.model.jsontext import as_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

COPIED = "copied"
"""Records by where something is copied to: the delta that a patch may change the next time."""
_OVER = ".over."


class CopyRecord(NamedTuple):
    """The delta of a copy, which a patch may change the next time.

    Attributes:
        met: the paths that the copy met in its base; None where an earlier pybuild wrote none.
    """

    delta: str
    met: tuple[str, ...] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CopyRecord | None:
        """Return the record that the store has; None if it names no delta."""
        delta, met = value.get("delta"), value.get("met")
        if not isinstance(delta, str):
            return None
        return cls(delta, None if met is None else tuple(str(path) for path in as_list(met)))

    def to_json(self) -> dict[str, Any]:
        """Return the record."""
        met = {} if self.met is None else {"met": list(self.met)}
        return {"delta": self.delta, **met}


def name_patch(whole: str) -> str:
    """Return a new name for a patch of *whole*, which is none itself."""
    return f"{os.urandom(16).hex()}{_OVER}{whole}"


def whole_of(id: str) -> str | None:
    """Return the delta that *id* is a patch of; None: it is none."""
    return id.partition(_OVER)[2] or None


def with_wholes(ids: Iterable[str]) -> tuple[str, ...]:
    """Return *ids*, each patch behind the delta that it changes."""
    return tuple(one for id in ids for one in (whole_of(id), id) if one is not None)
