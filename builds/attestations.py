"""The attestations of a build's result, before it goes out [7.2, 7.6]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import load_offered, sbom_of
from pybuild.daemon.frontend.results import Result
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.exporter.attest.sbom import CORE, scan
from pybuild.exporter.attest.write import provenance, provenance_document
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.frontend.lowering.policies import ruled_image
from pybuild.image.attestation import SPDX
from pybuild.model.errors import PybuildError
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.platform import Platform

if TYPE_CHECKING:
    from pybuild.daemon.builds.outputs import Deliverable
    from pybuild.builds.provenance import Ledger
    from pybuild.daemon.builds.scope import Scope
    from pybuild.exporter.attest.options import Sbom


async def scan_reference(
    scope: Scope,
    sbom: Sbom,
    platform: str,
    core: Vertex,
    extras: Mapping[str, Vertex],
    *,
    pull: bool = False,
    ignore_cache: bool = False,
) -> LazyTree:
    """Return the tree that a scanner makes of a result; nothing has run yet.

    Raises:
        UserError: there is no such scanner.
    """
    if scope.policies:
        ruled = await scope.decided(partial(ruled_image, scope.policies, sbom.generator))
        sbom = replace(sbom, generator=ruled)
    request = ImageRequest(sbom.generator, native_platform())
    title = f"[internal] load metadata for {sbom.generator}"
    async with internal_step(title, scope.emit, scope.engine.clock):
        image = await scope.engine.images.resolve(request, pull=pull)
    vertex = scan(sbom, image, name=platform, core=core, extras=extras, ignore_cache=ignore_cache)
    return LazyTree(vertex, scope.snapshot)


async def attested(
    scope: Scope,
    ledger: Ledger,
    result: Result,
    trees: Sequence[Deliverable],
    attest_options: AttestOptions,
    machine: Mapping[str, Any],
    *,
    ignore_cache: bool = False,
) -> list[Deliverable]:
    """Return *trees* with their attestations.

    Raises:
        PybuildError: a scan failed, or something cannot be said.
    """
    if attest_options.sbom is not None and not _has_sbom(result):
        result = await _scanned(scope, result, trees, attest_options.sbom, ignore_cache)
    found: list[Deliverable] = []
    for tree in trees:
        attestations: list[Attestation] = []
        for offered in result.attestations.get(_platform_id(result, tree), ()):
            attestations += await load_offered(scope, offered)
        options = attest_options.provenance
        if options is not None and _is_tree(tree.reference):
            facts = await ledger.facts(
                scope, tree.reference, result, tree.key, full=options.full, machine=machine
            )
            deltas = tree.snapshot.deltas
            vertex = tree.reference.vertex
            attestations.append(
                provenance(scope.engine, options, facts, vertex, deltas, scope.known)
            )
        found.append(replace(tree, attestations=tuple(attestations)))
    return found


async def history_provenance(
    scope: Scope,
    ledger: Ledger,
    result: Result,
    trees: Sequence[Deliverable],
    attest_options: AttestOptions,
    machine: Mapping[str, Any],
) -> dict[str, bytes]:
    """Return the provenance that the history keeps of each tree, by its id in the result [7.6]."""
    builder = attest_options.provenance.builder_id if attest_options.provenance else ""
    options = Provenance(builder_id=builder)
    documents: dict[str, bytes] = {}
    for tree in trees:
        if not _is_tree(tree.reference):
            continue
        try:
            facts = await ledger.facts(
                scope, tree.reference, result, tree.key, full=True, machine=machine
            )
        except PybuildError:  # what LLB cannot say is no reason to say nothing
            facts = await ledger.facts(
                scope, tree.reference, result, tree.key, full=False, machine=machine
            )
        document = await asyncio.to_thread(
            provenance_document,
            scope.engine,
            options,
            facts,
            tree.reference.vertex,
            tree.snapshot.deltas,
            scope.known,
        )
        documents[tree.key] = json.dumps(document, indent=2, ensure_ascii=False).encode()
    return documents


def _is_tree(reference: LazyTree) -> bool:
    return not isinstance(reference.vertex.op, ScratchSource)


def _has_sbom(result: Result) -> bool:
    return any(one.predicate_type == SPDX for some in result.attestations.values() for one in some)


async def _scanned(
    scope: Scope, result: Result, trees: Sequence[Deliverable], sbom: Sbom, ignore_cache: bool
) -> Result:
    attestations = dict(result.attestations)
    for tree in trees:
        if not _is_tree(tree.reference):
            continue
        key = _platform_id(result, tree)
        scanned = await scan_reference(
            scope, sbom, key, tree.reference.vertex, {}, ignore_cache=ignore_cache
        )
        attestations[key] = (*attestations.get(key, ()), sbom_of(scanned, CORE, SPDX))
    return replace(result, attestations=attestations)


def _platform_id(result: Result, tree: Deliverable) -> str:
    """The name of a tree in attestations: a platform's, also where there is only one."""
    if tree.key:
        return tree.key
    platforms = result.platforms()
    named: Platform | str = platforms[0][0] if platforms else tree.lowered.platform
    return str(named)
