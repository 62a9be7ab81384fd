"""The platforms of an image: one chosen by a client, and the list of all [EP-10, EP-12, EP-13]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybuild.cache.content.imagelist import unpacked_bytes
from pybuild.cache.store import Store
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.engine.host import native_platform
from pybuild.image.attestation import MANIFEST_KIND, REFERENCE_DIGEST, REFERENCE_TYPE
from pybuild.image.manifest import Manifest, parse_config, parse_index, parse_manifest, resolve
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.errors import BlobMissing, EnvironmentFault
from pybuild.model.platform import Platform


def platform_of_json(text: str) -> Platform | None:
    """Return the platform that a parameter names as a JSON object; None for no text.

    Raises:
        ApiRefusal: it is none.
    """
    if not text:
        return None
    fields = read_object(text.encode())
    if not fields.text("os") or not fields.text("architecture"):
        raise ApiRefusal(400, "invalid platform: os and architecture must be given")
    return Platform.make(
        fields.text("os"),
        fields.text("architecture"),
        fields.text("variant"),
        fields.text("os.version"),
    )


def image_for(store: Store, image: Descriptor, platform: Platform | None, name: str) -> Descriptor:
    """Return the manifest of an image for a platform; for this machine's where none is given and there is one.

    Raises:
        ApiRefusal: it has none for the one that was given.
    """
    try:
        chosen, document = resolve(
            image, lambda one: store.blobs.read(one.digest), platform or native_platform()
        )
        if platform is None or image.digest != chosen.digest:
            return chosen
        own = Platform.from_json(parse_config(store.blobs.read(document.config.digest)))
        if platform.rank(own) is not None:
            return chosen
    except (EnvironmentFault, BlobMissing):
        if platform is None:
            return image
    raise ApiRefusal(
        404,
        f"image with reference {name} was found but does not provide the specified platform "
        f"({platform})",
    )


def manifest_entries(store: Store, image: Descriptor) -> list[dict[str, Any]]:
    """Return docker's entries for the manifests of an image, those that are not here too."""
    children = [image]
    if image.media_type not in MANIFEST_TYPES and store.blobs.has(image.digest):
        children = list(parse_index(store.blobs.read(image.digest)).manifests)
    return [_entry(store, one) for one in children]


def _entry(store: Store, one: Descriptor) -> dict[str, Any]:
    annotations = one.annotations or {}
    is_attestation = annotations.get(REFERENCE_TYPE) == MANIFEST_KIND
    document = _document(store, one)
    layers = document.layers if document is not None else ()
    content = one.size + sum(layer.size for layer in layers)
    unpacked = unpacked_bytes(store, layers) or 0 if layers and not is_attestation else 0
    entry: dict[str, Any] = {
        "ID": str(one.digest),
        "Descriptor": one.to_json(),
        "Available": document is not None,
        "Size": {"Content": content, "Total": content + unpacked},
        "Kind": "attestation" if is_attestation else "image",
    }
    if is_attestation:
        return {**entry, "AttestationData": {"For": annotations.get(REFERENCE_DIGEST, "")}}
    shown = one.platform.to_json() if one.platform else _own_platform(store, document)
    return {
        **entry,
        "ImageData": {"Platform": shown, "Containers": [], "Size": {"Unpacked": unpacked}},
    }


def _document(store: Store, one: Descriptor) -> Manifest | None:
    """Return a manifest whose blob and layers are here, else None."""
    if one.media_type not in MANIFEST_TYPES or not store.blobs.has(one.digest):
        return None
    known = parse_manifest(store.blobs.read(one.digest), one.media_type)
    return known if isinstance(known, Manifest) else None


def _own_platform(store: Store, document: Manifest | None) -> Mapping[str, Any]:
    if document is None or not store.blobs.has(document.config.digest):
        return native_platform().to_json()
    return Platform.from_json(parse_config(store.blobs.read(document.config.digest))).to_json()
