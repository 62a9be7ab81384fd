"""The content that a step leaves in mounts other than its root, where that is a result.

Only definitions that come from elsewhere keep such mounts. A vertex has one result, so a step with
several is there several times, once for each of them; it runs once, and the runner's `SharedStep`
has the rest ready.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from pybuild.cache.content.deltas import ActiveDelta, Deltas
from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.steps.spec import StepExit
from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.encoding import encode_op
from pybuild.model.ops import ExecOp, Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Snapshot


@dataclass(slots=True)
class SharedStep:
    """A step that several vertices are: who holds *lock* first runs it, for all of them."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    results: dict[int, Snapshot] = field(default_factory=dict[int, Snapshot])
    contents: Contents = field(default_factory=dict[int, Mapping[Selection, ContentDigest]])


def result_mount(op: ExecOp) -> int:
    """Return the mount whose content is the vertex's result; the root's where none is marked."""
    numbers = [number for number, mount in enumerate(op.mounts) if mount.output]
    roots = [number for number, mount in enumerate(op.mounts) if mount.target == "/"]
    return (numbers or roots or [-1])[0]


def kept_mounts(op: ExecOp) -> frozenset[int]:
    """Return the mounts whose contents are kept, for this vertex or another of the same step."""
    shared = {number for number, mount in enumerate(op.mounts) if mount.shared_output}
    return frozenset(shared | {result_mount(op)})


def step_key(vertex: Vertex) -> Digest:
    """Return the common key of vertices that are one step with different results."""
    assert isinstance(vertex.op, ExecOp)
    mounts = tuple(replace(mount, output=False) for mount in vertex.op.mounts)
    encoded = encode_op(replace(vertex.op, mounts=mounts))
    return Digest.of_json({"step": encoded, "inputs": [v.digest for v in vertex.inputs]})


async def begin_delta(deltas: Deltas) -> ActiveDelta:
    """Make an empty delta. Three empty directories take less than the turn of a thread, for which
    each step would wait; below a ceiling making them may have to wait for space."""
    return await asyncio.to_thread(deltas.begin) if deltas.budget else deltas.begin()


class Outputs:
    """The deltas that one running step writes to, by the number of the mount."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._active: dict[int, tuple[ActiveDelta, Snapshot]] = {}

    async def begin(self, number: int, base: Snapshot) -> ActiveDelta:
        """Make an empty delta for a mount whose tree is *base* at first."""
        active = await begin_delta(self._store.deltas)
        self._active[number] = (active, base)
        return active

    async def commit(
        self, kept: frozenset[int], ended: StepExit, more: Mapping[str, Any] | None = None
    ) -> dict[int, Snapshot]:
        """Return the trees of the mounts in *kept*, leased; the rest is discarded.

        What the step took is kept with them [SBX-13], and *more* facts about it.
        """
        took = {
            **(more or {}),
            "seconds": round(ended.seconds, 6),
            "max_rss_bytes": ended.max_rss_bytes,
            "peak_memory_bytes": ended.peak_memory_bytes,
        }
        snapshots: dict[int, Snapshot] = {}
        for number in sorted(kept & set(self._active)):
            active, base = self._active.pop(number)
            deltas, id = self._store.deltas, os.urandom(16).hex()
            # So do two renames and a lease, unless somebody who frees makes that wait.
            if deltas.is_quick and self._lease.try_add("delta", id):
                delta = deltas.commit(active, id, took, self._lease)
            else:
                delta = await asyncio.to_thread(deltas.commit, active, id, took, self._lease)
            snapshots[number] = Snapshot((*base.deltas, delta))
        self.abort()
        return snapshots

    async def commit_all(self, ended: StepExit) -> dict[int, Snapshot]:
        """Return the trees of all mounts that can be written to, of a step that failed."""
        return await self.commit(frozenset(self._active), ended)

    def abort(self) -> None:
        """Discard what is not committed; idempotent."""
        while self._active:
            _, (active, _base) = self._active.popitem()
            self._store.deltas.abort(active)
