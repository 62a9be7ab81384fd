"""Attestations of results: which get any, in which order, and the scanner that is found once [ATT]."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.builds.attestations import Attestor, Scanner, is_nothing
from pybuild.builds.delivery import Solves
from pybuild.builds.provenance import LookupLedger, Origins, Outcome, Solve
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.options import Provenance, Sbom
from pybuild.exporter.attest.predicate import Facts
from pybuild.exporter.built import Built
from pybuild.frontend.lowering.interface import ImageRequest, Lowered, ResolvedImage
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.ops import FileOp, ImageSource, Mkfile, ScratchSource, Vertex
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Snapshot
from tests.registry.fakes import WallClock

NOTHING = Vertex(ScratchSource())
SOMETHING = Vertex(FileOp(actions=(Mkfile(path="/x", data=b""),)), (NOTHING,))


def built(result: Vertex, key: str = "") -> Built:
    lowered = Lowered(
        result=result,
        config={},
        base_layer_count=0,
        history=(),
        contexts=frozenset(),
        platform=LINUX_AMD64,
    )
    return Built(lowered=lowered, result=Snapshot(("d",)), key=key)


async def no_predicate() -> object:
    return {}


LIST = Attestation(path="list.json", predicate_type="x", predicate=no_predicate)


@pytest.mark.parametrize(
    ("result", "options", "paths"),
    [
        (SOMETHING, None, ["list.json"]),
        (NOTHING, Provenance(), ["list.json"]),
        (SOMETHING, Provenance(full=False), ["list.json", "provenance.json"]),
        (SOMETHING, Provenance(full=False, filename="p.json"), ["list.json", "p.json"]),
    ],
)
def test_a_result_gets_lists_and_then_the_provenance_of_its_steps(
    result: Vertex, options: Provenance | None, paths: list[str]
) -> None:
    request = FrontendRequest(frontend="dockerfile.v0")
    ledger = LookupLedger(request, 1.0)
    ledger.solves.append(Solve(request=request, results={"k": result}))
    engine: Any = SimpleNamespace(clock=WallClock())
    attestor = Attestor(engine, cast(Any, None), Solves(engine), ledger, Outcome(ids={"k": "k"}))

    async def lists(one: Built) -> list[Attestation]:
        return [LIST]

    [attested] = asyncio.run(attestor.attest([built(result, "k")], options, lists))
    assert [one.path for one in attested.attestations] == paths
    assert is_nothing(attested) is (result is NOTHING)


class Unwritable(LookupLedger):
    """Has a definition that LLB cannot say."""

    async def facts(
        self,
        origins: Origins,
        outcome: Outcome,
        key: str,
        result: Vertex,
        *,
        full: bool,
        requests_of: Any = None,
    ) -> Facts:
        if full:
            raise UserError("LLB has no word for it")
        return await super().facts(origins, outcome, key, result, full=False)


def test_a_definition_that_cannot_be_written_is_left_out_of_a_document() -> None:
    ledger = Unwritable(FrontendRequest(frontend="dockerfile.v0"), 1.0)
    engine: Any = SimpleNamespace(clock=WallClock())
    attestor = Attestor(engine, cast(Any, None), Solves(engine), ledger, Outcome(ids={}))
    results = [built(SOMETHING, "k"), built(NOTHING, "n")]
    documents = asyncio.run(attestor.documents(results, Provenance(full=True)))
    assert list(documents) == ["k"]


class Images:
    """Resolves every image; knows what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    async def resolve(self, request: ImageRequest, *, pull: bool) -> ResolvedImage:
        self.asked.append((str(request.reference), pull))
        return ResolvedImage(
            digest=Digest.of(b"m"),
            config={"config": {"Cmd": ["scan"]}},
            layer_count=1,
            platform=LINUX_AMD64,
        )


@pytest.mark.parametrize(("pull", "ignore_cache"), [(False, False), (True, False), (False, True)])
def test_the_scanner_is_found_once_for_all_results(pull: bool, ignore_cache: bool) -> None:
    images, events = Images(), list[Event]()
    engine = SimpleNamespace(images=images, clock=WallClock())
    scanner = Scanner(
        cast(Any, engine),
        Sbom(generator=Reference.parse("scan:1")),
        events.append,
        None,
        pull=pull,
        ignore_cache=ignore_cache,
    )

    async def work() -> list[Vertex]:
        return [await scanner.step(name, SOMETHING, {}) for name in ("one", "two")]

    steps = asyncio.run(work())
    assert images.asked == [("docker.io/library/scan:1", pull)]
    titles = [event.name for event in events if isinstance(event, VertexAdded)]
    assert titles == ["[internal] load metadata for docker.io/library/scan:1"]
    for name, step in zip(("one", "two"), steps, strict=True):
        assert step.meta.name == f"[{name}] generating sbom using docker.io/library/scan:1"
        assert step.meta.ignore_cache is ignore_cache
        assert isinstance(step.inputs[0].op, ImageSource)
        assert step.inputs[1] == SOMETHING
