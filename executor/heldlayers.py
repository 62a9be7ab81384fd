"""The layers of images whose files are in the store: found and leased, nothing is unpacked.

Some layers lie on disk under the name of the whole chain; see `pybuild.executor.layers`, which makes
what is not here. Who has a container made of an image that was used before needs no more than this.
"""

from __future__ import annotations

from pybuild.cache.records.layers import (
    LAYER_PREFIX,
    delta_made_into,
    delta_of_layer,
    keep_layer,
    layer_facts,
)
from pybuild.image.manifest import Manifest, parse_config, parse_manifest
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.cache.content.leases import Lease
    from pybuild.cache.store import Store

    Names = tuple[str, ...]
    Paths = list[str]
    Things = list[tuple[str, str]]


class HeldLayers:
    """The layers of a store's images, leased by *lease*.

    Attributes:
        whole: directories that were found, by the names that were looked for. What was leased and found
            is there for as long as the lease: a chain of steps asks for the same deltas again and again.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self.whole: dict[Names, Paths] = {}

    def of_image(self, manifest: Digest) -> Snapshot:
        """Return the snapshot that an image's manifest stands for; nothing is unpacked.

        Raises:
            EnvironmentFault: the manifest or config is not in the store, or they disagree.
        """
        blobs = self._store.blobs
        self._lease.add("blob", manifest)
        document = parse_manifest(blobs.read(manifest))
        if not isinstance(document, Manifest):
            raise EnvironmentFault(f"{manifest} is an index where a manifest belongs")
        self._lease.add("blob", document.config.digest)
        config = parse_config(blobs.read(document.config.digest))
        diff_ids = [Digest.parse(text) for text in config.get("rootfs", {}).get("diff_ids", [])]
        if len(diff_ids) != len(document.layers):
            raise EnvironmentFault(
                f"image {manifest}: manifest has {len(document.layers)} layers, "
                f"config has {len(diff_ids)} diff ids"
            )
        deltas = tuple(self._delta_of(diff_id) for diff_id in diff_ids)
        parents: Paths = []
        for delta, layer, diff_id in zip(deltas, document.layers, diff_ids, strict=True):
            if layer_facts(self._store.records, delta) is None:
                facts = LayerFacts(diff_id=diff_id, descriptor=layer, parents=tuple(parents))
                keep_layer(self._store.records, delta, facts)
            parents.append(delta)
        self._lease.add_all([("delta", delta) for delta in deltas])
        return Snapshot(deltas)

    def _delta_of(self, diff_id: Digest) -> str:
        """The delta a layer was made from here, if that is still there; else the layer's own."""
        own = delta_made_into(self._store.records, diff_id)
        if own is not None:
            self._lease.add("delta", own)
            if self._store.deltas.has(own):
                return own
        return delta_of_layer(diff_id)

    def ensure(self, candidates: Sequence[Names]) -> Paths | None:
        """Return the directories that `candidates_of` some deltas are, base first; None: one is not here.

        Those that are here are leased, too.
        """
        new = self._new(candidates)
        if new:
            self._lease.add_all(new)
            for names in candidates:
                if names not in self.whole and (directories := self.look_for(names)) is not None:
                    self.whole[names] = directories
        if not all(names in self.whole for names in candidates):
            return None
        return [path for names in candidates for path in self.whole[names]]

    def is_leased(self, candidates: Sequence[Names]) -> bool:
        """Return whether `ensure` need wait for nobody."""
        return self._lease.holds(self._new(candidates))

    def _new(self, candidates: Sequence[Names]) -> Things:
        return [
            ("delta", name) for names in candidates if names not in self.whole for name in names
        ]

    def look_for(self, names: Names) -> Paths | None:
        """Return the directories of a leased delta that lies under one of *names*; None: there is none."""
        for name in names:
            if self._store.deltas.has(name):
                return self._store.deltas.directories(name)
        return None


def candidates_of(deltas: Sequence[str]) -> list[Names]:
    """Return, per delta, the names that it may have on disk, the likelier first.

    A layer in a run of layers from the base on may lie under its chainID [OCI image-spec, config].
    """
    chains: list[Names] = []
    chain: Digest | None = None
    broken = False
    for delta in deltas:
        broken = broken or not delta.startswith(LAYER_PREFIX)
        if broken:
            # Above a step's delta a layer cannot know what it lay on in its own image.
            chains.append((delta,))
            continue
        diff_id = "sha256:" + delta.removeprefix(LAYER_PREFIX)
        chain = Digest(diff_id) if chain is None else Digest.of(f"{chain} {diff_id}".encode())
        chains.append((delta, "chain-" + chain.hex))
    return chains
