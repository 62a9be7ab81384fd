"""The orders that workers get for a layer, and what they answer."""

from __future__ import annotations

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class BlobOrder(NamedTuple):
    """A layer blob that is to be written.

    Attributes:
        out: a file to be made; there is none after a failure.
        compression: gzip, zstd, estargz or uncompressed.
        level: None is the compression's own.
        nice: by how much other processes go first.
    """

    out: str
    compression: str = "gzip"
    level: int | None = None
    nice: int = 0


class LayerBlob(NamedTuple):
    """A layer blob that was written; sizes in bytes.

    Attributes:
        diff_id: the digest of the uncompressed layer.
        annotations: those that its descriptor must have.
    """

    diff_id: str
    digest: str
    size: int
    uncompressed_size: int
    annotations: Mapping[str, str]


class UnpackOrder(NamedTuple):
    """A layer blob that is to be unpacked.

    Attributes:
        target: an existing empty directory.
        blob: a path; or else it is the first of the descriptors handed over, and the second tells
            that it grows (`growingfile.Growing`).
        lowers: delta directories below, base first; None: not known.
        diff_id, digest, size: compared where they are given.
        max_bytes: the most that it may be uncompressed.
        record_owners: as for `apply.apply_layer`.
        apart: decompress in a process of its own.
    """

    target: str
    blob: str = ""
    userxattr: bool = False
    lowers: Sequence[str] | None = None
    diff_id: str | None = None
    digest: str | None = None
    size: int | None = None
    max_bytes: int | None = None
    record_owners: bool = False
    apart: bool = False


class UnpackedLayer(NamedTuple):
    """A layer that was unpacked.

    Attributes:
        size: of the uncompressed tar.
    """

    diff_id: str
    size: int


class LowersMissing(NamedTuple):
    """A layer that refers to what is below it at *path*, which was not given; nothing was unpacked."""

    path: str
