"""Images of the store for others: found by their names, held while they are read."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from typing import TYPE_CHECKING

from pybuild.cache.content.imagelist import image_named
from pybuild.engine.engine import Engine
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.reference import Reference, parse_reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store


_PIECE = 1 << 20


@contextmanager
def buffered(fd: int) -> Generator[BufferedWriter[FileIO]]:
    """Give a file for *fd*; after a failure or a signal nothing more is written to what may be a pipe that nobody reads."""
    with BufferedWriter(FileIO(os.dup(fd), "w"), _PIECE) as file:
        try:
            yield file
        except BaseException:
            file.raw.close()
            raise


def held_image(store: Store, text: str) -> Descriptor:
    """Find an image and keep it while it is written; on a full disk nothing can be promised."""
    try:
        return image_named(store, text, hold=True)
    except EnvironmentFault:
        return image_named(store, text)


def from_source(store: Store, name: str) -> tuple[str, dict[str, str]]:
    """The ``FROM`` of an image, and the named context that it may need: the store is an
    OCI layout, and so has images that go by an ID only. The image stays until *store* is closed."""
    image = store.images.held(name, store.lease)
    if image is None or name_in(store, name):
        return str(parse_reference(name)), {}
    return "image", {"image": f"oci-layout://{store.root}@{image.digest}"}


def name_in(store: Store, text: str) -> str:
    """The name that *text* is, if it is one and no ID."""
    try:
        name = str(Reference.parse(text))
    except ValueError:
        return ""
    return name if any(name in names for names, _ in store.images.list()) else ""


def held_under(engine: Engine, name: Reference) -> Descriptor:
    """Return the image of the store; where it is there under another name, say how it gets this one."""
    try:
        return image_named(engine.store, str(name), hold=True)
    except UserError as error:
        last = name.path.rpartition("/")[2]
        for other in map(Reference.parse, names_in(engine)):
            if other.path.rpartition("/")[2] == last and other.repository != name.repository:
                hint = f"name it so first: pybuild tag {other.familiar} {name.familiar}"
                raise error.copy_with(hints=(hint,)) from None
        raise


def names_in(engine: Engine) -> list[str]:
    return [name for names, _ in engine.store.images.list() for name in names]


def tags_in(engine: Engine, repository: Reference) -> list[Reference]:
    listed = map(Reference.parse, names_in(engine))
    return [one for one in listed if one.repository == repository.repository and one.tag]


def load_images(store: Store, archive: str, scratch: str) -> list[str]:
    """Take the images of an archive or OCI layout into the store, each with its names; return docker's words about them.

    Args:
        scratch: a directory for files on the way.

    Raises:
        UserError: it is no archive of images.
    """
    from pybuild.image.archive_read import read_archive

    work, lines = os.path.join(scratch, "files"), list[str]()
    os.mkdir(work)
    for image in read_archive(archive, work, store.blobs.adopt, store.blobs.path):
        for name in image.names:
            store.images.tag(name, image.descriptor)
            store.images.note("load", image.descriptor.digest, name)
            lines.append(f"Loaded image: {Reference.parse(name).familiar}")
        if not image.names:
            store.images.add_dangling(image.descriptor)
            lines.append(f"Loaded image ID: {image.descriptor.digest}")
    return lines
