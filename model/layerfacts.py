"""The facts about a layer: what the store's record of its delta says."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass, field
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.jsontext import as_list, as_number, as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


LENT_PREFIX = "peer:"
"""The start of a layout's name that is another store: what it has is made into a layer when asked for."""


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A blob that was written of a delta; *diff_id* where it is not the delta's, as for eStargz."""

    descriptor: Descriptor
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A layer: what it is, where it comes from, and the blobs that were written of it.

    Attributes:
        descriptor: of the blob that is pulled for it; None where it was made here, or where another
            store made it and nobody has asked for its layer yet.
        reference, layout: where that is: an image's name, or the name of an OCI layout.
        parents: the deltas that it lies on in its image, base first.
        cache: the cache that names it; "" for a base image's.
        is_origins: it comes from a base image, by that cache's word.
        created: when it was made, in seconds since the epoch, by that cache's word.
        is_checked: the blob was compared with *diff_id*.
        blobs: by the compression and its level.
        rewritten: the same with later times clamped, by compression, level and time.
    """

    diff_id: Digest | None = None
    descriptor: Descriptor | None = None
    reference: str = ""
    layout: str = ""
    parents: tuple[str, ...] = ()
    cache: str = ""
    is_origins: bool = False
    created: float | None = None
    is_checked: bool = False
    blobs: Mapping[str, WrittenLayer] = field(default_factory=dict[str, WrittenLayer])
    rewritten: Mapping[str, WrittenLayer] = field(default_factory=dict[str, WrittenLayer])

    @classmethod
    def from_json(cls, value: object) -> LayerFacts:
        """Read a record; what does not fit counts as not there."""
        record = as_object(value)
        created = record.get("created")
        return cls(
            diff_id=_digest(record.get("diff_id")),
            descriptor=_descriptor(record.get("descriptor")),
            reference=_text(record.get("reference")),
            layout=_text(record.get("layout")),
            parents=tuple(str(delta) for delta in as_list(record.get("parents"))),
            cache=_text(record.get("cache")),
            is_origins=record.get("origin") is True,
            created=None if created is None else as_number(created),
            is_checked=record.get("checked") is True,
            blobs=_written(record.get("blobs")),
            rewritten=_written(record.get("rewritten")),
        )

    @property
    def is_lent(self) -> bool:
        """Return whether another store made the delta, and has it unless it is here too."""
        return self.layout.startswith(LENT_PREFIX)

    @property
    def is_published(self) -> bool:
        """Return whether the layer was pulled with an image, from a registry that has it."""
        return self.descriptor is not None and bool(self.reference) and not self.cache

    def to_json(self) -> dict[str, Any]:
        """Return the record."""
        pulled = self.descriptor is not None
        record: dict[str, Any] = {
            "diff_id": self.diff_id and str(self.diff_id),
            "descriptor": self.descriptor and self.descriptor.to_json(),
            "reference": self.reference if pulled else self.reference or None,
            "layout": self.layout or None,
            "parents": list(self.parents) if pulled or self.parents else None,
            "cache": self.cache or None,
            "origin": self.is_origins or None,
            "created": self.created,
            "checked": self.is_checked or None,
            "blobs": {kind: _record_of(layer) for kind, layer in self.blobs.items()} or None,
            "rewritten": {k: _record_of(layer) for k, layer in self.rewritten.items()} or None,
        }
        return {key: value for key, value in record.items() if value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _digest(value: object) -> Digest | None:
    try:
        return Digest.parse(_text(value))
    except ValueError:
        return None


def _descriptor(value: object) -> Descriptor | None:
    try:
        return Descriptor.from_json(value)
    except ValueError:
        return None


def _written(value: object) -> dict[str, WrittenLayer]:
    layers = {
        kind: (_descriptor(layer), _digest(as_object(layer).get("diff_id")))
        for kind, layer in as_object(value).items()
    }
    return {
        kind: WrittenLayer(descriptor, diff_id)
        for kind, (descriptor, diff_id) in layers.items()
        if descriptor is not None
    }


def _record_of(layer: WrittenLayer) -> dict[str, Any]:
    own = {} if layer.diff_id is None else {"diff_id": str(layer.diff_id)}
    return {**layer.descriptor.to_json(), **own}
