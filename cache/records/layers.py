"""The records of layers, by their deltas: the one place that reads and writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.model.layerfacts import LayerFacts

if TYPE_CHECKING:
    from pybuild.cache.records.database import Records

LAYER = "layer"


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
