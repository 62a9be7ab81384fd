"""Layers of other stores for ours: `engine.baseimages.Peers` over channels to those who have them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pybuild.cache.store import Store
from pybuild.cluster import wire
from pybuild.cluster.messages import BLOB, LAYER, LayerAnswer, LayerBytesQuery, LayerQuery, read
from pybuild.engine.progress import InternalStep
from pybuild.executor.fetch import LayerGone
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import RpcError


@dataclass(frozen=True, slots=True)
class DeltaPlace:
    """A store that may have a delta.

    Attributes:
        name: for people.
        connect: returns a channel to it, opened when first needed; raises OSError or RpcError.
        delta: its own name of the delta.
        blame: called with a reason when it gave wrong bytes.
    """

    name: str
    connect: Callable[[], Awaitable[Channel]]
    delta: str
    blame: Callable[[str], None] | None = None


class Borrowing:
    """Brings layers into *store*.

    Args:
        places: returns those that may have a delta, the best first.
    """

    def __init__(self, store: Store, places: Callable[[str], Sequence[DeltaPlace]]) -> None:
        self._store = store
        self._places = places
        self._made: dict[tuple[str, Digest], DeltaPlace] = {}

    def have(self, delta: str) -> bool:
        """Return whether there is a store that may have the delta."""
        return bool(self._places(delta))

    async def make(
        self, delta: str, compression: str, level: int | None
    ) -> tuple[Digest, Descriptor]:
        """Have a store make a layer; return its diffID and its blob.

        Raises:
            LayerGone: none of them has the delta.
        """
        reasons: list[str] = []
        for place in self._places(delta):
            query = LayerQuery(delta=place.delta, compression=compression, level=level)
            try:
                channel = await place.connect()
                answer = read(LayerAnswer, await channel.unary(LAYER, wire.write(query)))
            except (RpcError, OSError) as error:
                reasons.append(f"{place.name}: {error}")
                continue
            layer = Descriptor(answer.media_type, answer.digest, answer.size)
            self._made[delta, layer.digest] = place
            return answer.diff_id, layer
        raise LayerGone(delta, "; ".join(reasons) or f"no store that can be reached has {delta}")

    async def bring(self, delta: str, layer: Descriptor, step: InternalStep) -> None:
        """Copy the blob of a layer into our store, compared with its digest.

        Raises:
            LayerGone: none of the stores gives these bytes.
            EnvironmentFault: they cannot be written here.
        """
        made = self._made.get((delta, layer.digest))
        places = [] if made is None else [made]
        places += [place for place in self._places(delta) if place != made]
        reasons: list[str] = []
        for place in places:
            try:
                await self._copy(place, layer, step)
            except (RpcError, OSError) as error:
                reasons.append(f"{place.name}: {error}")
            except EnvironmentFault as error:
                if isinstance(error.__cause__, OSError):
                    raise  # our own disk
                reasons.append(f"{place.name}: {error}")
                if place.blame is not None:
                    place.blame(f"it sent wrong bytes: {error.message}")
            else:
                return
        raise LayerGone(delta, "; ".join(reasons) or f"no store that can be reached has {delta}")

    async def _copy(self, place: DeltaPlace, layer: Descriptor, step: InternalStep) -> None:
        channel = await place.connect()
        query = LayerBytesQuery(delta=place.delta, digest=layer.digest)
        done = 0
        async with channel.stream(BLOB) as call:
            await call.send(wire.write(query))
            await call.half_close()
            with self._store.blobs.writer(layer.digest, layer.size) as writer:
                while (piece := await call.receive()) is not None:
                    await asyncio.to_thread(writer.write, piece)
                    done += len(piece)
                    step.transfer(f"from {place.name}", done, layer.size)
                await asyncio.to_thread(writer.commit)
