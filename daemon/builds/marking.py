"""Marks in definitions the ops that belong to one client of a store that several share.

A step's key does not tell its secrets, its agents, what its cache mounts hold, its proxies or the
addresses of its hosts. Where such a thing goes in, the owner does too, so that the result is found
by nobody else; its cache mounts are the owner's alone. A commit's key says nothing of the remote,
which alone can say whether somebody may read it; so that goes in as well.
"""

from __future__ import annotations

from dataclasses import replace

from pybuild.frontend.giturl import without_credentials
from pybuild.model.ops import ExecOp, GitSource, Mount, MountType, Op, SecurityMode, Vertex, walk

_UNKEYED = (MountType.SECRET, MountType.SSH, MountType.CACHE)


def marked(vertex: Vertex, owner: str) -> Vertex:
    """Return the definition *vertex* as it is for *owner*; the same one where nothing is special."""
    known: dict[str, Vertex] = {}
    for one in walk(vertex):
        op = _marked(one.op, owner)
        inputs = tuple(known[source.digest] for source in one.inputs)
        is_same = op is one.op and all(
            new is old for new, old in zip(inputs, one.inputs, strict=True)
        )
        known[one.digest] = one if is_same else Vertex(op, inputs, one.meta)
    return known[vertex.digest]


def _marked(op: Op, owner: str) -> Op:
    match op:
        case GitSource(origin=""):
            return replace(op, origin=without_credentials(op.remote))
        case ExecOp(owner="") if _takes_what_no_key_tells(op):
            mounts = tuple(_mount(mount, owner) for mount in op.mounts)
            return replace(op, owner=owner, mounts=mounts)
        case _:
            return op


def _takes_what_no_key_tells(op: ExecOp) -> bool:
    return (
        any(mount.type in _UNKEYED for mount in op.mounts)
        or bool(op.proxy_env or op.settings.add_hosts)
        or op.security is SecurityMode.INSECURE
    )


def _mount(mount: Mount, owner: str) -> Mount:
    if mount.type is not MountType.CACHE:
        return mount
    return replace(mount, cache_id=f"{owner}/{mount.cache_id or mount.target}")
