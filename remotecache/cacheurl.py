"""``--cache URL``: one place to keep a build's cache in and to start from [CCH]."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pybuild.model.errors import UsageError
from pybuild.model.reference import is_pinned
from pybuild.remotecache.branches import NO_BRANCH, PLACE, with_branch
from pybuild.remotecache.options import CacheFrom, CacheTo, cache_from, cache_to, doubting
from pybuild.remotecache.places.azureoptions import attrs_of_url as azure_attrs_of_url
from pybuild.remotecache.places.s3options import SOURCE, attrs_of_url
from pybuild.remotecache.places.services import with_credentials

_NO_MOUNTS = ",mounts=false"


def parse_cache(
    text: str, tags: Sequence[str] = (NO_BRANCH,)
) -> tuple[CacheTo, tuple[CacheFrom, ...]]:
    """Read a directory's path, ``s3://…``, ``azblob://…``, ``gha://SCOPE`` or a registry's reference; it is used both ways.

    Every step is kept there, and cache mounts but where ``,mounts=false`` ends the text; what goes wrong with it fails no build. A reference without a tag and
    a bucket without a name have one for each branch, as ``{branch}`` has wherever it is written; the
    Actions cache has one for each by itself.

    Args:
        tags: that stand for the branch: the first is written, all are read, in this order.

    Raises:
        UsageError: none of them.
    """
    if not text or text.startswith(("type=", "ref=", "http://", "https://")):
        raise UsageError(
            f'invalid --cache "{text}": expected a reference, s3://BUCKET/PATH or a ./directory',
            hints=["--cache-to and --cache-from take type=…"] if text else [],
        )
    meant_path = ""
    mounts = "true"
    if text.endswith(_NO_MOUNTS):
        text, mounts = text.removesuffix(_NO_MOUNTS), "false"
    path = text.removeprefix("file://")
    if path != text or path.startswith(("/", "./", "../", "~")) or path in (".", ".."):
        folder = os.path.abspath(os.path.expanduser(path))
        kind, places = "local", [{"dest": folder}]
        sources: list[Mapping[str, str]] = [{"src": folder}]
    elif text.startswith("s3://"):
        attrs = attrs_of_url(text)
        kind, places = (
            "s3",
            [{**attrs, "name": name} for name in with_branch(attrs.get("name") or PLACE, tags)],
        )
        sources = [{k: v for k, v in place.items() if k in SOURCE} for place in places]
    elif text.startswith("azblob://"):
        attrs = with_credentials("azblob", azure_attrs_of_url(text), os.environ)
        names = with_branch(attrs.get("name") or PLACE, tags)
        kind, places = "azblob", [{**attrs, "name": name} for name in names]
        sources = list(places)
    elif text.startswith("gha://"):
        scope = {"scope": text.removeprefix("gha://").strip("/") or "buildkit"}
        kind, places = "gha", [with_credentials("gha", scope, os.environ)]
        sources = list(places)
    else:
        meant_path = f"./{text}" if os.path.isdir(text) else ""
        ref = text.removeprefix("registry://")
        if not is_pinned(ref):
            ref = f"{ref}:{PLACE}"
        kind, places = "registry", [{"ref": one} for one in with_branch(ref, tags)]
        sources = list(places)
    with doubting(meant_path):
        to = cache_to(kind, {**places[0], "mode": "max", "mounts": mounts, "ignore-error": "true"})
    caches = (cache_from(kind, {**source, "mounts": mounts}) for source in sources)
    return replace(to, meant=meant_path), tuple(
        replace(one, may_be_empty=True, meant=meant_path) for one in caches
    )
