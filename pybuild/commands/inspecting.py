"""``pybuild inspect`` and ``container inspect``: what a name stands for, as docker's JSON or by a template."""

from __future__ import annotations

from functools import partial
from typing import Any

from pybuild.cache.content.imagelist import image_named
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands import images
from pybuild.commands.localstore import open_store, with_store
from pybuild.commands.several import show_documents
from pybuild.containers.containers import Containers
from pybuild.containers.inspecting import container_document
from pybuild.exporter.docker.document import document as image_document
from pybuild.model.errors import UserError
from pybuild.volumes.listing import document as volume_document
from pybuild.volumes.volumes import Volumes


def inspect(parsed: Parsed) -> int:
    """Show containers, images and volumes."""
    kind = parsed.one("type")
    if kind == "image" or any(map(parsed.flag, images.OF_IMAGES)):
        return images.inspect(parsed)
    return _show(parsed, kind)


def containers(parsed: Parsed) -> int:
    """Show containers."""
    return _show(parsed, "container")


def _show(parsed: Parsed, kind: str) -> int:
    """Show what is there, also where something else is not; that is the error then."""

    def show(store: Store) -> int:
        look = partial(_document, store, kind, parsed.flag("size"))
        return show_documents(parsed.one("format"), parsed.positionals, look)

    if parsed.flag("size"):  # what a container wrote may be of all ids: a worker looks at it
        return with_store(parsed, show, to_read=True)
    with open_store(parsed, to_read=True) as store:
        return show(store)


def _document(store: Store, kind: str, sized: bool, name: str) -> dict[str, Any]:
    """Return the description of a container of that name, else of an image, else of a volume.

    Raises:
        UserError: there is none of them.
    """
    if kind in ("", "container"):
        try:
            return container_document(store, Containers(store).find(name), sized=sized)
        except UserError:
            if kind:
                raise
    known = Volumes(store)
    if kind or (known.has(name) and store.images.resolve(name) is None):
        return volume_document(known.find(name))
    try:
        return image_document(store, image_named(store, name))
    except UserError as error:  # it knows the image that was perhaps meant
        raise error.copy_with(message=f"no such object: {name}") from None
