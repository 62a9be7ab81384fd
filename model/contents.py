"""Contents: digests of what selections pick, for content-based keys [KEY]."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.named import Listing
from pybuild.model.selection import Selection


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """The digest of a selection, and the named parts it was made of, so a miss can be explained.

    Attributes:
        digest: over every selected entry; mtime does not count [KEY-2].
        entries: ``(path, look)``, sorted; may be empty when the tree is too large to be listed.
            A look is ``mode uid:gid size body`` (`model.named`).
    """

    digest: Digest
    entries: Listing = ()


Contents = Mapping[int, Mapping[Selection, ContentDigest]]
"""The contents read of a vertex's inputs, by the input's index and the selection of it."""


def missing_source(ref: str, path: str, hints: tuple[str, ...] = ()) -> UserError:
    """Return the error that people and tools know by its wording [CP-4]."""
    return UserError(
        "failed to compute cache key: failed to calculate checksum of ref "
        f'{ref}: "{path}": not found',
        hints=hints,
    )
