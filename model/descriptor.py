"""Descriptors and the media types of OCI and Docker image formats [IMG-1..7]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass, field
from pybuild.model.digest import Digest
from pybuild.model.jsontext import as_object, is_object
from pybuild.model.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The name of a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    platform: Platform | None = None

    @classmethod
    def from_json(cls, value: object) -> Descriptor:
        """Read a descriptor as it stands in a manifest or index.

        Raises:
            ValueError: a required field is missing or has the wrong type.
        """
        if not isinstance(value, dict):
            raise ValueError("descriptor is not an object")
        obj: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        media_type, digest, size = obj.get("mediaType"), obj.get("digest"), obj.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise ValueError("descriptor lacks mediaType or digest")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise ValueError(f"descriptor {digest} has no valid size")
        annotations: dict[str, Any] = obj.get("annotations") or {}
        platform: Any = obj.get("platform")
        return cls(
            media_type=media_type,
            digest=Digest.parse(digest),
            size=size,
            annotations={str(k): str(v) for k, v in annotations.items()},
            platform=Platform.from_json(as_object(platform)) if is_object(platform) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object with OCI's field order."""
        obj: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            obj["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform is not None:
            obj["platform"] = self.platform.to_json()
        return obj
