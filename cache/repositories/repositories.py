"""Repositories that `pybuild registry serve` offers out of this store [STO-1].

    registry/
      changes                        random bytes, new ones with each change
      repositories/<name>/           the name with a comma for each slash
        blobs/<algorithm>-<hex>      empty: the repository has the blob; used last at its mtime
        manifests/<algorithm>-<hex>  what `ManifestEntry` says of a manifest
        referrers/<subject>/<digest> empty: the manifest names that subject
        tags/<tag>                   a descriptor

A *link* is one of the files that name a blob. Bytes are in the store's ``blobs/`` once, however
many repositories link them, and whoever freed them looks at the links first (`mark`). Names of
images in ``index.json`` are another thing: those are ours to build on, these are for others to
pull; a blob is reachable through a repository only by a link.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

from pybuild.cache.content.blobs import Blobs
from pybuild.cache.content.leases import Leases
from pybuild.cache.disk.atomic import Disk, faults, write_file
from pybuild.cache.disk.locks import locked, tried
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.disk.scratch import Scratch
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.model.jsontext import as_number, as_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any

    from pybuild.model.clock import Clock

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_LONGEST_NAME = 255
_FOLDERS = ("blobs", "manifests", "referrers", "tags")


def is_name(text: str) -> bool:
    """Return whether *text* can name a repository; such a name is safe as that of a directory."""
    return len(text) <= _LONGEST_NAME and _NAME.match(text) is not None


def is_tag(text: str) -> bool:
    """Return whether *text* can be a tag; such a tag is safe as the name of a file."""
    return _TAG.match(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """A repository's record of one of its manifests.

    Attributes:
        descriptor: with the manifest's annotations, as lists of referrers want it.
        released: its tag was deleted, or what it belonged to: it may go when nothing needs it.
        changed: when it was pushed or released.
    """

    descriptor: Descriptor
    artifact_type: str = ""
    subject: Digest | None = None
    released: bool = False
    changed: float = 0.0

    def to_json(self) -> dict[str, Any]:
        value = self.descriptor.to_json()
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.subject is not None:
            value["subject"] = self.subject
        if self.released:
            value["released"] = True
        value["changed"] = self.changed
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ManifestEntry:
        """Read what `to_json` wrote. Raises ValueError."""
        subject = value.get("subject")
        return cls(
            descriptor=Descriptor.from_json(value),
            artifact_type=str(value.get("artifactType") or ""),
            subject=Digest.parse(subject) if isinstance(subject, str) else None,
            released=value.get("released") is True,
            changed=as_number(value.get("changed")),
        )


class Repositories:
    """All repositories of one store. Safe to use from threads and processes at once."""

    def __init__(
        self,
        root: str,
        disk: Disk,
        scratch: Scratch,
        blobs: Blobs,
        leases: Leases,
        clock: Clock,
    ) -> None:
        self.root = root
        self.folder = os.path.join(root, "registry")
        self.disk = disk
        self.scratch = scratch
        self.blobs = blobs
        self.leases = leases
        self.clock = clock
        self._all = os.path.join(self.folder, "repositories")
        self._changes = os.path.join(self.folder, "changes")
        self._mutex = os.path.join(root, "locks", "registry")
        self._served = os.path.join(root, "locks", "registry-served")

    def __getitem__(self, name: str) -> Repository:
        """Return the repository of that name, whether it exists or not.

        Raises:
            ValueError: it cannot be a name.
        """
        if not is_name(name):
            raise ValueError(f'invalid repository name "{name}"')
        return Repository(self, name, os.path.join(self._all, name.replace("/", ",")))

    def names(self) -> list[str]:
        """Return the names of all repositories, sorted."""
        names = (name.replace(",", "/") for name in listed(self._all))
        return sorted(name for name in names if is_name(name))

    def __iter__(self) -> Iterator[Repository]:
        return (self[name] for name in self.names())

    def linked(self) -> set[Digest]:
        """Return every digest that a repository links."""
        linked: set[Digest] = set()
        for repository in self:
            linked.update(repository.blobs(), repository.manifests())
        return linked

    def signature(self) -> bytes:
        """Return a value that is another one after each new link."""
        try:
            with open(self._changes, "rb", opener=plain) as file:
                return file.read(64)
        except FileNotFoundError:
            return b""

    @contextmanager
    def linking(self) -> Generator[None]:
        """Let nobody free anything in the block, and everybody know of its links afterwards."""
        with faults("cannot write the registry", self.root), self.leases.guard():
            yield
            # A mark that was made before the block must not be believed after it.
            fd = os.open(self._changes, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, os.urandom(16).hex().encode(), 0)
            finally:
                os.close(fd)

    def exclusively(self) -> AbstractContextManager[None]:
        """Keep other changes of manifests and tags out."""
        return locked(self._mutex)

    def serving(self) -> AbstractContextManager[None]:
        """Serve what is here: somebody may be pushing, and is told what he need not push."""
        return locked(self._served, shared=True)

    def unserved(self) -> AbstractContextManager[bool]:
        """Keep servers from starting; gives whether none runs, so that nobody can be pushing."""
        return tried(self._served)


class Repository:
    """The links of one repository."""

    def __init__(self, all: Repositories, name: str, folder: str) -> None:
        self.name = name
        self._all = all
        self._folder = folder

    def exists(self) -> bool:
        return os.path.isdir(self._folder)

    # --- blobs ---------------------------------------------------------------------------------

    def has_blob(self, digest: Digest) -> bool:
        """Return whether the blob is linked in this repository, and in the store."""
        return os.path.exists(self._path("blobs", digest)) and self._all.blobs.has(digest)

    def link_blob(self, digest: Digest) -> None:
        """Make a blob of the store reachable here; counts as a use of it.

        Raises:
            BlobMissing: the store does not have it.
            EnvironmentFault: the link cannot be written.
        """
        self._all.blobs.flush([digest])
        with self._all.linking():
            if not self._all.blobs.has(digest):
                raise BlobMissing(digest)
            self._make()
            path = self._path("blobs", digest)
            with suppress(FileExistsError):
                os.close(self._all.disk.create(path, 0o600))
            self._touch(path)

    def use_blob(self, digest: Digest) -> bool:
        """Return whether the blob is linked in this repository, and in the store, for a caller who relies on it.

        It counts as just pushed then. Whoever takes links away looks at that under the collection
        lock, so the answer holds: without the guard a link could go between the two.
        """
        with self._all.leases.guard():
            return self._touch(self._path("blobs", digest)) and self._all.blobs.has(digest)

    def _touch(self, path: str) -> bool:
        now = self._all.clock.now()
        try:
            os.utime(path, (now, now))
        except FileNotFoundError:
            return False
        except OSError:
            pass  # of another owner, or read only: it is there, and counts as used when it was
        return True

    def unlink_blob(self, digest: Digest) -> bool:
        """Forget the blob; tell whether it was linked."""
        with faults("cannot write the registry", self._all.root):
            return self._unlink(self._path("blobs", digest))

    def blobs(self) -> list[Digest]:
        """Return all linked blobs but manifests, sorted."""
        return self._digests("blobs")

    def blob_used(self, digest: Digest) -> float:
        """Return when the blob was pushed or asked for; 0 when it is not linked."""
        try:
            return os.stat(self._path("blobs", digest)).st_mtime
        except FileNotFoundError:
            return 0.0

    # --- manifests and tags --------------------------------------------------------------------

    def put_manifest(
        self, entry: ManifestEntry, tags: Iterable[str] = (), children: Iterable[Digest] = ()
    ) -> None:
        """Make a manifest of the store reachable here by its digest and by *tags*; durable.

        Args:
            children: manifests that must be here, and cannot go any more once this returns.

        Raises:
            BlobMissing: the store does not have it, or the repository a child.
            EnvironmentFault: a link cannot be written; no tag points at it then.
        """
        digest = entry.descriptor.digest
        self._all.blobs.flush([digest])
        with self._all.exclusively(), self._all.linking():
            if not self._all.blobs.has(digest):
                raise BlobMissing(digest)
            for child in children:
                if self.manifest(child) is None:
                    raise BlobMissing(child)
            self._make()
            entry = replace(entry, released=False, changed=self._all.clock.now())
            self._write(self._path("manifests", digest), entry.to_json())
            if entry.subject is not None:
                folder = os.path.join(self._folder, "referrers", _file_name(entry.subject))
                with suppress(FileExistsError):
                    self._all.disk.mkdir(folder)
                with suppress(FileExistsError):
                    os.close(self._all.disk.create(os.path.join(folder, _file_name(digest))))
                self._all.disk.flush_dir(folder)
            # The links of its blobs were not flushed one by one: before this nobody needs them.
            self._all.disk.flush_dir(os.path.join(self._folder, "blobs"))
            descriptor = replace(entry.descriptor, annotations={})
            for tag in tags:
                self._write(self._tag_path(tag), descriptor.to_json())

    def manifest(self, digest: Digest) -> ManifestEntry | None:
        """Return the entry of a manifest; None when it is not here."""
        value = _read(self._path("manifests", digest))
        try:
            return None if value is None else ManifestEntry.from_json(value)
        except ValueError:
            return None

    def manifests(self) -> list[Digest]:
        """Return the digests of all manifests, sorted."""
        return self._digests("manifests")

    def tag(self, tag: str) -> Descriptor | None:
        """Return the descriptor that a tag names; None when there is no such tag.

        Raises:
            ValueError: it cannot be a tag.
        """
        value = _read(self._tag_path(tag))
        try:
            return None if value is None else Descriptor.from_json(value)
        except ValueError:
            return None

    def tags(self) -> list[str]:
        """Return all tags, sorted."""
        return sorted(tag for tag in listed(os.path.join(self._folder, "tags")) if is_tag(tag))

    def untag(self, tag: str) -> bool:
        """Delete a tag and release what it named; tell whether it was there."""
        with self._all.exclusively(), faults("cannot write the registry", self._all.root):
            named = self.tag(tag)
            if not self._unlink(self._tag_path(tag)):
                return False
            if named is not None:
                self.release(named.digest)
            return True

    def delete_manifest(self, digest: Digest) -> bool:
        """Delete a manifest with its tags, and release its referrers; tell whether it was there."""
        with self._all.exclusively(), faults("cannot write the registry", self._all.root):
            return self.drop(digest)

    def drop(self, digest: Digest) -> bool:
        """As `delete_manifest`, for who has the mutex."""
        entry = self.manifest(digest)
        if not self._unlink(self._path("manifests", digest)):
            return False
        for tag in self.tags():
            named = self.tag(tag)
            if named is not None and named.digest == digest:
                self._unlink(self._tag_path(tag))
        for referrer in self.referrers(digest):
            self.release(referrer.descriptor.digest)
        if entry is not None and entry.subject is not None:
            folder = os.path.join(self._folder, "referrers", _file_name(entry.subject))
            self._unlink(os.path.join(folder, _file_name(digest)))
            with suppress(OSError):
                os.rmdir(folder)
        return True

    def release(self, digest: Digest) -> None:
        """Note that a manifest may go when nothing needs it, for who has the mutex."""
        entry = self.manifest(digest)
        if entry is not None and not entry.released:
            released = replace(entry, released=True, changed=self._all.clock.now())
            self._write(self._path("manifests", digest), released.to_json())

    def referrers(self, subject: Digest) -> list[ManifestEntry]:
        """Return the manifests that name *subject*, sorted by digest."""
        digests = self._digests(os.path.join("referrers", _file_name(subject)))
        return [entry for digest in digests if (entry := self.manifest(digest)) is not None]

    # --- files ---------------------------------------------------------------------------------

    def _make(self) -> None:
        if os.path.isdir(os.path.join(self._folder, _FOLDERS[-1])):
            return
        top = self._all.folder
        for path in (top, os.path.join(top, "repositories"), self._folder):
            with suppress(FileExistsError):
                self._all.disk.mkdir(path)
        for name in _FOLDERS:
            with suppress(FileExistsError):
                self._all.disk.mkdir(os.path.join(self._folder, name))

    def _write(self, path: str, value: Mapping[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        write_file(self._all.disk, self._all.scratch.name(), path, data, 0o600, flush=True)

    def _unlink(self, path: str) -> bool:
        try:
            self._all.disk.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def _path(self, kind: str, digest: Digest) -> str:
        return os.path.join(self._folder, kind, _file_name(Digest.parse(digest)))

    def _tag_path(self, tag: str) -> str:
        if not is_tag(tag):
            raise ValueError(f'invalid tag "{tag}"')
        return os.path.join(self._folder, "tags", tag)

    def _digests(self, kind: str) -> list[Digest]:
        digests: list[Digest] = []
        for name in listed(os.path.join(self._folder, kind)):
            with suppress(ValueError):
                digests.append(Digest.parse(name.replace("-", ":", 1)))
        return sorted(digests)


def _file_name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"


def _read(path: str) -> dict[str, Any] | None:
    """Return a small JSON object, empty when it is damaged; None when it is not there."""
    try:
        with open(path, "rb", opener=plain) as file:
            return as_object(parse(file.read()))
    except FileNotFoundError:
        return None


def listed(folder: str) -> list[str]:
    """Return the names in a directory; none when it is not there."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
