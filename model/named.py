"""Named inputs: the parts of a cache key, kept so that a miss can be explained by a difference.

It is never part of a key and decides nothing. Secrets are left out of it where it is made
(`model.secrets`), since it is kept beside the results and travels with caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.model.dataclass import dataclass

Listing = tuple[tuple[str, str], ...]
"""The files of a selection: ``(path, look)``, sorted by path.

A look is ``mode uid:gid size body``: the mode octal with the file type, the body 16 hex digits over
extended attributes and bytes, of a link ``>`` and its target. ``directory`` alone stands for one
whose own mode and owner do not count.
"""


@dataclass(frozen=True, slots=True)
class NamedInputs:
    """The named inputs of one key.

    Attributes:
        parts: JSON-able: ``op``, the fields that count; ``identity`` of a source; ``inputs``, each
            with ``name``, ``type`` (of its op) and either ``key`` or ``content``, the digests of
            what is read of it; a source's ``identity``, a local one's ``exclude``.
        listings: by such a digest, where there is one.
    """

    parts: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    listings: Mapping[str, Listing] = field(default_factory=dict[str, Listing], hash=False)


@dataclass(frozen=True, slots=True)
class ImportedInputs:
    """The named inputs that a cache of others knows; *listings* by content digest."""

    known: tuple[KnownInputs, ...] = ()
    listings: Mapping[str, Listing] = field(default_factory=dict[str, Listing], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInputs:
    """The named inputs of a result that there is or was.

    Attributes:
        place: the cache that has it; empty for the store's own.
        first: when it was first made, as far back as is known; seconds since the epoch.
    """

    key: str
    name: str
    parts: Mapping[str, Any] = field(hash=False)
    place: str = ""
    first: float = 0.0
