"""Takes images out of OCI layouts, OCI archives and docker-load archives of strangers [STO-4, IMG-24].

Nothing is unpacked by the archive's names: members become numbered files in a scratch directory, a
table maps names to them, and every blob is adopted under the digest that was computed from it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pybuild.image.archive import IMAGE_NAME, REF_NAME, BlobPath, NamedImage
from pybuild.image.config import encode
from pybuild.image.layer.compression import GZIP, ZSTD, LayerSource
from pybuild.image.layer.tarreader import TarReader
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    Manifest,
    build_manifest,
    diff_ids_of,
    is_foreign,
    parse_config,
    parse_manifest,
    parse_object,
)
from pybuild.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.reference import Reference

Adopt = Callable[[str, Digest, int], object]
"""Takes a file into the store as the blob of that digest and size; the file is the store's then."""

_PIECE = 1 << 20
_MAX_MEMBERS = 65_536
_MAX_LINKS = 8


class _Held(NamedTuple):
    path: str
    size: int
    digest: Digest


def read_archive(
    source: str,
    scratch: str,
    adopt: Adopt,
    blob_path: BlobPath,
) -> list[NamedImage]:
    """Take every image in *source* into the store.

    Args:
        source: a layout directory, or a tar, compressed or not.
        scratch: an empty directory on the store's file system; what is left there is rubbish.
        blob_path: gives the paths of adopted blobs.

    Raises:
        UserError: *source* is none of the known formats.
        EnvironmentFault: it is damaged, incomplete or lying.
    """
    try:
        files = _Files(source, scratch)
    except EnvironmentFault as fault:
        if os.path.isdir(source) or _begins_as_tar(source):
            raise
        raise UserError(f"{source} is no archive of an image", hints=[_ARCHIVES]) from fault
    if files.has("oci-layout"):
        return _Layout(files, adopt, blob_path).load()
    if files.has("manifest.json"):
        return _Classic(files, adopt, blob_path).load()
    raise UserError(f"{source} is neither an OCI layout nor a docker archive", hints=[_ARCHIVES])


def _begins_as_tar(source: str) -> bool:
    """Return whether a file is large enough for one, and no text of somebody's."""
    with open(source, "rb") as file:
        head = file.read(_BLOCK)
    return len(head) == _BLOCK or head.startswith(_COMPRESSED)


_ARCHIVES = "name what pybuild save, docker save or skopeo wrote; for a file tree: pybuild import"
_BLOCK = 512
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")


