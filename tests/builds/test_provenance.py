"""The provenance of a build's results, made of its requests and its lookups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.builds.lookups import Lookups
from pybuild.builds.provenance import LookupLedger, Outcome, Solve
from pybuild.executor.sources.remote import RemoteSources
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.predicate import Facts
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.digest import Digest
from pybuild.model.ops import FileOp, LocalSource, Mkfile, ScratchSource, Vertex
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_AMD64 = Platform.make("linux", "amd64")
_ARM64 = Platform.make("linux", "arm64")
_BOTH = [("linux/amd64", _AMD64), ("linux/arm64", _ARM64)]


class _Origins:
    files: Mapping[str, bytes] = {"Dockerfile": b"FROM base\n"}

    @property
    def sources(self) -> RemoteSources:
        raise AssertionError("nothing here is remote")

    def client_name(self, op: LocalSource) -> str:
        return f"client's {op.name}"

    def queries(self, ops: Iterable[LocalSource]) -> Mapping[str, LocalQuery]:
        return {}


def _vertex(path: str) -> Vertex:
    return Vertex(FileOp(actions=(Mkfile(path=path, data=b""),)), (Vertex(ScratchSource()),))


def _looked_up(name: str, platform: Platform) -> tuple[ImageRequest, Digest]:
    request = ImageRequest(Reference.parse(name), platform)
    return request, Digest.of(f"{name} {platform}".encode())


def _facts(ledger: LookupLedger, outcome: Outcome, key: str, result: Vertex) -> Facts:
    return asyncio.run(ledger.facts(_Origins(), outcome, key, result, full=True))


def _names(facts: Facts) -> list[str]:
    return [f"{i.reference.familiar} {i.platform}" for i in facts.sources.images]


def test_an_image_for_the_builds_platform_is_a_material_of_every_result() -> None:
    request = FrontendRequest(frontend="dockerfile.v0")
    lookups = Lookups(
        images=[
            _looked_up("base", _AMD64),
            _looked_up("tools", _AMD64),
            _looked_up("base", _ARM64),
        ]
    )
    results = {key: _vertex(key) for key, _ in _BOTH}
    ledger = LookupLedger(request, 1.0)
    ledger.solves.append(Solve(request=request, results=results, lookups=lookups))
    outcome = Outcome(ids={key: key for key in results}, platforms=_BOTH)
    amd64, arm64 = (_facts(ledger, outcome, key, results[key]) for key, _ in _BOTH)
    assert _names(amd64) == ["base:latest linux/amd64", "tools:latest linux/amd64"]
    assert _names(arm64) == ["tools:latest linux/amd64", "base:latest linux/arm64"]
    assert amd64.invocation == arm64.invocation


def test_files_that_were_read_are_of_directories_of_the_client() -> None:
    request = FrontendRequest(frontend="dockerfile.v0", args={"filename": "Dockerfile"})
    lookups = Lookups(files={"dockerfile": ("Dockerfile",), "context": (".dockerignore",)})
    result = _vertex("/x")
    ledger = LookupLedger(request, 1.0)
    ledger.solves.append(Solve(request=request, results={"": result}, lookups=lookups))
    facts = _facts(ledger, Outcome(ids={"": ""}), "", result)
    assert facts.sources.locals == {"context", "dockerfile"}
    assert not facts.sources.complete
    assert facts.document["configSource"] == {"path": "Dockerfile"}
    assert "root" not in facts.document["request"]
    assert facts.definition is not None
    assert facts.definition.steps


def test_a_result_that_the_client_put_together_has_the_sources_of_all_answers() -> None:
    request = FrontendRequest(frontend="dockerfile.v0")
    ledger = LookupLedger(FrontendRequest(), 1.0)
    lookups = Lookups(images=[_looked_up("base", _AMD64)])
    other = Vertex(LocalSource(name="src"))
    ledger.solves.append(Solve(request=request, results={"a": other}, lookups=lookups))
    mine = _vertex("/mine")
    ledger.solves.append(Solve(request=None, results={"b": mine}))
    facts = _facts(ledger, Outcome(ids={"": "b"}), "", mine)
    assert _names(facts) == ["base:latest linux/amd64"]
    assert facts.sources.locals == {"client's src"}
    assert facts.document == {"configSource": {}, "request": {}}
