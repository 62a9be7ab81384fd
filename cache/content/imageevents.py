"""Images as events tell of them: by the ID and the labels that docker shows, not by their manifests [ENG-45]."""

from __future__ import annotations

from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.jsontext import as_list, as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_UNKNOWN = "unknown"  # the system that attestations are for


def shown_image(read: Callable[[Digest], object], id: str) -> tuple[str, Mapping[str, str]]:
    """Return the ID and the labels of the image whose manifest is *id*; any other *id* is told of as it is.

    Args:
        read: returns the JSON of a blob, None where that is not here.
    """
    try:
        manifest = _only(read, as_object(read(Digest.parse(id))))
        config_id = Digest.parse(str(as_object(manifest.get("config")).get("digest")))
        config = as_object(as_object(read(config_id)).get("config"))
    except (ValueError, PybuildError):
        return id, {}
    labels = as_object(config.get("Labels"))
    return str(config_id), {key: str(value) for key, value in labels.items()}


def _only(read: Callable[[Digest], object], manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the one image of an index that has attestations besides; else the manifest itself."""
    children = [as_object(one) for one in as_list(manifest.get("manifests"))]
    real = [one for one in children if as_object(one.get("platform")).get("os") != _UNKNOWN]
    if len(real) != 1 or len(children) == 1:
        return manifest
    return as_object(read(Digest.parse(str(real[0].get("digest")))))
