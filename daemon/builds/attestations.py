"""The attestations of a tree that its client brings, and the list of its contents [6, 7.2]."""

from __future__ import annotations

from pybuild.builds.attestations import Lists, Scanner, is_nothing
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import load_offered, sbom_of
from pybuild.daemon.frontend.results import Result
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.options import Sbom
from pybuild.exporter.attest.sbom import CORE
from pybuild.exporter.built import Built
from pybuild.image.attestation import SPDX


def client_lists(scope: Scope, result: Result, sbom: Sbom | None, *, ignore_cache: bool) -> Lists:
    """Return the reader of a client's attestations of a tree, a list of its contents among them.

    Args:
        sbom: makes such lists where the client brings none.
    """
    has_own = any(
        one.predicate_type == SPDX for some in result.attestations.values() for one in some
    )
    scanner = None
    if sbom is not None and not has_own:
        scanner = Scanner(
            scope.engine, sbom, scope.emit, scope.policies, scope.decided, ignore_cache=ignore_cache
        )

    async def lists(one: Built) -> list[Attestation]:
        platforms = result.platforms()
        name = one.key or str(platforms[0][0] if platforms else one.lowered.platform)
        offered = list(result.attestations.get(name, ()))
        if scanner is not None and not is_nothing(one):
            step = await scanner.step(name, one.lowered.result, {})
            offered.append(sbom_of(LazyTree(step, scope.snapshot), CORE, SPDX))
        return [item for one in offered for item in await load_offered(scope, one)]

    return lists
