"""The caches of a build, from the options about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pybuild.remotecache.options import CacheFrom, CacheTo


class BuildCaches(TypedDict, total=False):
    """The caches of a `BuildRequest`."""

    cache_to: tuple[CacheTo, ...]
    cache_from: tuple[CacheFrom, ...]


def caches_of(
    context: str, urls: Sequence[str], *, to: Sequence[str], sources: Sequence[str]
) -> BuildCaches:
    """Read the targets and sources of the cache; those that *urls* name, as ``--cache``, come last [CCH]."""
    if not (urls or to or sources):
        return {}
    from pybuild.remotecache.branches import cache_tags
    from pybuild.remotecache.cacheurl import parse_cache
    from pybuild.remotecache.options import parse_cache_from, parse_cache_to

    tags = cache_tags(context if os.path.isdir(context) else ".", os.environ)
    both = [parse_cache(text, tags) for text in urls]
    targets, origins = map(parse_cache_to, to), map(parse_cache_from, sources)
    return {
        "cache_to": (*targets, *(one for one, _ in both)),
        "cache_from": (*origins, *(one for _, several in both for one in several)),
    }
