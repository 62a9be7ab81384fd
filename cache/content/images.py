"""The local image store: ``index.json`` of the OCI layout, names pointing at manifests [STO-2].

An entry has one name, or none (*dangling*): several names of one manifest are several entries, as
other tools write them. Entries of other tools are kept as they are. A dangling image is garbage,
unless it is a last result (`origins`); the time of its manifest's file says how old it is.
"""

from __future__ import annotations

import os

from pybuild.cache.content.blobs import Blobs
from pybuild.cache.content.imageevents import shown_image
from pybuild.cache.content.leases import Leases
from pybuild.cache.content.origins import LAST_RESULT_OF, with_last_result
from pybuild.cache.disk import journal
from pybuild.cache.disk.atomic import Disk, faults, write_file
from pybuild.cache.disk.locks import locked
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.disk.scratch import Scratch
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.model.jsontext import as_list, as_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    from pybuild.cache.content.leases import Lease
    from pybuild.cache.content.origins import Origin
    from pybuild.model.descriptor import Descriptor

    Entries = list[dict[str, Any]]
    Listed = list[tuple[tuple[str, ...], Descriptor]]
    Names = list[str]

NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
OWNERS = "names"  # below the root: the names of each client of a server that shares the store
MOST_NAMES, MOST_NAMELESS = 10_000, 100
"""Of each client of a server that shares the store."""
_MANIFEST_BYTES = 8 << 20
EMPTY: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [],
}


