"""Small real images for tests, in a folder of blobs."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from pybuild.image.config import NewHistory, assemble_config
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder
from pybuild.image.manifest import build_manifest, docker_layer_type, layer_media_type
from pybuild.image.validate import BlobSource, validate_image
from pybuild.model.border import WorkerCall
from pybuild.model.descriptor import DOCKER_CONFIG, OCI_CONFIG, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest


class Blobs:
    """A folder with a file a blob."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> str:
        return str(self.folder / digest.hex)

    def open(self, digest: Digest) -> BinaryIO:
        return open(self.path(digest), "rb")

    def adopt(self, path: str, digest: Digest, size: int) -> None:
        data = Path(path).read_bytes()
        assert (Digest.of(data), len(data)) == (digest, size)
        Path(path).rename(self.path(digest))

    def put(self, media_type: str, data: bytes) -> Descriptor:
        digest = Digest.of(data)
        Path(self.path(digest)).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def layer(self, tree: Path, compression: str, *, docker: bool) -> tuple[Digest, Descriptor]:
        out = self.folder / "new"
        made = layer_job(WorkerCall(), str(tree), BlobOrder(str(out), compression))
        digest = Digest.parse(made.digest)
        out.rename(self.path(digest))
        media_type = layer_media_type(compression)
        if docker:
            media_type = docker_layer_type(media_type)
        return Digest.parse(made.diff_id), Descriptor(media_type, digest, made.size)


def make_image(
    blobs: Blobs,
    trees: list[Path],
    *,
    media_type: str = OCI_MANIFEST,
    compression: str = "gzip",
    arch: str = "amd64",
    config: dict[str, object] | None = None,
) -> Descriptor:
    """Store an image with a layer a tree; return its manifest's descriptor."""
    docker = "docker" in media_type
    layers = [blobs.layer(tree, compression, docker=docker) for tree in trees]
    history = [NewHistory(f"COPY {n} / # buildkit", 1_700_000_000 + n) for n in range(len(trees))]
    body = assemble_config(
        {"architecture": arch, "os": "linux", "config": config or {"Cmd": ["/bin/sh"]}},
        [diff_id for diff_id, _ in layers],
        history,
    )
    described = blobs.put(DOCKER_CONFIG if docker else OCI_CONFIG, body)
    data = build_manifest(described, [layer for _, layer in layers], media_type)
    return blobs.put(media_type, data)


def assert_valid(open_blob: BlobSource, descriptor: Descriptor) -> None:
    """Fail a test with all that `validate_image` finds."""
    problems = validate_image(open_blob, descriptor)
    assert not problems, "\n".join(problems)