class _Files:
    """The archive's regular files by name; a layout directory's are copied when asked for."""

    def __init__(self, source: str, scratch: str) -> None:
        self._scratch = scratch
        self._count = 0
        self._files: dict[str, _Held] = {}
        self._links: dict[str, str] = {}
        self._folder = source if os.path.isdir(source) else None
        if self._folder is None:
            self._unpack(source)

    def has(self, name: str) -> bool:
        if self._folder is not None:
            return os.path.isfile(os.path.join(self._folder, name))
        return name in self._files

    def get(self, name: str) -> _Held | None:
        """Return the file of that name, followed through links inside the archive."""
        name = posixpath.normpath(name)
        if self._folder is not None:
            if name not in self._files and not name.startswith(("../", "/")) and self.has(name):
                with open(os.path.join(self._folder, name), "rb", buffering=0) as file:
                    self._files[name] = self.keep(lambda: file.read(_PIECE))
            return self._files.get(name)
        for _ in range(_MAX_LINKS):
            if name not in self._links:
                return self._files.get(name)
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), self._links[name]))
        return None

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file's bytes.

        Raises:
            EnvironmentFault: absent, or too large.
        """
        held = self.get(name)
        if held is None:
            raise EnvironmentFault(f"archive has no {name}")
        if held.size > limit:
            raise EnvironmentFault(f"{name} has {held.size} bytes, more than {limit}")
        with open(held.path, "rb") as file:
            return file.read()

    def keep(self, read: Callable[[], bytes | memoryview]) -> _Held:
        """Write a stream to a file of the scratch directory."""
        self._count += 1
        path = os.path.join(self._scratch, str(self._count))
        hasher = hashlib.sha256()
        size = 0
        with open(path, "xb", buffering=0) as out:
            while piece := read():
                hasher.update(piece)
                size += len(piece)
                view = memoryview(piece)
                while view:
                    view = view[out.write(view) :]
        return _Held(path, size, Digest.from_hex(hasher.hexdigest()))

    def _unpack(self, source: str) -> None:
        with open(source, "rb", buffering=0) as file:
            stream = LayerSource(file.read, None)
            reader = TarReader(stream.read)
            members = 0
            while (member := reader.next()) is not None:
                members += 1
                if members > _MAX_MEMBERS:
                    raise EnvironmentFault(f"{source} has more than {_MAX_MEMBERS} entries")
                name = posixpath.normpath(os.fsdecode(member.name))
                if member.kind == b"0":
                    self._links.pop(name, None)
                    self._files[name] = self.keep(_pieces(reader.chunks()))
                elif member.kind == b"1":
                    first = posixpath.normpath(os.fsdecode(member.link))
                    if first in self._files:
                        self._files[name] = self._files[first]
                elif member.kind == b"2":
                    self._links[name] = os.fsdecode(member.link)
            stream.drain()


class _Loader:
    def __init__(self, files: _Files, adopt: Adopt, blob_path: BlobPath) -> None:
        self._files = files
        self._give = adopt
        self._path = blob_path
        self._adopted: set[str] = set()

    def _adopt(self, held: _Held) -> None:
        if held.digest not in self._adopted:
            self._adopted.add(held.digest)
            self._give(held.path, held.digest, held.size)

    def _put(self, data: bytes) -> Digest:
        pieces = iter([data])
        held = self._files.keep(lambda: next(pieces, b""))
        self._adopt(held)
        return held.digest


class _Layout(_Loader):
    def load(self) -> list[NamedImage]:
        header = parse_object(self._files.read("oci-layout", 4096), "oci-layout", 4096)
        version = header.get("imageLayoutVersion")
        if version != "1.0.0":
            raise EnvironmentFault(f"OCI layout version {version!r} is not supported")
        data = self._files.read("index.json", MAX_MANIFEST_BYTES)
        entries = parse_object(data, "index.json", MAX_MANIFEST_BYTES).get("manifests")
        try:
            if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:  # pyright: ignore
                raise ValueError("manifests is no list of reasonable length")
            described = [Descriptor.from_json(entry) for entry in entries]  # pyright: ignore
        except (ValueError, TypeError, AttributeError) as error:
            raise EnvironmentFault(f"broken index.json: {error}") from error
        loaded: list[NamedImage] = []
        for descriptor in described:
            self._take(descriptor, MAX_DEPTH, set())
            plain = Descriptor(
                descriptor.media_type,
                descriptor.digest,
                descriptor.size,
                platform=descriptor.platform,
            )
            loaded.append(NamedImage(plain, _names(descriptor)))
        return loaded

    def _take(self, descriptor: Descriptor, depth: int, seen: set[str]) -> None:
        """Adopt a manifest or index and all below it, children first."""
        if depth == 0:
            raise EnvironmentFault(f"indexes are nested more than {MAX_DEPTH} deep")
        if descriptor.digest in seen:
            return
        seen.add(descriptor.digest)
        held = self._check(descriptor)
        if held.size > MAX_MANIFEST_BYTES:
            raise EnvironmentFault(f"manifest {descriptor.digest} has {held.size} bytes")
        path = self._path(held.digest) if held.digest in self._adopted else held.path
        with open(path, "rb") as file:
            document = parse_manifest(file.read(), descriptor.media_type)
        if isinstance(document, Manifest):
            for blob in (document.config, *document.layers):
                if not (is_foreign(blob.media_type) and self._held(blob) is None):
                    self._adopt(self._check(blob))
        else:
            for child in document.manifests:
                # An index may be kept with some of its platforms only [STO-5].
                if self._held(child) is not None:
                    self._take(child, depth - 1, seen)
        self._adopt(held)

    def _held(self, blob: Descriptor) -> _Held | None:
        return self._files.get(f"blobs/{blob.digest.algorithm}/{blob.digest.hex}")

    def _check(self, blob: Descriptor) -> _Held:
        if blob.digest.algorithm != "sha256":
            raise EnvironmentFault(f"blob {blob.digest}: only sha256 digests can be loaded")
        held = self._held(blob)
        if held is None:
            raise EnvironmentFault(f"blob {blob.digest} is missing from the archive")
        if held.digest != blob.digest or held.size != blob.size:
            raise EnvironmentFault(
                f"blob {blob.digest}: got {held.digest} after {held.size} of {blob.size} bytes"
            )
        return held


class _Classic(_Loader):
    """``manifest.json`` with configs and layers under any names."""

    def load(self) -> list[NamedImage]:
        data = self._files.read("manifest.json", MAX_MANIFEST_BYTES)
        listing = parse_object(b'{"list":' + data + b"}", "manifest.json", MAX_MANIFEST_BYTES + 9)
        return [self._image(entry) for entry in _list(listing.get("list"), "entries", dict)]

    def _image(self, entry: dict[str, Any]) -> NamedImage:
        name = entry.get("Config")
        if not isinstance(name, str):
            raise EnvironmentFault("broken manifest.json: Config is no text")
        names = _list(entry.get("Layers") or [], "Layers", str)
        tags = _list(entry.get("RepoTags") or [], "RepoTags", str)
        held = self._get(name)
        if held.size > MAX_CONFIG_BYTES:
            raise EnvironmentFault(f"{name} has {held.size} bytes, more than {MAX_CONFIG_BYTES}")
        with open(self._where(held), "rb") as file:
            config = parse_config(file.read())
        diff_ids = diff_ids_of(config)
        files = [self._get(layer) for layer in names]
        if len(diff_ids) != len(files):
            raise EnvironmentFault(
                f"{name} has {len(diff_ids)} diff_ids, manifest.json has {len(files)} layers"
            )
        layers = [
            self._layer(layer, file, diff_id)
            for layer, file, diff_id in zip(names, files, diff_ids, strict=True)
        ]
        self._adopt(held)
        zstd = any(layer.media_type == OCI_LAYER_ZSTD for layer in layers)
        media_type = OCI_MANIFEST if zstd else DOCKER_MANIFEST
        described = Descriptor(DOCKER_CONFIG, held.digest, held.size)
        data = build_manifest(described, layers, media_type)
        return NamedImage(
            Descriptor(media_type, self._put(data), len(data)), [_full(t) for t in tags]
        )

    def _layer(self, name: str, held: _Held, diff_id: str) -> Descriptor:
        with open(self._where(held), "rb", buffering=0) as file:
            source = LayerSource(file.read)
            source.drain()
        if source.diff_id != diff_id:
            raise EnvironmentFault(f"layer {name}: got diffID {source.diff_id}, expected {diff_id}")
        self._adopt(held)
        types = {GZIP: DOCKER_LAYER_GZIP, ZSTD: OCI_LAYER_ZSTD}
        return Descriptor(types.get(source.compression, DOCKER_LAYER), held.digest, held.size)

    def _get(self, name: str) -> _Held:
        held = self._files.get(name)
        if held is None:
            raise EnvironmentFault(f'"{name}" is not in the archive')
        return held

    def _where(self, held: _Held) -> str:
        return self._path(held.digest) if held.digest in self._adopted else held.path


def _pieces(chunks: Iterator[memoryview]) -> Callable[[], bytes | memoryview]:
    return lambda: next(chunks, b"")


def _names(descriptor: Descriptor) -> list[str]:
    """Return the full names in an index entry's annotations; a lone tag names no image [IMG-21]."""
    full = descriptor.annotations.get(IMAGE_NAME)
    reference = descriptor.annotations.get(REF_NAME, "")
    if full is None and ("/" in reference or ":" in reference):
        full = reference
    return [_full(full)] if full else []


def _full(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except ValueError as error:
        raise EnvironmentFault(f"archive names an image badly: {error}") from error


def _list(value: Any, what: str, kind: type) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:  # pyright: ignore
        raise EnvironmentFault(f"broken manifest.json: {what} is no list of reasonable length")
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    if not all(isinstance(item, kind) for item in items):
        raise EnvironmentFault(f"broken manifest.json: {what} holds {encode(items[:3]).decode()}")
    return items
