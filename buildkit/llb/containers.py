"""A request for a container as an exec op: its mounts are those of a step, and name results by their ids."""

from __future__ import annotations

from pybuild.buildkit.llb.execs import read_exec
from pybuild.buildkit.llb.graph import Edge, Entry
from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb.gateway import NewContainerRequest
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, LocalSource, Vertex
from pybuild.model.platform import Platform

_TREES = (pb.BIND, pb.CACHE)


def read_container(
    request: NewContainerRequest, platform: Platform
) -> tuple[ExecOp, tuple[str, ...]]:
    """Return the op, whose arguments are nobody's, and the result that each of its inputs is.

    An input that is nothing has the id "". Whatever may be written to is kept apart for the container.

    Raises:
        UserError: it asks for what we do not have.
    """
    ids = list(dict.fromkeys(mount.resultID for mount in request.Mounts if mount.resultID))
    received = pb.ExecOp(network=request.Network)
    received.meta.args.append("-")
    received.meta.cwd = "/"
    received.meta.hostname = request.hostname
    received.meta.extraHosts.extend(request.extraHosts)
    root = -1
    written: set[int] = set()
    for number, mount in enumerate(request.Mounts):
        added = received.mounts.add()
        added.CopyFrom(mount)
        added.resultID = ""
        has_tree = mount.mountType in _TREES and bool(mount.resultID)
        added.input = ids.index(mount.resultID) if has_tree else -1
        if mount.dest == "/" and mount.mountType == pb.BIND:
            if not has_tree:
                raise UserError("mount / has no input")
            root = number
        elif mount.mountType == pb.BIND and not mount.readonly:
            written.add(number)
    edges = tuple(Edge(Digest(id), 0) for id in ids)
    entry = Entry(Digest(""), pb.Op(exec=received), edges, pb.OpMetadata(), ())
    op, inputs = read_exec(entry, root, frozenset(written), platform, _placeholder)
    return op, tuple(one.op.name if isinstance(one.op, LocalSource) else "" for one in inputs)


def _placeholder(edge: Edge) -> Vertex:
    return Vertex(LocalSource(name=edge.digest))