class Images:
    """The images of one store. Safe to use from threads and processes at once.

    Args:
        place: whose names these are, below the root; empty for those of the store's own user.
    """

    def __init__(
        self,
        root: str,
        disk: Disk,
        scratch: Scratch,
        blobs: Blobs,
        leases: Leases,
        place: str = "",
    ) -> None:
        self._root = root
        self._path = os.path.join(root, place, "index.json")
        self._is_owners = bool(place)
        self._mutex = os.path.join(root, "locks", "images")
        self._disk = disk
        self._scratch = scratch
        self._blobs = blobs
        self._leases = leases

    def tag(self, reference: str, descriptor: Descriptor, origin: Origin | None = None) -> None:
        """Let *reference* name the manifest or index; what it named before may become dangling.

        Args:
            origin: of the build that it is now the last result of.

        Raises:
            ValueError: *reference* is not one.
            BlobMissing: the manifest is not in the store.
            EnvironmentFault: the index cannot be written; it is as before then.
        """
        name = normalized(reference)

        def change(entries: Entries) -> Entries:
            replaced = [entry for entry in entries if name_of(entry) == name]
            kept = [entry for entry in entries if name_of(entry) != name]
            for old in replaced:
                self._leave_dangling(kept, old, descriptor.digest)
            # The first name takes the dangling entry's place.
            kept = [
                entry
                for entry in kept
                if name_of(entry) is not None or entry.get("digest") != descriptor.digest
            ]
            after = [*kept, _named(descriptor, name)]
            return with_last_result(after, descriptor.digest, origin, entries)

        self._change(change, descriptor)
        self.note("tag", descriptor.digest, name)

    def note(self, action: str, id: str, name: str) -> None:
        """Write it into the journal, but for clients of a server, who share the store; a manifest by its image's ID."""
        if not self._is_owners:
            shown, labels = shown_image(self._read, id)
            name = shown if name == id else _familiar(name)
            journal.note(self._root, journal.IMAGE, action, shown, {**labels, "name": name})

    def add_dangling(self, descriptor: Descriptor, origin: Origin | None = None) -> None:
        """Keep the manifest without a name, until it is pruned; with the names that it has.

        Args:
            origin: as `tag` has it.

        Raises:
            BlobMissing, EnvironmentFault: as `tag`.
        """

        def change(entries: Entries) -> Entries:
            is_there = any(entry.get("digest") == descriptor.digest for entry in entries)
            after = entries if is_there else [*entries, _named(descriptor, None)]
            return with_last_result(after, descriptor.digest, origin, entries)

        self._change(change, descriptor)

    def untag(self, reference: str) -> Descriptor | None:
        """Remove the name and return the descriptor that it had, or None."""
        name = normalized(reference)
        removed: Entries = []

        def change(entries: Entries) -> Entries:
            removed[:] = [entry for entry in entries if name_of(entry) == name]
            return [entry for entry in entries if name_of(entry) != name]

        self._change(change, None)
        image = _descriptor(removed[0]) if removed else None
        if image is not None:
            self.note("untag", image.digest, name)
        return image

    def remove(self, digest: str) -> Names:
        """Remove the manifest with all its names; return the names."""
        names: Names = []
        removed: Entries = []

        def change(entries: Entries) -> Entries:
            removed[:] = [entry for entry in entries if entry.get("digest") == digest]
            names[:] = sorted(name for entry in removed if (name := name_of(entry)) is not None)
            return [entry for entry in entries if entry.get("digest") != digest]

        self._change(change, None)
        for name in names:
            self.note("untag", digest, name)
        if removed:
            self.note("delete", digest, digest)
        return names

    def drop(self, digests: Collection[str]) -> None:
        """Remove the manifests with all their names, for who holds the collection lock."""
        with faults("cannot write the images", self._root), locked(self._mutex):
            before = self.entries()
            after = [entry for entry in before if entry.get("digest") not in digests]
            if after != before:
                self._write(after)
        for digest in sorted({entry["digest"] for entry in before if entry not in after}):
            self.note("delete", digest, digest)

    def list(self) -> Listed:
        """Return each image with its names, sorted by name, dangling ones last."""
        names: dict[Digest, Names] = {}
        descriptors: dict[Digest, Descriptor] = {}
        for entry in self.entries():
            descriptor = _descriptor(entry)
            if descriptor is None:
                continue
            descriptors.setdefault(descriptor.digest, descriptor)
            name = name_of(entry)
            names.setdefault(descriptor.digest, []).extend([name] if name else [])
        listed = [(tuple(sorted(names[d])), descriptors[d]) for d in descriptors]
        return sorted(listed, key=lambda image: (not image[0], image[0], image[1].digest))

    def resolve(self, name_or_id: str) -> Descriptor | None:
        """Find an image by reference, digest, image ID [IMG-11], or the start of an ID.

        Raises:
            UserError: several images' IDs start so.
            EnvironmentFault: the index cannot be read.
        """
        images = self.list()
        text = name_or_id.removeprefix("sha256:")
        is_hex = bool(text) and not text.strip("0123456789abcdef")
        if is_hex and len(text) == 64:
            return self._by_id(images, text)
        if text == name_or_id:
            for spelling in _spellings(name_or_id):
                for names, descriptor in images:
                    if spelling in names:
                        return descriptor
            if (image := _by_digest(images, name_or_id)) is not None:
                return image
        return self._by_id(images, text) if is_hex and len(text) < 64 else None

    def held(self, name_or_id: str, lease: Lease) -> Descriptor | None:
        """As `resolve`; nothing of the image is freed before *lease* ends, whatever it is called then.

        Raises:
            EnvironmentFault: the lease cannot be written; else as `resolve`.
        """
        while True:
            seen = self.signature()
            image = self.resolve(name_or_id)
            if image is None:
                return None
            parts: set[str] = set()
            reach(self._blobs, [image.digest], parts)
            lease.add_all([("blob", digest) for digest in parts])
            if self.signature() == seen:  # its entry goes before anything of it does
                return image

    def _by_id(self, images: Listed, start: str) -> Descriptor | None:
        """Return the image whose ID begins so, the first of several manifests with one config."""
        matches: dict[Digest, Descriptor] = {}
        meant: set[str] | None = None
        for _, descriptor in images:
            if fitting := {id for id in self.ids(descriptor) if id.startswith(start)}:
                matches[descriptor.digest] = descriptor
                meant = fitting if meant is None else meant & fitting
        if matches and not meant:
            from pybuild.model.errors import UserError

            known = ", ".join(sorted(digest.short for digest in matches))
            raise UserError(f'image id "{start}" is ambiguous: {known}')
        return next(iter(matches.values()), None)

    def ids(self, descriptor: Descriptor) -> Names:
        """Return the hex digits that may stand for the image: manifest's, and its configs'."""
        ids = [descriptor.digest.hex]
        for child in references(self._read(descriptor.digest)):
            if "config" in child[0]:
                ids.append(child[1].hex)
            elif "manifest" in child[0]:
                inner = references(self._read(child[1]))
                ids += [child[1].hex, *(d.hex for role, d in inner if "config" in role)]
        return ids

    def _read(self, digest: Digest) -> object:
        try:
            return parse(self._blobs.read(digest))
        except BlobMissing:
            return None

    def entries(self) -> Entries:
        """Return the index's entries as they stand in the file.

        Raises:
            EnvironmentFault: the index is not there, or not an index. It is never guessed anew:
                it says what must not be freed.
        """
        from pybuild.model.errors import EnvironmentFault

        with faults("cannot read the images", self._root):
            try:
                with open(self._path, "rb", opener=plain) as file:
                    data = file.read()
            except FileNotFoundError:
                return []
        index = as_object(parse(data))
        entries: Entries = [as_object(entry) for entry in as_list(index.get("manifests"))]
        try:
            if not isinstance(index["manifests"], list):
                raise ValueError
            for entry in entries:
                Digest.parse(entry["digest"])
        except (ValueError, TypeError, KeyError) as error:
            raise EnvironmentFault(
                f"{self._path}: not an image index",
                hints=("restore it, or move it away: the images' names are lost then",),
            ) from error
        return entries

    def others(self) -> set[str]:
        """Return the digests that owners other than the store's own user name; not to be freed.

        Raises:
            EnvironmentFault: as `entries`.
        """
        digests: set[str] = set()
        for place in self._places():
            owned = Images(self._root, self._disk, self._scratch, self._blobs, self._leases, place)
            digests |= {entry["digest"] for entry in owned.entries() if name_of(entry) is not None}
        return digests

    def signature(self) -> object:
        """Return a value that changes whenever anybody's index is replaced."""
        places = ("", *self._places())
        return [_signature(os.path.join(self._root, place, "index.json")) for place in places]

    def _places(self) -> Names:
        folder = os.path.join(self._root, OWNERS)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [os.path.join(OWNERS, name) for name in names]

    def create(self) -> None:
        """Write an empty index if there is none. Raises OSError."""
        if os.path.exists(self._path):
            return
        with locked(self._mutex):
            if not os.path.exists(self._path):
                self._write([])

    def _leave_dangling(self, kept: Entries, old: dict[str, Any], replacement: str | None) -> None:
        digest = old.get("digest")
        if digest == replacement or any(entry.get("digest") == digest for entry in kept):
            return
        entry = dict(old)
        annotations = _nameless(entry.pop("annotations", None))
        if annotations:
            entry["annotations"] = annotations
        kept.append(entry)

    def _change(
        self,
        change: Callable[[Entries], Entries],
        needed: Descriptor | None,
    ) -> None:
        if needed is not None:
            parts: set[str] = set()
            reach(self._blobs, [needed.digest], parts)
            self._blobs.flush(parts)  # all was written before it
        # Nothing is freed between looking for the manifest and naming it. The guard comes first, as
        # who frees has the collection lock already when it removes an image.
        with (
            faults("cannot write the images", self._root),
            self._leases.guard(),
            locked(self._mutex),
        ):
            if needed is not None:
                if not self._blobs.has(needed.digest):
                    raise BlobMissing(needed.digest)
                self._blobs.touch(needed.digest)
            before = self.entries()
            after = change(list(before))
            if self._is_owners:
                after = _bounded(after, before)
            if after != before:
                self._write(after)

    def _write(self, entries: Entries) -> None:
        ordered = sorted(entries, key=lambda e: (name_of(e) is None, name_of(e) or "", e["digest"]))
        import json

        data = json.dumps({**EMPTY, "manifests": ordered}, indent=2, ensure_ascii=False)
        tmp = self._scratch.name()
        folder = os.path.dirname(self._path)
        if folder != self._root:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        write_file(self._disk, tmp, self._path, data.encode() + b"\n", 0o644, flush=True)


