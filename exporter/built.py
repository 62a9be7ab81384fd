"""The results of a build on their way to outputs: built, made into an image, exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from pybuild.frontend.lowering.interface import Lowered
from pybuild.image.config import format_time
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UserError
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Result, Snapshot

if TYPE_CHECKING:
    from pybuild.exporter.attest.attestation import Attestation
    from pybuild.model.span import Span

InlineCache = Callable[[Mapping[str, Digest]], str]
"""The text of a cache for an image with these layers: diffIDs by delta; empty for none."""

CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One platform's result, with its attestations.

    Attributes:
        is_one_of_many: outputs are laid out for several platforms, even if this is the only one.
        key: the platform in the request's words, if the image has others.
        inline_cache: the cache that its image's config carries.
        secrets: the values of the build's secrets by id, which no layer should have.
    """

    lowered: Lowered
    result: Result
    attestations: tuple[Attestation, ...] = ()
    is_one_of_many: bool = False
    key: str = ""
    inline_cache: InlineCache | None = None
    secrets: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)

    @property
    def folder(self) -> str:
        """Its folder in directories and archives that hold several platforms [OUT-5].

        Raises:
            UserError: its key cannot be the name of a directory.
        """
        name = (self.key or str(self.lowered.platform)).replace("/", "_")
        if name in (".", "..") or "\0" in name:
            raise UserError(f"platform {name!r} cannot be a directory")
        return name

    @property
    def snapshot(self) -> Snapshot:
        if not isinstance(self.result, Snapshot):
            raise InternalError(f"the result of a build is {type(self.result).__name__}")
        return self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The traces of an output: for people, and for the metadata file.

    Attributes:
        made: its image, if it has made one.
    """

    made: MadeImage | None = None
    names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image, or an index of several; its blobs are in the store.

    Attributes:
        image_id: digest of the config, or of the index.
        epoch: SOURCE_DATE_EPOCH.
        lines: the instructions that made its layers, by these.
    """

    descriptor: Descriptor
    image_id: Digest
    epoch: int | None = None
    lines: Mapping[Digest, Span] = field(default_factory=dict[Digest, "Span"])

    @property
    def dated(self) -> Descriptor:
        """The descriptor as archives name it: with the time of the image, if that is fixed [REP-2]."""
        if self.epoch is None:
            return self.descriptor
        notes = {**self.descriptor.annotations, CREATED: format_time(self.epoch)}
        return replace(self.descriptor, annotations=notes)

    def metadata(self, names: Sequence[Reference]) -> dict[str, Any]:
        """The entries of ``--metadata-file`` [BLD-30]."""
        metadata: dict[str, Any] = {
            "containerimage.config.digest": self.image_id,
            "containerimage.descriptor": self.descriptor.to_json(),
            "containerimage.digest": self.descriptor.digest,
        }
        if names:
            metadata["image.name"] = ",".join(str(name) for name in names)
        return metadata
