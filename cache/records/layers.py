"""The records of layers and their deltas: the one place that reads and writes them."""

from __future__ import annotations

from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.cache.records.database import Records

LAYER = "layer"
_MADE_FROM = "made-from"
"""Records by diffID: the delta that a layer was written from by this builder."""
LAYER_PREFIX = "sha256-"
"""The start of the names of deltas that layers are unpacked to."""


def layer_facts(records: Records, delta: str) -> LayerFacts | None:
    """Return the facts about a layer; None where the store knows none."""
    record = records.get(LAYER, delta)
    return None if record is None else LayerFacts.from_json(record)


def all_layers(records: Records) -> Iterator[tuple[str, LayerFacts]]:
    """Give every layer that the store knows facts about, by its delta."""
    for delta, record in records.items(LAYER):
        yield delta, LayerFacts.from_json(record)


def keep_layer(records: Records, delta: str, facts: LayerFacts) -> None:
    """Write the facts about a layer."""
    records.put(LAYER, delta, facts.to_json())


def delta_of_layer(diff_id: Digest) -> str:
    """Return the name of the delta that a layer is unpacked to."""
    return LAYER_PREFIX + diff_id.hex


def delta_made_into(records: Records, diff_id: Digest) -> str | None:
    """Return the delta that a layer was written from here, there or not; None for others' layers."""
    record = records.get(_MADE_FROM, diff_id)
    delta = None if record is None else record.get("delta")
    return delta if isinstance(delta, str) else None


def keep_delta_made_into(records: Records, diff_id: Digest, delta: str) -> None:
    """Write which delta a layer was written from."""
    records.put(_MADE_FROM, diff_id, {"delta": delta})
