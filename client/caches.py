"""The caches of a build by a server, and the directories of ours that it uses for them [7.4]."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.buildkit.pb import control as pb
from pybuild.builds.request import BuildRequest
from pybuild.exporter.directories import make_output
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.events import BuildWarning, Emit

if TYPE_CHECKING:
    from pybuild.client.content import BlobDirectory
    from pybuild.remotecache.options import CacheFrom, CacheTo

_MANIFEST = "cache.manifest"


@dataclass(slots=True)
class Caches:
    """All caches of one build.

    Attributes:
        stores: directories that the server may ask for, by the ids of content stores.
        layouts: those that it writes, each with the tag that its cache gets.
    """

    options: pb.CacheOptions = field(default_factory=pb.CacheOptions)
    stores: dict[str, BlobDirectory] = field(default_factory=dict[str, "BlobDirectory"])
    layouts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def attrs(self) -> dict[str, str]:
        """The frontend's attributes: servers import the caches that it asks for."""
        if not len(self.options.Imports):
            return {}
        entries = [{"Type": one.Type, "Attrs": dict(one.Attrs)} for one in self.options.Imports]
        return {"cache-imports": json.dumps(entries, sort_keys=True)}


def plan_caches(request: BuildRequest, emit: Emit) -> Caches:
    """Find the caches to import, and make room for the exported ones.

    Raises:
        UserError: a directory to write to that is no layout.
    """
    caches = Caches()
    if not (request.cache_from or request.cache_to):
        return caches
    from pybuild.cache.content.layoutdirectory import LayoutDirectory
    from pybuild.client.content import BlobDirectory
    from pybuild.image.archive import check_layout
    from pybuild.remotecache.places.services import is_nowhere

    for service in {one.service for one in request.cache_from} | {
        one.service for one in request.cache_to
    }:
        if is_nowhere(service):
            emit(BuildWarning(message=f"{service}: no such job runs: no cache is used"))
    for source in request.cache_from:
        if is_nowhere(source.service):
            continue
        attrs = _attrs(source)
        if source.src:
            try:
                manifest = LayoutDirectory(source.src).find(source.tag, source.digest)
            except PybuildError as error:
                _warn(source, error, emit)
                continue
            attrs = {"src": source.src, "digest": str(manifest.digest)}
            caches.stores[f"local:{source.src}"] = BlobDirectory(source.src)
        caches.options.Imports.append(pb.CacheOptionsEntry(Type=source.type, Attrs=attrs))
    for target in request.cache_to:
        if is_nowhere(target.service):
            continue
        if target.dest:
            check_layout(target.dest)
            os.close(make_output(target.dest))
            caches.stores[f"local:{target.dest}"] = BlobDirectory(target.dest, writable=True)
            caches.layouts.append((target.dest, target.tag))
        entry = pb.CacheOptionsEntry(Type=target.type, Attrs=_attrs(target))
        caches.options.Exports.append(entry)
    return caches


def _attrs(place: CacheFrom | CacheTo) -> dict[str, str]:
    """The attributes of a cache for a server, which has no credentials of ours."""
    from pybuild.remotecache.places.services import with_credentials

    return with_credentials(place.type, place.attrs, os.environ)


def _warn(source: CacheFrom, error: PybuildError, emit: Emit) -> None:
    if not (source.may_be_empty and isinstance(error, UserError)):
        emit(BuildWarning(message=f"cannot import the cache from {source}: {error.message}"))


def finish_caches(caches: Caches, response: Mapping[str, str]) -> None:
    """Name the caches whose blobs have come in the indexes of their directories.

    Raises:
        EnvironmentFault: what the server says of them cannot be read.
    """
    text = response.get(_MANIFEST)
    if not text or not caches.layouts:
        return  # an empty cache is not written
    from pybuild.image.archive import name_in_layout

    try:
        made = Descriptor.from_json(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentFault(f"the server describes a cache as {text[:80]!r}") from error
    for path, tag in caches.layouts:
        if os.path.exists(os.path.join(path, "blobs", made.digest.algorithm, made.digest.hex)):
            name_in_layout(path, made, tag, opened=make_output)
