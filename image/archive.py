"""Images as files: OCI layout directories, OCI archives, docker-load archives [OUT-3, OUT-4, IMG-24].

Archives are sorted, without times and owners: the same image gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from pybuild.image.config import encode
from pybuild.image.layer import tarformat
from pybuild.image.manifest import (
    MAX_DEPTH,
    MAX_MANIFEST_BYTES,
    Index,
    Manifest,
    is_foreign,
    parse_manifest,
)
from pybuild.model.descriptor import OCI_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import DamagedBlob, EnvironmentFault, UserError
from pybuild.model.reference import Reference

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
_PIECE = 1 << 20

BlobPath = Callable[[Digest], str]
"""Gives the path of a blob's file."""


class NamedImage(NamedTuple):
    """An image in an archive: its manifest or index, and the full names it goes by."""

    descriptor: Descriptor
    names: Sequence[str]


Opened = Callable[[str], int]
"""Opens a directory of a layout for writing into it, made where it is missing."""


def _opened(path: str) -> int:
    os.makedirs(path, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def write_oci_layout(
    directory: str,
    blob_path: BlobPath,
    descriptor: Descriptor,
    names: Sequence[str] = (),
    *,
    opened: Opened = _opened,
) -> None:
    """Write an image into an OCI layout directory, made if it is missing.

    An existing layout keeps its other images; tags that are given again move [IMG-7, IMG-21].

    Args:
        names: full references; none: an untagged image.
        opened: opens what is written to, where others might lead it elsewhere.

    Raises:
        UserError: *directory* is there and no layout.
        EnvironmentFault: a blob is missing or does not have its size or digest.
    """
    entries = _tagged(descriptor, names)
    kept = _other_images(directory, descriptor, names)
    for blob in reachable(descriptor, blob_path):
        write_layout_blob(directory, blob, blob_path, opened=opened)
    _write_index(directory, kept + entries, opened)


def write_layout_blob(
    directory: str,
    blob: Descriptor,
    blob_path: BlobPath,
    *,
    again: bool = False,
    opened: Opened = _opened,
) -> None:
    """Write a blob into an OCI layout directory, unless it is there; one cut short is not.

    Args:
        again: the blob that is there is known to be damaged.

    Raises:
        EnvironmentFault: it is missing or does not have its size or digest.
    """
    folder = os.path.join(directory, "blobs", blob.digest.algorithm)
    with contextlib.suppress(OSError):
        if not again and os.stat(os.path.join(folder, blob.digest.hex)).st_size == blob.size:
            return
    with _replacing(folder, blob.digest.hex, opened) as out:
        for piece in _checked(blob, blob_path):
            out.write(piece)


def check_layout(directory: str) -> None:
    """Refuse a directory that is there and neither empty nor an OCI layout.

    Raises:
        UserError: so it is.
    """
    _other_entries(directory)


def name_in_layout(
    directory: str, descriptor: Descriptor, tag: str, *, opened: Opened = _opened
) -> None:
    """Let a layout's index name what was written into it by a bare tag, as caches are [CCH-3].

    Raises:
        UserError: *directory* holds something else than a layout.
    """
    kept = [entry for entry in _other_entries(directory) if _notes(entry).get(REF_NAME) != tag]
    named = {**descriptor.to_json(), "annotations": {REF_NAME: tag}}
    _write_index(directory, [*kept, _field_order(named)], opened)


def list_in_layout(directory: str, entry: Mapping[str, Any], *, opened: Opened = _opened) -> None:
    """Let a layout's index have *entry*, a descriptor without a name, such as a signature's.

    Raises:
        UserError: *directory* holds something else than a layout.
    """
    known = _other_entries(directory)
    if all(other.get("digest") != entry["digest"] for other in known):
        _write_index(directory, [*known, dict(entry)], opened)


def _write_index(directory: str, entries: list[Any], opened: Opened) -> None:
    with _replacing(directory, "oci-layout", opened) as out:
        out.write(LAYOUT)
    with _replacing(directory, "index.json", opened) as out:
        out.write(_layout_index(entries))


def write_oci_archive(out: BinaryIO, blob_path: BlobPath, images: Sequence[NamedImage]) -> None:
    """Write an OCI layout of *images* as one tar.

    Raises:
        EnvironmentFault: a blob is missing or does not have its size or digest.
    """
    _blobs(out, blob_path, images)
    _member(out, "index.json", _layout_index(_entries(images)))
    _member(out, "oci-layout", LAYOUT)
    out.write(tarformat.END)


def write_docker_archive(
    out: BinaryIO,
    blob_path: BlobPath,
    images: Sequence[NamedImage],
    *,
    without: Collection[Digest] = (),
) -> None:
    """Write what ``docker load`` takes: an OCI layout with ``manifest.json`` and ``repositories``.

    Args:
        without: blobs that the reader has.

    Raises:
        UserError: one is an index: the format holds one platform [OUT-4].
        EnvironmentFault: a blob is missing or does not have its size or digest.
    """
    listing: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        descriptor = image.descriptor
        document = parse_manifest(_read(descriptor, blob_path), descriptor.media_type)
        if isinstance(document, Index):
            raise UserError(
                "a docker archive holds one platform only",
                hints=("write an OCI archive, or take one platform at a time",),
            )
        tags = [_familiar(name) for name in image.names]
        listing.append(
            {
                "Config": _blob_name(document.config.digest),
                "RepoTags": tags or None,
                "Layers": [_blob_name(layer.digest) for layer in document.layers],
            }
        )
        if document.layers:
            top = document.layers[-1].digest.hex
            for tag in sorted(tags):
                repository, _, word = tag.rpartition(":")
                repositories.setdefault(repository, {})[word] = top
    _blobs(out, blob_path, images, without)
    _member(out, "index.json", _layout_index(_entries(images)))
    _member(out, "manifest.json", encode(listing))
    _member(out, "oci-layout", LAYOUT)
    if repositories:
        _member(out, "repositories", encode(dict(sorted(repositories.items()))))
    out.write(tarformat.END)


def _blobs(
    out: BinaryIO,
    blob_path: BlobPath,
    images: Sequence[NamedImage],
    without: Collection[Digest] = (),
) -> None:
    """Write what *images* are made of, once each, in the order of digests."""
    descriptors = {
        blob.digest: blob for image in images for blob in reachable(image.descriptor, blob_path)
    }
    blobs = [descriptors[digest] for digest in sorted(descriptors) if digest not in without]
    _folders(out, blobs)
    for blob in blobs:
        _blob(out, blob, blob_path)


def _entries(images: Sequence[NamedImage]) -> list[dict[str, Any]]:
    return [entry for image in images for entry in _tagged(image.descriptor, image.names)]


def reachable(descriptor: Descriptor, blob_path: BlobPath) -> list[Descriptor]:
    """Return all blobs that make up an image or index, once each, sorted by digest.

    Children of an index that are not in the store are left out: an index may be kept with some of
    its platforms only [STO-5]. So are layers that may not be passed on [IMG-5].
    """
    reached: dict[str, Descriptor] = {}
    _reach(descriptor, blob_path, reached, MAX_DEPTH)
    return [reached[digest] for digest in sorted(reached)]


def _reach(
    descriptor: Descriptor, blob_path: BlobPath, reached: dict[str, Descriptor], depth: int
) -> None:
    if descriptor.digest in reached:
        return
    if depth == 0:
        raise EnvironmentFault(f"indexes are nested more than {MAX_DEPTH} deep")
    reached[descriptor.digest] = descriptor
    document = parse_manifest(_read(descriptor, blob_path), descriptor.media_type)
    if isinstance(document, Manifest):
        for blob in (document.config, *document.layers):
            if not is_foreign(blob.media_type) or os.path.exists(blob_path(blob.digest)):
                reached.setdefault(blob.digest, blob)
        return
    for child in document.manifests:
        if os.path.exists(blob_path(child.digest)):
            _reach(child, blob_path, reached, depth - 1)


def _read(descriptor: Descriptor, blob_path: BlobPath) -> bytes:
    if descriptor.size > MAX_MANIFEST_BYTES:
        raise EnvironmentFault(f"manifest {descriptor.digest} has {descriptor.size} bytes")
    return b"".join(_checked(descriptor, blob_path))


def _checked(blob: Descriptor, blob_path: BlobPath) -> Iterator[bytes]:
    """Yield a blob's bytes; its size and digest are right once this ends [IMG-22].

    Raises:
        DamagedBlob: they are not.
    """
    import hashlib

    hasher = hashlib.new(blob.digest.algorithm)
    size = 0
    try:
        with open(blob_path(blob.digest), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                size += len(piece)
                if size > blob.size:
                    reason = f"is longer than {blob.size} bytes"
                    raise DamagedBlob(f"blob {blob.digest} {reason}", digest=blob.digest)
                hasher.update(piece)
                yield piece
    except FileNotFoundError as error:
        reason = "is missing from the store"
        raise DamagedBlob(f"blob {blob.digest} {reason}", digest=blob.digest) from error
    if size != blob.size or hasher.hexdigest() != blob.digest.hex:
        raise DamagedBlob(
            f"blob {blob.digest}: got {blob.digest.algorithm}:{hasher.hexdigest()} "
            f"after {size} of {blob.size} bytes",
            digest=blob.digest,
        )


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _familiar(name: str) -> str:
    reference = Reference.parse(name)
    return reference.familiar if reference.tag else reference.familiar + ":latest"


def _tagged(descriptor: Descriptor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of index.json: one a name, each with tag and full name [IMG-21]."""
    entries: list[dict[str, Any]] = []
    for name in names:
        reference = Reference.parse(name)
        tag = reference.tag or "latest"
        notes = {
            **descriptor.annotations,
            IMAGE_NAME: f"{reference.repository}:{tag}",
            REF_NAME: tag,
        }
        entries.append({**descriptor.to_json(), "annotations": dict(sorted(notes.items()))})
    return [_field_order(entry) for entry in entries] or [descriptor.to_json()]


def _field_order(entry: dict[str, Any]) -> dict[str, Any]:
    order = ("mediaType", "digest", "size", "annotations", "platform")
    return {name: entry[name] for name in order if name in entry}


def _layout_index(entries: list[Any]) -> bytes:
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _other_images(directory: str, descriptor: Descriptor, names: Sequence[str]) -> list[Any]:
    """Return the entries that an existing layout's index keeps beside the image that is being written."""
    new = {(Reference.parse(name).repository, Reference.parse(name).tag) for name in names}
    return [e for e in _other_entries(directory) if not _is_replaced(e, descriptor, new)]


def _other_entries(directory: str) -> list[Mapping[str, Any]]:
    """Return the entries of an existing layout's index; blobs alone make no layout yet."""
    if not os.path.isdir(directory) or not os.listdir(directory):
        return []
    names = os.listdir(directory)
    if "oci-layout" not in names and not set(names) <= {"blobs", "ingest"}:
        raise UserError(
            f"{directory} is not empty and not an OCI layout",
            hints=("choose an empty directory",),
        )
    path = os.path.join(directory, "index.json")
    try:
        # A pipe in its place is empty, and waited for by nobody.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            entries = json.loads(file.read(MAX_MANIFEST_BYTES))["manifests"]
        return [dict(entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is broken: not an image index") from error


def _notes(entry: Mapping[str, Any]) -> dict[str, Any]:
    return entry.get("annotations") or {}


def _is_replaced(
    entry: Mapping[str, Any], descriptor: Descriptor, new: set[tuple[str, str | None]]
) -> bool:
    notes = _notes(entry)
    full, tag = notes.get(IMAGE_NAME), notes.get(REF_NAME)
    if full is None and tag is None:
        return entry.get("digest") == descriptor.digest
    if full is None:
        return tag in {word for _, word in new}
    try:
        reference = Reference.parse(str(full))
    except ValueError:
        return False
    return (reference.repository, reference.tag) in new


def _folders(out: BinaryIO, blobs: Sequence[Descriptor]) -> None:
    _header(out, "blobs/", tarformat.DIRECTORY, 0, 0o755)
    for algorithm in sorted({blob.digest.algorithm for blob in blobs}):
        _header(out, f"blobs/{algorithm}/", tarformat.DIRECTORY, 0, 0o755)


def _header(out: BinaryIO, name: str, kind: bytes, size: int, mode: int) -> None:
    out.write(tarformat.entry(name.encode(), kind, mode=mode, size=size))


def _member(out: BinaryIO, name: str, data: bytes) -> None:
    _header(out, name, tarformat.REGULAR, len(data), 0o644)
    out.write(data)
    out.write(tarformat.padding(len(data)))


def _blob(out: BinaryIO, blob: Descriptor, blob_path: BlobPath) -> None:
    _header(out, _blob_name(blob.digest), tarformat.REGULAR, blob.size, 0o444)
    out.writelines(_checked(blob, blob_path))
    out.write(tarformat.padding(blob.size))


class _replacing:
    """A file that takes its name only once it was written whole."""

    def __init__(self, folder: str, name: str, opened: Opened) -> None:
        self._folder = folder
        self._opened = opened
        self._name = name
        # Of this writer alone: another thread may write the same, and containers share numbers.
        self._part = f"{name}.{os.urandom(8).hex()}.part"

    def __enter__(self) -> BinaryIO:
        self._fd = self._opened(self._folder)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = open(os.open(self._part, flags, 0o666, dir_fd=self._fd), "wb")
        except BaseException:
            os.close(self._fd)
            raise
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._file.close()
            if kind is None:
                fd = self._fd
                os.replace(self._part, self._name, src_dir_fd=fd, dst_dir_fd=fd)
            else:
                os.unlink(self._part, dir_fd=self._fd)
        finally:
            os.close(self._fd)
