"""Layers of one store for others: made when first asked for, and sent as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pybuild.cache.records.layers import layer_facts
from pybuild.cluster.messages import (
    BLOB,
    LAYER,
    LayerAnswer,
    LayerBytesQuery,
    LayerQuery,
    answering,
    read,
)
from pybuild.engine.baseimages import PEERS_COMPRESSION
from pybuild.engine.engine import Engine
from pybuild.executor.fetch import LayerGone
from pybuild.exporter.layermaker import LayerMaker
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, PybuildError
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError

_PIECE = 1 << 20
_COMPRESSIONS = frozenset(("uncompressed", "gzip", "zstd"))

Known = Callable[[IncomingCall, str], str | None]
"""Returns the store's name of a delta that the caller may have; None: it may not, or there is none."""


class Lending:
    """The two calls by which others get at an engine's layers."""

    def __init__(self, engine: Engine, known: Known) -> None:
        self._engine = engine
        self._known = known
        self._makers: dict[tuple[str, int | None], LayerMaker] = {}
        self._making: dict[tuple[str, str], asyncio.Lock] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return the calls by method."""
        return {LAYER: answering(LayerQuery, self._layer), BLOB: self._blob}

    async def _layer(self, query: LayerQuery, call: IncomingCall) -> LayerAnswer:
        delta = self._delta(query.delta, call)
        if query.compression not in _COMPRESSIONS:
            raise RpcError(Code.INVALID_ARGUMENT, f"no compression {query.compression!r}")
        facts = await asyncio.to_thread(layer_facts, self._engine.store.records, delta)
        if facts is not None and facts.is_lent and facts.diff_id and facts.descriptor:
            blob = facts.descriptor  # as it was borrowed
            is_same = (query.compression, query.level) == PEERS_COMPRESSION
            if is_same and self._engine.store.blobs.holds(blob):
                return _answer(facts.diff_id, blob)
        kind = (query.compression, query.level)
        maker = self._makers.get(kind)
        if maker is None:
            maker = self._makers[kind] = LayerMaker(self._engine, *kind)
        lock = self._making.setdefault((delta, maker.kind), asyncio.Lock())
        try:
            async with lock:  # for two who ask at once it is made once
                diff_id, blob = await maker.make(delta)
        except LayerGone as error:
            raise RpcError(Code.NOT_FOUND, error.message) from error
        except (PybuildError, BlobMissing) as error:
            raise RpcError(Code.UNKNOWN, str(error)) from error
        return _answer(diff_id, blob)

    async def _blob(self, call: IncomingCall) -> None:
        query = read(LayerBytesQuery, await call.receive() or b"")
        delta = self._delta(query.delta, call)
        store = self._engine.store
        facts = await asyncio.to_thread(layer_facts, store.records, delta)
        blobs = [] if facts is None else [one.descriptor for one in facts.blobs.values()]
        if facts is not None and facts.descriptor is not None:
            blobs.append(facts.descriptor)
        if query.digest not in {blob.digest for blob in blobs}:
            raise RpcError(Code.NOT_FOUND, f"{query.digest} is no layer of {query.delta}")
        await asyncio.to_thread(store.lease.add, "blob", query.digest)
        try:
            file = open(store.blobs.path(query.digest), "rb", buffering=0)  # noqa: SIM115 ASYNC230
        except FileNotFoundError:
            raise RpcError(Code.NOT_FOUND, f"{query.digest} is gone") from None
        with file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                await call.send(piece)

    def _delta(self, name: str, call: IncomingCall) -> str:
        delta = self._known(call, name)
        if delta is None:
            raise RpcError(Code.NOT_FOUND, f"there is no {name!r} here")
        return delta


def _answer(diff_id: Digest, blob: Descriptor) -> LayerAnswer:
    return LayerAnswer(
        diff_id=diff_id, media_type=blob.media_type, digest=blob.digest, size=blob.size
    )
