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


EMPTY_TREE = "scratch"
"""The name of the empty tree where a tree is called by its reference."""


class MissingSource(UserError):
    """A source of a copy or a mount is not there.

    Attributes:
        path: as it was selected, absolute in its tree.
        in_context: it was sought in a directory of the client.
    """

    def __init__(
        self,
        ref: str,
        path: str,
        hints: tuple[str, ...] = (),
        *,
        in_context: bool = False,
        hidden: str = "",
        above_pattern: bool = False,
    ) -> None:
        """Args:
        ref: BuildKit's name of the tree.
        hidden: what excludes it from the context.
        above_pattern: it is the directory whose entries a pattern is to match.
        """
        shown = path.lstrip("/") if in_context else path
        where = "in the context" if in_context else "there to be copied"
        how = f"is excluded from the context by {hidden}" if hidden else f"is not {where}"
        peer = (
            "failed to compute cache key: failed to calculate checksum of ref "
            f'{ref}: "{path}": not found'
        )
        if above_pattern or ref == EMPTY_TREE:
            peer = f"lstat {path}: no such file or directory"
        super().__init__(f'"{shown}" {how}', hints=hints, peer=peer)
        self.path = path
        self.in_context = in_context

    def of_base(self) -> MissingSource:
        """Return the error as BuildKit has it of a tree that is also changed: it digests no such tree."""
        return self.copy_with(peer=f"lstat {self.path}: no such file or directory")
