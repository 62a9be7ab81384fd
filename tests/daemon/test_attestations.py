"""Attestations that clients hand in, and who made what they hand in [6, ATT-2]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import gateway as pb
from pybuild.daemon.builds.producers import Producers
from pybuild.daemon.frontend.attrs import read_attestations
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import Offered, read_offered
from pybuild.daemon.frontend.results import Result, read_result
from pybuild.exporter.attest.attestation import About
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.machine import read_machine
from pybuild.exporter.attest.sources import UsedSources
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import FileOp, Mkfile, ScratchSource, Vertex
from pybuild.model.snapshot import Snapshot


async def _solve(vertex: Vertex) -> Snapshot:
    return Snapshot()


def _vertex(path: str) -> Vertex:
    return Vertex(FileOp(actions=(Mkfile(path=path, data=b""),)), (Vertex(ScratchSource()),))


def test_attestations_of_a_result_come_back_as_they_went() -> None:
    tree, scan = LazyTree(_vertex("/a"), _solve), LazyTree(_vertex("/b"), _solve)
    offered = Offered(
        reference=scan,
        path="p.json",
        predicate_type="https://e.example/p",
        metadata={"reason": b"x"},
        about=(About("self"), About("raw", {"sha256": "ab"})),
    )
    bundle = Offered(reference=scan, bundle=True)
    result = Result(single=tree, attestations={"linux/amd64": (offered, bundle)})
    message = pb.Result.FromString(result.message().SerializeToString())
    back = read_result(message, {tree.id: tree, scan.id: scan})
    assert back == result
    assert back.references() == [tree, scan, scan]


def test_an_attestation_without_a_tree_or_a_path_is_refused() -> None:
    scan = LazyTree(_vertex("/b"), _solve)
    with pytest.raises(UserError, match="does not have available content"):
        read_offered([pb.Attestation(path="x")], lambda _: None)
    with pytest.raises(UserError, match="does not have set path"):
        read_offered([pb.Attestation(ref=pb.Ref(id=scan.id))], lambda _: scan)


def test_a_definition_is_known_by_who_made_it_while_that_build_runs() -> None:
    producers = Producers()
    definition, other = write(_vertex("/a")), write(_vertex("/b"))
    document = FrontendRequest(frontend="f", args={"target": "t"}).document(UsedSources())
    rooted: dict[str, Any] = {**document, "request": {**document["request"], "root": document}}
    producers.add(definition, "one", rooted)
    assert producers.of_inputs({"in": definition, "else": other}) == {"in": document}
    producers.add(definition, "two", FrontendRequest(frontend="g").document(UsedSources()))
    assert producers.find(definition) is None, "it can be of either"
    producers.forget("two")
    assert producers.find(definition) == document
    producers.forget("one")
    assert producers.find(definition) is None


def test_attributes_and_build_args_ask_for_attestations() -> None:
    assert not read_attestations({"build-arg:FOO": "x"})
    found = read_attestations(
        {"attest:provenance": "", "build-arg:BUILDKIT_ATTEST_PROVENANCE": "mode=min"}
    )
    assert found.provenance is not None
    assert not found.provenance.full
    assert not read_attestations({"attest:provenance": "disabled=true"})


def test_the_kind_may_stand_in_the_value_too_as_buildx_has_it() -> None:
    found = read_attestations(
        {"attest:provenance": "type=provenance,mode=min", "attest:sbom": "type=sbom"}
    )
    assert found.provenance is not None and not found.provenance.full
    assert found.sbom is not None and not found.sbom.parameters
    assert str(found.sbom.generator) == "docker.io/docker/buildkit-syft-scanner:stable-1"


def test_operators_add_entries_but_replace_none(tmp_path: Path) -> None:

    folder = tmp_path
    (folder / "a.json").write_text('{"site": "x", "n": 1}')
    (folder / "b.json").write_text('{"n": 2}')
    (folder / "readme.txt").write_text("no JSON")
    assert read_machine(str(folder)) == {"site": "x", "n": 2}
    assert read_machine(str(folder / "missing")) == {}
    (folder / "c.json").write_text('{"builderPlatform": "y"}')
    with pytest.raises(UsageError, match='key "builderPlatform" is builtin'):
        read_machine(str(folder))
    (folder / "c.json").write_text("[]")
    with pytest.raises(UsageError, match="expected a JSON object"):
        read_machine(str(folder))
