"""The image of a container: that of the local store, pulled first if it is not there."""

from __future__ import annotations

from typing import Any, NamedTuple

from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.image.manifest import parse_config, resolve
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference


class FoundImage(NamedTuple):
    """An image of the local store, for one platform.

    Attributes:
        root: the entry of the store: the manifest itself, or the index that has it.
        document: its config, whole.
    """

    root: Descriptor
    manifest: Descriptor
    document: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The part of its config that containers take over."""
        config: dict[str, Any] = self.document.get("config") or {}
        return config


async def find_image(
    engine: Engine, name: str, platform: Platform | None, pull: str = "missing"
) -> FoundImage:
    """Return an image of the local store, which is kept as long as *engine*.

    Args:
        pull: it first, ``always``, ``never``, or where it is ``missing``.

    Raises:
        UserError: there is no such image.
    """
    platform = platform or native_platform()
    descriptor = engine.store.images.held(name, engine.store.lease)
    try:
        reference = Reference.parse(name)
    except ValueError as error:
        if descriptor is None:
            raise UserError(f'no such image: "{name}": {error}') from error
        reference = Reference("localhost", "unnamed")
    if descriptor is None and reference.path == "library/sha256":
        raise UserError(
            f"no such image: {name}",
            hints=["one without a name is freed after the next build of its context"],
        )
    if descriptor is None and pull == "never":
        raise UserError(
            f"No such image: {name}", hints=["pull it: pybuild pull, or leave --pull=never away"]
        )
    if descriptor is None or pull == "always":
        resolved = await engine.images.resolve(
            ImageRequest(reference, platform), pull=pull == "always"
        )
        data = engine.store.blobs.read(resolved.digest)
        descriptor = Descriptor("", resolved.digest, len(data))
    return _parts(engine, descriptor, platform)


def held_image(engine: Engine, name: str, platform: Platform | None) -> FoundImage:
    """Return an image of the local store, which is kept as long as *engine*; nothing is pulled.

    Raises:
        UserError: it is not there.
    """
    descriptor = engine.store.images.held(name, engine.store.lease)
    if descriptor is None:
        raise UserError(f"no such image: {with_tag(name)}")
    return _parts(engine, descriptor, platform or native_platform())


def with_tag(name: str) -> str:
    """Return the name of an image as people write it, with its tag; what is none as it is."""
    try:
        return Reference.parse(name).familiar
    except ValueError:
        return name


def _parts(engine: Engine, descriptor: Descriptor, platform: Platform) -> FoundImage:
    manifest, document = resolve(
        descriptor, lambda one: engine.store.blobs.read(one.digest), platform
    )
    config = parse_config(engine.store.blobs.read(document.config.digest))
    return FoundImage(descriptor, manifest, config)
