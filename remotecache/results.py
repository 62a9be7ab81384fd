"""The results of a build that its cache is made of, by the keys of its steps [CCH-10]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.cache.records.imported import is_link
from pybuild.cache.records.layers import layer_facts
from pybuild.cache.records.results import Results
from pybuild.image.cacheformat.config import CacheContents, CachedResult, write_inline
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import LocalSource, ScratchSource, Vertex, walk
from pybuild.solver.solution import Known

if TYPE_CHECKING:
    from pybuild.cache.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The stored result of a key; without deltas a link (`image.cacheformat.config`)."""

    key: Digest
    deltas: tuple[str, ...] = ()
    aliases: tuple[Digest, ...] = ()
    created: float = 0.0
    seconds: float = 0.0
    name: str = ""
    packed_inputs: str = ""

    def cached(self, layers: Sequence[Digest]) -> CachedResult:
        """Return it as others read it: its deltas as layers with these diffIDs."""
        return CachedResult(
            key=self.key,
            layers=tuple(layers),
            aliases=self.aliases,
            created=self.created,
            seconds=self.seconds,
            name=self.name,
            packed_inputs=self.packed_inputs,
        )


def step_results(
    results: Results,
    solutions: Sequence[Known],
    targets: Sequence[Vertex],
    known: Mapping[Digest, StepResult] | None = None,
) -> list[StepResult]:
    """Return the stored results of *targets* and all below, inputs first. Touches the disk.

    Args:
        known: earlier findings, by key; they are not looked up again.

    Steps without a key, and those whose results are not here and cannot be named otherwise, have
    no part in a cache; nor have local directories [CCH-14].
    """
    collected: list[StepResult] = []
    seen: set[Digest] = set()
    for vertex in walk(*targets):
        if isinstance(vertex.op, LocalSource | ScratchSource):
            continue
        for solution in solutions:
            key = solution.key(vertex)
            if key is None or key in seen:
                continue
            if known is not None and key in known:
                seen.add(key)
                collected.append(known[key])
                continue
            alias = solution.alias(vertex)
            record = results.load(key)
            deltas: tuple[str, ...] = ()
            if record is not None and not is_link(record.snapshot.deltas):
                deltas = record.snapshot.deltas
            if record is None and alias is None:
                continue
            seen.add(key)
            collected.append(
                StepResult(
                    key=key,
                    deltas=deltas,
                    aliases=() if alias is None else (alias,),
                    created=record.created if record else 0.0,
                    seconds=record.seconds if record else 0.0,
                    name=record.name if record else vertex.meta.name,
                    packed_inputs=results.packed_inputs(key),
                )
            )
    return collected


def within(results: Sequence[StepResult], stacks: Sequence[Sequence[str]]) -> list[StepResult]:
    """Return the results for ``mode=min``: those that are made of one of *stacks*, and links."""
    kept: list[StepResult] = []
    for result in results:
        if any(set(result.deltas) <= set(stack) for stack in stacks):
            kept.append(result)
        elif result.aliases:
            kept.append(replace(result, deltas=(), created=0.0, seconds=0.0))
    return [result for result in kept if result.deltas or result.aliases]


def is_origins(store: Store, delta: str) -> str:
    """Return the image that has this layer, where every builder finds it; empty for our own."""
    facts = layer_facts(store.records, delta)
    if facts is None or (facts.cache and not facts.is_origins):
        return ""
    return facts.reference


def inline_text(results: Sequence[StepResult], diff_ids: Mapping[str, Digest]) -> str:
    """Return the cache in text that an image with these layers, by delta, carries; may be empty."""
    kept = within(results, [list(diff_ids)])
    if not any(one.deltas for one in kept):
        return ""
    cached = [one.cached([diff_ids[delta] for delta in one.deltas]) for one in kept]
    return write_inline(CacheContents({}, tuple(cached)), list(diff_ids.values()))
