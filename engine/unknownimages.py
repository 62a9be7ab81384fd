"""Words for an image that cannot be had: the cause, and under it the way out.

Asked when a look-up has failed, never before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.reference import Reference
from pybuild.model.suggest import nearest

_MOST = 8
_DEFAULT_HOST = "docker.io"
_UNREACHED = ("no such host", "connection refused", "network is unreachable", "no answer")
_BROKEN = (": 500", ": 502", ": 503", ": 504")


async def worded(
    error: PybuildError,
    reference: Reference,
    stored: Callable[[], Iterable[str]],
    tags: Callable[[], Awaitable[list[str]]],
    file: str,
) -> PybuildError:
    """Return *error* with its cause first.

    Args:
        stored: gives the names of the images in the store.
        tags: asks the registry for the tags of the repository.
        file: where settings of registries are written.
    """
    reason = error.message.partition(f"{reference}: ")[2] or error.message
    peer = error.peer or error.message
    name, host = reference.familiar, reference.host
    mirrors = f'mirrors = ["HOST"] under [registry."{host}"] in {file}'
    if isinstance(error, UserError) and reason.endswith(f"{reference}: not found"):
        hint = await _others(reference, stored, tags)
        message = f"neither the store nor {host} has an image {name}"
        return error.copy_with(message=message, hints=(*error.hints, hint)[:2], peer=peer)
    if not isinstance(error, EnvironmentFault):
        return error
    if any(word in reason for word in _UNREACHED):
        message = f"{name} is not in the store, and {host} is out of reach: {reason}"
        hint = _unreached(reference, reason, sorted(stored()), mirrors)
        return error.copy_with(message=message, hints=(*error.hints, hint)[:2], peer=peer)
    if any(status in reason for status in _BROKEN):
        hint = f"{host} is broken: try later, or set {mirrors}"
        return error.copy_with(hints=(*error.hints, hint)[:2])
    return error


def _unreached(reference: Reference, reason: str, names: Sequence[str], mirrors: str) -> str:
    """Return a hint about a registry out of reach; *names* are those of the images in the store."""
    same = [name for name in names if name.lower() == str(reference).lower()]
    near = same[0] if same else nearest(str(reference), names)
    if near is not None:
        return f"did you mean {Reference.parse(near).familiar}, which the store has?"
    host = reference.host
    if host != _DEFAULT_HOST and "connection refused" in reason:
        return f"start the registry at {host}, or correct its address; pybuild images lists what is here"
    if host != _DEFAULT_HOST and "no such host" in reason:
        return f"see whether {host} is spelt so, and whether this machine has a network"
    return (
        "without a network: pybuild load an archive of it, pybuild import a root file system,"
        f" --build-context NAME=oci-layout://DIR, or {mirrors}"
    )


async def _others(
    reference: Reference,
    stored: Callable[[], Iterable[str]],
    tags: Callable[[], Awaitable[list[str]]],
) -> str:
    """Return a hint about images that there are."""
    names = sorted(stored())
    parts = [name.rpartition(":") for name in names]
    here = [tag for repository, _, tag in parts if repository == reference.repository]
    try:
        there = await tags()
    except PybuildError:
        there = []
    where = " and ".join(
        f"{place} has {', '.join(named[-_MOST:])}"
        for place, named in (("the store", here), (reference.host, there))
        if named
    )
    if where:
        return f"of its tags {where}"
    near = nearest(str(reference), names)
    if near is not None:
        return f"did you mean {near}?"
    return "see pybuild images for names here, pybuild search and pybuild tags for names there"
