"""Attestations that frontends hand in: files and directories of trees of their own [6]."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pybuild.buildkit.pb import gateway as pb
from pybuild.exporter.attest.attestation import MAX_BYTES, About, Attestation, from_client
from pybuild.exporter.attest.write import unbundle
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from pybuild.daemon.builds.scope import Scope
    from pybuild.daemon.frontend.lazytree import LazyTree

_CORE, _INLINE_ONLY = "sbom-core", "inline-only"
REASON, SBOM_REASON = "reason", b"sbom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One of them.

    Attributes:
        reference: the tree; *path*: the file in it, or the directory of a *bundle*.
        predicate_type: of all statements in a bundle; empty for any.
        about: the result itself where it is empty; a bundle's statements have their own subjects.
    """

    reference: LazyTree
    path: str = ""
    bundle: bool = False
    predicate_type: str = ""
    metadata: Mapping[str, bytes] = field(default_factory=dict[str, bytes], hash=False)
    about: tuple[About, ...] = ()

    def message(self, ref: pb.Ref) -> pb.Attestation:
        """Return it as the protocol has it."""
        return pb.Attestation(
            kind=pb.Attestation.Bundle if self.bundle else pb.Attestation.InToto,
            metadata=dict(self.metadata),
            ref=ref,
            path=self.path,
            inTotoPredicateType=self.predicate_type,
            inTotoSubjects=[_subject(about) for about in self.about],
        )


def sbom_of(reference: LazyTree, core: str, predicate_type: str) -> Offered:
    """Return the result of a scan."""
    metadata = {REASON: SBOM_REASON, _CORE: core.encode()}
    return Offered(
        reference=reference, bundle=True, predicate_type=predicate_type, metadata=metadata
    )


def read_offered(
    message: Iterable[pb.Attestation], find: Callable[[str], LazyTree | None]
) -> tuple[Offered, ...]:
    """Read a client's attestation.

    Raises:
        UserError: without a tree or a path.
    """
    attestations: list[Offered] = []
    for item in message:
        reference = find(item.ref.id)
        bundle = item.kind == pb.Attestation.Bundle
        if reference is None:
            raise UserError("attestation does not have available content")
        if not bundle and not item.path:
            raise UserError("attestation does not have set path")
        attestations.append(
            Offered(
                reference=reference,
                path=item.path,
                bundle=bundle,
                predicate_type=item.inTotoPredicateType,
                metadata=dict(item.metadata),
                about=tuple(_about(subject) for subject in item.inTotoSubjects),
            )
        )
    return tuple(attestations)


async def load_offered(scope: Scope, offered: Offered) -> list[Attestation]:
    """Read the attestations; the tree is made for that.

    Raises:
        UserError: they are not there, or no attestations.
    """
    tree = await offered.reference.snapshot()
    inline_only = offered.metadata.get(_INLINE_ONLY, b"").lower() in (b"true", b"1")
    if offered.bundle:
        core = offered.metadata.get(_CORE, b"").decode("utf-8", "replace")
        attestations = await unbundle(
            scope.engine, tree.deltas, offered.path, offered.predicate_type, core
        )
    else:
        data = await scope.read(tree, offered.path, MAX_BYTES + 1)
        if data is None:
            raise UserError(f"cannot read in-toto attestation: {offered.path}: no such file")
        made = from_client(offered.path, offered.predicate_type, data, offered.about)
        name = posixpath.basename(offered.path).partition(".")[0]
        is_core = _CORE in offered.metadata and offered.metadata[_CORE] == name.encode()
        attestations = [replace(made, is_core=is_core)]
    return [replace(one, inline_only=inline_only) for one in attestations]


def _about(subject: pb.InTotoSubject) -> About:
    if subject.kind == pb.InTotoSubject.Self:
        return About(subject.name)
    if subject.kind != pb.InTotoSubject.Raw:
        raise UserError(f"unknown attestation subject type {subject.kind}")
    pairs = (digest.partition(":") for digest in subject.digest)
    return About(subject.name, {algorithm: hex for algorithm, _, hex in pairs})


def _subject(about: About) -> pb.InTotoSubject:
    if about.digests is None:
        return pb.InTotoSubject(kind=pb.InTotoSubject.Self, name=about.name)
    digests = [f"{algorithm}:{hex}" for algorithm, hex in sorted(about.digests.items())]
    return pb.InTotoSubject(kind=pb.InTotoSubject.Raw, name=about.name, digest=digests)
