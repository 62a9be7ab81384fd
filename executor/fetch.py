"""The protocol by which the executor reaches registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pybuild.model.errors import DeltaGone
from pybuild.model.events import Emit

if TYPE_CHECKING:
    from pybuild.cache.content.blobwriter import Follower
    from pybuild.model.layerfacts import LayerFacts


class LayerGone(DeltaGone):
    """A layer that a stored result names can be had no more: the step that made it has to run."""

    def __init__(self, delta: str, message: str, *, everywhere: bool = False) -> None:
        super().__init__(
            delta,
            message,
            hints=("build again with --no-cache: a record points at something that is gone",),
            everywhere=everywhere,
        )


class Fetcher(Protocol):
    """Brings the blobs of pulled layers."""

    async def fetch(
        self,
        delta: str,
        emit: Emit,
        *,
        follower: Follower | None = None,
        is_compared: bool = False,
    ) -> None:
        """Bring the compressed blob of the pulled layer *delta* into the store.

        Args:
            follower: told of the blob while it comes, where it comes piece by piece.
            is_compared: the caller compares what it holds with its diffID.

        What the layer is stands in the store's records (`cache.records.layers`), written when its
        image was resolved.

        Raises:
            EnvironmentFault: nobody has it; `LayerGone` for a layer that the step can make again.
        """
        ...

    async def described(self, delta: str) -> LayerFacts:
        """Return the facts of a delta of another store, which makes a layer of it by then.

        Raises:
            LayerGone: no store has it that can be reached.
        """
        ...
