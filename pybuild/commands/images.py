"""``pybuild images``, ``inspect``, ``tag`` and ``rmi``: the local image store."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

from pybuild.arguments.environment import platforms_of
from pybuild.cache.content.imagelist import (
    image_named,
    list_images,
    names_of,
    parse_image_filters,
)
from pybuild.cache.space.prune import Pruned
from pybuild.cache.space.unusedimages import Removed, prune_images, read_image_filters
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store, with_store
from pybuild.commands.several import confirmed, show_documents
from pybuild.containers.containers import Containers
from pybuild.containers.imageuse import refuse_used
from pybuild.engine.host import SystemClock, native_platform
from pybuild.exporter.docker.document import document
from pybuild.exporter.docker.rows import history_rows, image_facts, image_parts, image_row
from pybuild.model.amounts import human_bytes
from pybuild.model.columns import IMAGES
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.listing import list_text
from pybuild.model.reference import Reference, is_pinned, is_reference, parse_reference


def images(parsed: Parsed) -> int:
    """List images: name, tag, ID, age, the sizes of their layers unpacked and as they are sent."""
    form = parsed.one("format")
    with open_store(parsed, to_read=True) as store:
        chosen = parse_image_filters(parsed.many("filter"), store)
        listed = [one for one in list_images(store) if chosen(one)]
        if parsed.positionals:
            reference = parse_reference(parsed.positionals[0])
            has_tag = is_pinned(parsed.positionals[0])
            listed = [
                one
                for one in listed
                if one.reference is not None
                and one.reference.repository == reference.repository
                and (not has_tag or one.reference.tag == reference.tag)
            ]
        needs_size = not parsed.flag("quiet") and (
            "{{" not in form or ".Size" in form or "json" in form
        )
        rows = [image_row(store, one, parsed.flag("no-trunc"), needs_size) for one in listed]
    if parsed.flag("quiet") and not form:
        sys.stdout.write(
            "".join(f"{image_id}\n" for image_id in dict.fromkeys(str(row["ID"]) for row in rows))
        )
        return 0
    shown = ["Repository", "Tag", "ID", "CreatedSince", "Size", "CompressedSize"]
    if parsed.flag("digests"):
        shown.insert(2, "Digest")
    sys.stdout.write(list_text(form, rows, IMAGES, shown, map(image_facts, listed)))
    return 0


def inspect(parsed: Parsed) -> int:
    """Print images as docker describes them, or of what OCI consists; ``--check`` recomputes it all."""
    with open_store(parsed, to_read=True) as store:
        if not any(map(parsed.flag, OF_IMAGES)):
            return show_documents(
                parsed.one("format"),
                parsed.positionals,
                lambda name: document(store, image_named(store, name)),
            )
        descriptors = [image_named(store, name) for name in parsed.positionals]
        if parsed.flag("check"):
            return max([_check(store, descriptor) for descriptor in descriptors])
        if parsed.flag("raw"):
            texts = [store.blobs.read(descriptor.digest).decode() for descriptor in descriptors]
        else:
            parts = [image_parts(store, one) for one in descriptors]
            texts = [json.dumps(one, indent=2) + "\n" for one in parts]
    sys.stdout.write("".join(texts))
    return 0


OF_IMAGES = ("check", "oci", "raw")
"""The options of ``inspect`` that ask for an image, and for nothing else of its name."""


def _check(store: Store, descriptor: Descriptor) -> int:
    from pybuild.image.validate import validate_image

    def open_blob(digest: Digest) -> BinaryIO:
        return open(store.blobs.path(digest), "rb")

    problems = validate_image(open_blob, descriptor)
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    if not problems:
        sys.stdout.write(f"{descriptor.digest}: every digest, diffID and size is right\n")
    return 1 if problems else 0


def history(parsed: Parsed) -> int:
    """Show how an image came about, newest step first [RUN-24]."""
    quiet, whole = parsed.flag("quiet"), parsed.flag("no-trunc")
    platforms = platforms_of(parsed)
    with open_store(parsed, to_read=True) as store:
        image = image_named(store, parsed.positionals[0])
        platform = platforms[0] if platforms else native_platform()
        rows, exact = history_rows(
            store, image, platform, whole=whole, has_whole_ids=whole or quiet
        )
    form = "{{.ID}}" if quiet else parsed.one("format")
    titles = {**IMAGES, "ID": "IMAGE", "CreatedBy": "CREATED BY", "Comment": "COMMENT"}
    sys.stdout.write(
        list_text(form, rows, titles, ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"], exact)
    )
    return 0


def tag(parsed: Parsed) -> int:
    """Give an image one more name."""
    source, name = parsed.positionals
    reference = parse_reference(name)
    with open_store(parsed) as store:
        store.images.tag(str(reference), image_named(store, source, hold=True))
    return 0


def rmi(parsed: Parsed) -> int:
    """Remove names; an ID removes all names of its image. ``prune`` frees their space."""
    with open_store(parsed) as store:
        for name in parsed.positionals:
            try:
                descriptor = image_named(store, name)
            except UserError:
                if parsed.flag("force"):
                    continue
                raise
            own, names = is_reference(name), names_of(store, descriptor)
            if len(names) < 2 or not own:
                digest = str(descriptor.digest)
                refuse_used(Containers(store), name, digest, own=own, force=parsed.flag("force"))
            if own and store.images.untag(name) is not None:
                sys.stdout.write(f"Untagged: {Reference.parse(name)}\n")
                continue
            for held in store.images.remove(descriptor.digest):
                sys.stdout.write(f"Untagged: {held}\n")
            sys.stdout.write(f"Deleted: {descriptor.digest}\n")
    return 0


def prune(parsed: Parsed) -> int:
    """Remove images that nothing uses; asks first without ``--force``."""
    all, before = read_image_filters(parsed.many("filter"), SystemClock().now(), parsed.flag("all"))
    if not confirmed(parsed, "all images that nothing uses" if all else "images without a name"):
        return 0

    def work(store: Store) -> tuple[list[Removed], Pruned]:
        return prune_images(store, all=all, before=before)

    removed, pruned = with_store(parsed, work)
    for image in removed:
        sys.stdout.write("".join(f"Untagged: {name}\n" for name in image.names))
        sys.stdout.write(f"Deleted: {image.digest}\n")
    sys.stdout.write(f"Total:\t{human_bytes(pruned.freed)}\n")
    return 0