def _bounded(after: Entries, before: Entries) -> Entries:
    """Return an owner's entries without the older ones of images that lost their names, which nothing keeps.

    Raises:
        UserError: there are too many names.
    """
    nameless = [entry for entry in after if name_of(entry) is None]
    if len(after) - len(nameless) > MOST_NAMES and len(after) > len(before):
        from pybuild.model.errors import UserError

        raise UserError(
            f"more than {MOST_NAMES:,} names of images", hints=("remove some that nobody needs",)
        )
    older = [entry for entry in nameless if entry in before]
    surplus = older[: max(0, len(nameless) - MOST_NAMELESS)]
    return [entry for entry in after if entry not in surplus] if surplus else after


def _signature(path: str) -> object:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def name_of(entry: dict[str, Any]) -> str | None:
    """Return an index entry's full name; None for a dangling one."""
    annotations = as_object(entry.get("annotations"))
    name = annotations.get(NAME) or annotations.get(REF_NAME)
    return name if isinstance(name, str) and name else None


def normalized(reference: str) -> str:
    """Return the full form of a name, ``docker.io/library/alpine:latest`` for ``alpine``."""
    from pybuild.model.reference import Reference

    return str(Reference.parse(reference))


def _familiar(name: str) -> str:
    """Return a full name as people write it: without docker.io and library."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _spellings(name: str) -> Names:
    try:
        return [name, normalized(name)]
    except ValueError:
        return [name]


def _by_digest(images: Listed, text: str) -> Descriptor | None:
    """Find ``name@digest``: the digest, if an image of that repository has it."""
    from pybuild.model.reference import Reference

    try:
        reference = Reference.parse(text)
    except ValueError:
        return None
    if reference.digest is None:
        return None
    for names, descriptor in images:
        if descriptor.digest != reference.digest:
            continue
        for name in names:
            if name.startswith((reference.repository + ":", reference.repository + "@")):
                return descriptor
    return None


def _named(descriptor: Descriptor, name: str | None) -> dict[str, Any]:
    obj = descriptor.to_json()
    annotations = dict(descriptor.annotations)
    annotations.pop(NAME, None)
    annotations.pop(REF_NAME, None)
    annotations.pop(LAST_RESULT_OF, None)
    if name is not None:
        # Archives of one image say its tag in REF_NAME [IMG-21]. Many images share a store, and a
        # tool that reads it in place can tell them apart by nothing else: `oci:<store>:<name>`.
        annotations[NAME] = annotations[REF_NAME] = name
    obj.pop("annotations", None)
    if annotations:
        obj["annotations"] = dict(sorted(annotations.items()))
    return obj


def _descriptor(entry: dict[str, Any]) -> Descriptor | None:
    from pybuild.model.descriptor import Descriptor

    annotations = _nameless(entry.get("annotations"))
    annotations.pop(LAST_RESULT_OF, None)
    stripped = {**entry, "annotations": annotations}
    try:
        return Descriptor.from_json(stripped)
    except (ValueError, AttributeError, TypeError):
        return None


def _nameless(annotations: object) -> dict[str, Any]:
    return {k: v for k, v in as_object(annotations).items() if k not in (NAME, REF_NAME)}


def references(value: object) -> list[tuple[str, Digest]]:
    """Return the digests that a manifest or index names: (field, digest), in order."""
    references: list[tuple[str, Digest]] = []
    manifest = as_object(value)
    for role in ("config", "layers", "manifests", "subject", "fsLayers"):
        part = manifest.get(role)
        for child in as_list(part) or [part]:
            try:
                references.append((role, Digest.parse(str(as_object(child).get("digest")))))
            except ValueError:
                continue
    return references


def reach(blobs: Blobs, digests: Iterable[str], reached: set[str]) -> None:
    """Add *digests* and all that the manifests among them name, however deep."""
    queue = list(digests)
    while queue:
        digest = queue.pop()
        if digest in reached:
            continue
        reached.add(digest)
        try:
            if blobs.size(digest) > _MANIFEST_BYTES:
                continue
            children = references(parse(blobs.read(digest, _MANIFEST_BYTES)))
        except BlobMissing:
            continue  # images of other platforms need not be here [STO-5]
        for role, child in children:
            if role in ("manifests", "subject"):
                queue.append(child)
            else:
                reached.add(child)
