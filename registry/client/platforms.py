"""The choice of the manifest in an index that serves a platform [IMG-19, IMG-20]; pure."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.descriptor import Descriptor
from pybuild.model.platform import Platform


def candidates(entries: Sequence[Descriptor], platform: Platform) -> list[Descriptor]:
    """The entries that may run on *platform*, best first, then those that say no platform.

    Attestations (``unknown/unknown``) are no images. Equal ranks keep the index's order.
    """
    ranked: list[tuple[int, int, Descriptor]] = []
    silent: list[Descriptor] = []
    for position, entry in enumerate(entries):
        if entry.platform is None or not entry.platform.os:
            silent.append(entry)
        elif entry.platform.os != "unknown":
            rank = platform.rank(entry.platform)
            if rank is not None:
                ranked.append((rank, position, entry))
    return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])] + silent
