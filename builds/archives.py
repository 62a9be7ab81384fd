"""Images of the store to archives and back [RUN-24]."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pybuild.builds.standardinput import copy_archive
from pybuild.cache.store import Store
from pybuild.engine.host import native_platform
from pybuild.exporter.atomicfile import whole_file
from pybuild.exporter.heldimages import buffered, held_image, load_images, name_in
from pybuild.image.archive import NamedImage, write_docker_archive, write_oci_archive
from pybuild.image.manifest import resolve
from pybuild.model.descriptor import Descriptor
from pybuild.model.platform import Platform


def save_images(
    store: Store, texts: Iterable[str], dest: str, platform: Platform | None, *, is_oci: bool
) -> None:
    """Write images with their names to an archive; an index goes whole into an OCI one, without *platform*.

    Args:
        dest: a path, or ``-`` for standard output.

    Raises:
        UserError: there is no such image.
    """

    def chosen(descriptor: Descriptor) -> Descriptor:
        if is_oci and platform is None:
            return descriptor
        own = platform or native_platform()
        return resolve(descriptor, lambda one: store.blobs.read(one.digest), own)[0]

    named: dict[Descriptor, list[str]] = {}
    for text in texts:
        names = named.setdefault(chosen(held_image(store, text)), [])
        if (name := name_in(store, text)) and name not in names:
            names.append(name)
    images = [NamedImage(descriptor, names) for descriptor, names in named.items()]
    write = write_oci_archive if is_oci else write_docker_archive
    with whole_file(dest) as fd, buffered(fd) as file:
        write(file, store.blobs.path, images)


def load_archive(store: Store, source: str) -> list[str]:
    """Take the images of an archive or OCI layout into the store; return a line about each.

    Args:
        source: a path, or ``-`` for standard input.

    Raises:
        UserError: it is no archive of images.
    """
    scratch = store.scratch("load")
    os.mkdir(scratch)
    try:
        if source == "-":
            source = os.path.join(scratch, "stdin")
            copy_archive(source)
        return load_images(store, source, scratch)
    finally:
        store.discard(scratch)
