"""The image of a container: that of the local store, pulled first if it is not there."""

from __future__ import annotations

from pybuild.engine.host import native_platform
from pybuild.image.manifest import parse_config, resolve
from pybuild.model.border import NamedTuple
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine


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


def find_stored(
    store: Store, name: str, platform: Platform | None, pull: str = "missing"
) -> FoundImage | None:
    """Return an image of the local store, which *store* keeps until it is closed; None: it is to be pulled.

    Args:
        pull: it first, ``always``, ``never``, or where it is ``missing``.

    Raises:
        UserError: there is no such image, or not for the platform.
    """
    if pull == "always":
        return None
    descriptor = store.images.held(name, store.lease)
    if descriptor is not None:
        return _parts(store, name, descriptor, platform)
    reference = _reference(name)
    if reference.path == "library/sha256":
        raise UserError(
            f"no such image: {name}",
            hints=["one without a name is freed after the next build of its context"],
        )
    if pull == "never":
        raise UserError(
            f"No such image: {name}", hints=["pull it: pybuild pull, or leave --pull=never away"]
        )
    return None


async def find_image(
    engine: Engine, name: str, platform: Platform | None, pull: str = "missing"
) -> FoundImage:
    """As `find_stored`; what is to be pulled is.

    Raises:
        UserError: there is no such image.
    """
    image = find_stored(engine.store, name, platform, pull)
    if image is not None:
        return image
    from pybuild.frontend.lowering.interface import ImageRequest

    request = ImageRequest(_reference(name), platform or native_platform())
    resolved = await engine.images.resolve(request, pull=pull == "always")
    size = len(engine.store.blobs.read(resolved.digest))
    return _parts(engine.store, name, Descriptor("", resolved.digest, size), platform)


def held_image(store: Store, name: str, platform: Platform | None) -> FoundImage:
    """Return an image of the local store, which *store* keeps until it is closed; nothing is pulled.

    Raises:
        UserError: it is not there, or not for the platform.
    """
    descriptor = store.images.held(name, store.lease)
    if descriptor is None:
        raise UserError(f"no such image: {with_tag(name)}")
    return _parts(store, name, descriptor, platform)


def with_tag(name: str) -> str:
    """Return the name of an image as people write it, with its tag; what is none as it is."""
    try:
        return Reference.parse(name).familiar
    except ValueError:
        return name


def _reference(name: str) -> Reference:
    try:
        return Reference.parse(name)
    except ValueError as error:
        raise UserError(f'no such image: "{name}": {error}') from error


def _parts(
    store: Store, name: str, descriptor: Descriptor, platform: Platform | None
) -> FoundImage:
    manifest, document = resolve(
        descriptor, lambda one: store.blobs.read(one.digest), platform or native_platform()
    )
    config = parse_config(store.blobs.read(document.config.digest))
    if platform is not None and not _is_for(config, platform):
        raise UserError(
            f"image with reference {name} was found but does not provide the specified platform "
            f"({platform})",
            hints=[f"pybuild pull --platform {platform} {name}, where its registry has it"],
        )
    return FoundImage(descriptor, manifest, config)


def _is_for(config: Mapping[str, Any], platform: Platform) -> bool:
    """Return whether an image is for a platform; one that says nothing of a variant is for all."""
    own = Platform.from_json(config)
    same = (own.os, own.arch) == (platform.os, platform.arch)
    return not config.get("architecture") or (
        same and (own.variant == platform.variant or not config.get("variant"))
    )
