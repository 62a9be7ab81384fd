"""Images in OCI layout directories of the client, for ``oci-layout://`` contexts [NC-1].

The directory is a stranger's: every byte that is used was compared with the digest it goes by.
"""

from __future__ import annotations

import os
import stat
from typing import IO, Any

from pybuild.cache.store import Store
from pybuild.image.archive import IMAGE_NAME, REF_NAME
from pybuild.image.manifest import MAX_MANIFEST_BYTES, Manifest, parse_index, parse_object, resolve
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.platform import Platform

_PIECE = 1 << 20
_MAX_CONFIG_BYTES = 8 << 20


class LayoutDirectory:
    """One layout directory.

    Raises:
        UserError: *path* is none.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        try:
            header = parse_object(self._file("oci-layout", 4096), "oci-layout", 4096)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"{path} is no OCI layout directory: oci-layout: {reason}",
                hints=[
                    "it is one that skopeo copy … oci:DIR or build -o type=oci,tar=false,dest=DIR made"
                ],
            ) from error
        version = header.get("imageLayoutVersion")
        if version != "1.0.0":
            raise UserError(f"{path}: OCI layout version {version!r} is not supported")

    def find(self, tag: str, digest: Digest | None) -> Descriptor:
        """Return the index's entry of that digest or, without one, of that tag.

        Without either it is the tag ``latest``, else the only image that there is.

        Raises:
            UserError: there is none. EnvironmentFault: the index is broken.
        """
        if digest is not None:
            return self._by_digest(digest)
        entries = self.entries()
        sought = tag or "latest"
        for entry in entries:
            if _tag_of(entry) == sought:
                return entry
        if not tag and len(entries) == 1:
            return entries[0]
        names = ", ".join(sorted(tag for entry in entries if (tag := _tag_of(entry)))) or "none"
        raise UserError(f'{self.path} has no image with the tag "{sought}": it has {names}')

    def entries(self) -> list[Descriptor]:
        """Return all that the index has.

        Raises:
            UserError: there is no index. EnvironmentFault: it is broken.
        """
        try:
            data = self._file("index.json", MAX_MANIFEST_BYTES)
        except OSError as error:
            raise UserError(f"{self.path}: index.json: {(error.strerror or '').lower()}") from error
        try:
            return list(parse_index(data, OCI_INDEX).manifests)
        except PybuildError as error:
            raise EnvironmentFault(
                f"{self.path}/index.json is broken: {error.message}",
                hints=["what the directory holds has no names without it: remove the directory"],
            ) from error

    def document(self, blob: Descriptor, limit: int) -> dict[str, Any]:
        """Return a blob that is a JSON object.

        Raises:
            EnvironmentFault: it is none, or `read` fails.
        """
        return dict(parse_object(self.read(blob, limit), f"blob {blob.digest}", limit))

    def choose(self, top: Descriptor, platform: Platform) -> tuple[Descriptor, Manifest]:
        """Walk from *top* to the manifest for *platform*.

        Raises:
            EnvironmentFault: there is none, or a blob is missing or not what its digest says.
        """
        return resolve(top, lambda blob: self.read(blob, _MAX_CONFIG_BYTES), platform)

    def read(self, blob: Descriptor, limit: int) -> bytes:
        """Return a small blob's bytes.

        Raises:
            EnvironmentFault: it is missing, too large, or not what its digest says.
        """
        try:
            data = self._file(_place(blob.digest), limit)
        except OSError as error:
            raise self._missing(blob, error) from error
        if Digest.of(data) != blob.digest:
            raise EnvironmentFault(f"{self.path}: blob {blob.digest} is damaged")
        return data

    def copy(self, blob: Descriptor, store: Store) -> None:
        """Take a blob of any size into the store.

        Raises:
            EnvironmentFault: it is missing, or not what its digest and size say.
        """
        try:
            file = self._open(_place(blob.digest))
        except OSError as error:
            raise self._missing(blob, error) from error
        with file, store.blobs.writer(blob.digest, blob.size) as out:
            while piece := file.read(_PIECE):
                out.write(piece)
            out.commit()

    def _by_digest(self, digest: Digest) -> Descriptor:
        if digest.algorithm != "sha256":
            raise UserError(f"{self.path}: only sha256 digests can be looked up, not {digest}")
        try:
            data = self._file(_place(digest), MAX_MANIFEST_BYTES)
        except OSError as error:
            raise UserError(f"{self.path} has no image {digest}") from error
        if Digest.of(data) != digest:
            raise EnvironmentFault(f"{self.path}: blob {digest} is damaged")
        body = parse_object(data, f"manifest {digest}", MAX_MANIFEST_BYTES)
        named = body.get("mediaType")
        default = OCI_INDEX if "manifests" in body else OCI_MANIFEST
        return Descriptor(named if isinstance(named, str) else default, digest, len(data))

    def _file(self, name: str, limit: int) -> bytes:
        with self._open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise EnvironmentFault(f"{self.path}: {name} has more than {limit} bytes")
        return data

    def _open(self, name: str) -> IO[bytes]:
        path = os.path.join(self.path, name)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(22, "not a regular file", path)
        return os.fdopen(fd, "rb", buffering=0)

    def _missing(self, blob: Descriptor, error: OSError) -> PybuildError:
        reason = (error.strerror or str(error)).lower()
        return EnvironmentFault(f"{self.path}: blob {blob.digest}: {reason}")


def parse_layout(text: str) -> tuple[str, str, Digest | None]:
    """Split ``path[:tag][@digest]``.

    Raises:
        UserError: the digest is none.
    """
    if os.path.isdir(text):
        return text, "", None
    path, at, digest_text = text.rpartition("@")
    digest: Digest | None = None
    if at:
        try:
            digest = Digest.parse(digest_text)
        except ValueError as error:
            raise UserError(f'invalid OCI layout "{text}": {error}') from error
    else:
        path = digest_text
    head, colon, tag = path.rpartition(":")
    if colon and "/" not in tag and not os.path.isdir(path):
        return head, tag, digest
    return path, "", digest


def _place(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _tag_of(entry: Descriptor) -> str:
    """The tag of an index entry; a whole name counts by its tag."""
    name = entry.annotations.get(REF_NAME) or entry.annotations.get(IMAGE_NAME, "")
    return name.rpartition("/")[2].rpartition(":")[2]
