"""Package URLs of images, as attestations name them [ATT-5]."""

from __future__ import annotations

from urllib.parse import quote

from pybuild.model.platform import Platform
from pybuild.model.reference import DOCKER_HUB, Reference

DOCKER, OCI = "docker", "oci"
_LIBRARY = "library/"


def package_url(
    reference: Reference, platform: Platform | None = None, kind: str = DOCKER, **more: str
) -> str:
    """Return ``pkg:docker/name@tag?platform=…`` for an image.

    Args:
        kind: ``docker`` for a registry's, ``oci`` for one in a layout.
        more: further qualifiers.
    """
    path = reference.path
    if reference.host == DOCKER_HUB:
        path = path.removeprefix(_LIBRARY)
    else:
        path = f"{reference.host}/{path}"
    url = f"pkg:{kind}/{quote(path, safe='/')}"
    if reference.tag:
        url += "@" + quote(reference.tag, safe="")
    qualifiers = dict(more)
    if reference.digest is not None:
        qualifiers["digest"] = str(reference.digest)
    if platform is not None:
        qualifiers["platform"] = str(platform)
    if qualifiers:
        # In the order of their names, which makes one spelling of each URL.
        pairs = (f"{name}={quote(value, safe=':')}" for name, value in sorted(qualifiers.items()))
        url += "?" + "&".join(pairs)
    return url
