"""Stand-ins that hold the contracts of `registry.client.blobsink` and `model.clock`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.platform import LINUX_AMD64, Platform


class WallClock:
    """The real time."""

    def now(self) -> float:
        return time.time()


class DirectoryBlobs:
    """A directory of blobs; as strict as the store is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def has(self, digest: Digest) -> bool:
        return self.path(digest).is_file()

    def path(self, digest: Digest) -> Path:
        return self.root / digest.replace(":", "-")

    def writer(self, expected: Digest | None, size: int | None) -> DirectoryWriter:
        return DirectoryWriter(self, expected, size)

    def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.path(digest).write_bytes(data)
        return digest

    def read(self, digest: Digest) -> bytes:
        return self.path(digest).read_bytes()

    def leftovers(self) -> list[str]:
        """Files of writers that were not cleaned up."""
        return sorted(name for name in os.listdir(self.root) if name.endswith(".part"))


class DirectoryWriter:
    def __init__(self, blobs: DirectoryBlobs, expected: Digest | None, size: int | None) -> None:
        self._blobs = blobs
        self._expected = expected
        self._size = size
        self._hash = hashlib.new(expected.algorithm if expected else "sha256")
        self._count = 0
        self._part = blobs.root / f"{id(self)}.part"

    def __enter__(self) -> Self:
        self._file = self._part.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._count += len(data)

    def commit(self) -> None:
        self._file.flush()
        got = Digest(f"{self._hash.name}:{self._hash.hexdigest()}")
        if got != (self._expected or got) or self._count != (
            self._count if self._size is None else self._size
        ):
            raise EnvironmentFault(
                f"blob {self._expected}: got {got} after {self._count} of {self._size} bytes"
            )
        os.rename(self._part, self._blobs.path(got))


def make_image(
    blobs: DirectoryBlobs, *layers: bytes, platform: Platform = LINUX_AMD64, note: str = ""
) -> Descriptor:
    """Put an image of opaque *layers* into *blobs*; return its manifest's descriptor."""
    config = {
        **platform.to_json(),
        "config": {"Labels": {"note": note}},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer) for layer in layers]},
    }
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor(OCI_CONFIG, blobs.put(config_bytes), len(config_bytes)).to_json(),
        "layers": [
            Descriptor(OCI_LAYER_GZIP, blobs.put(layer), len(layer)).to_json() for layer in layers
        ],
    }
    data = json.dumps(manifest).encode()
    return Descriptor(OCI_MANIFEST, blobs.put(data), len(data), platform=platform)


def make_index(blobs: DirectoryBlobs, *manifests: Descriptor) -> Descriptor:
    """Put an index of *manifests* into *blobs*."""
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [manifest.to_json() for manifest in manifests],
    }
    data = json.dumps(index).encode()
    return Descriptor(OCI_INDEX, blobs.put(data), len(data))
