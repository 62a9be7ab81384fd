"""What the executor needs from whoever can reach registries."""

from __future__ import annotations

from typing import Protocol

from pybuild.model.events import Emit


class Fetcher(Protocol):
    """Brings the blobs of pulled layers."""

    async def fetch(self, delta: str, emit: Emit) -> None:
        """Bring the compressed blob of the pulled layer *delta* into the store.

        What the layer is stands in the store's records: kind "layer", key *delta*, value
        ``{"diff_id", "descriptor", "reference", "parents"}``, written when its image was resolved.

        Raises:
            EnvironmentFault: nobody has it.
        """
        ...
