"""A frontend's results: trees by platform, the facts of each, and attestations beside them [6]."""

from __future__ import annotations

import asyncio
import json

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import read_offered, sbom_of
from pybuild.daemon.frontend.results import Result, platforms_document, read_result
from pybuild.exporter.attest.attestation import About
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.status import Code, RpcError
from tests.buildkit.llbs import BUSYBOX, one
from tests.daemon.lazytrees import MADE, solve, tree


def test_trees_come_in_the_order_of_their_platforms_and_then_by_name() -> None:
    a, b, c, d = (tree() for _ in range(4))
    platforms = [("z", LINUX_AMD64), ("gone", LINUX_AMD64), ("y", Platform("linux", "arm", "v7"))]
    result = Result(
        many={"d": d, "y": a, "c": c, "z": b},
        metadata={"refs.platforms": platforms_document(platforms)},
    )
    assert result.each() == [("z", b), ("y", a), ("c", c), ("d", d)]
    assert result.platforms() == platforms
    assert Result(single=a).each() == [("", a)] and Result().each() == [("", None)]
    assert Result(many={"x": None}).references() == [] and Result(single=a).references() == [a]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "failed to parse platforms: b"),
        (b"[]", "failed to parse platforms: b"),
        (b'{"Platforms":[{}]}', "failed to parse platforms: b"),
        (b"", "invalid empty platforms index for exporter"),
        (b"null", "invalid empty platforms index for exporter"),
        (b"{}", "invalid empty platforms index for exporter"),
        (b'{"Platforms":[{"ID":"","Platform":{}}]}', "invalid empty platform key for exporter"),
        (b'{"Platforms":[{"ID":"x","Platform":{"os":"linux"}}]}', "invalid platform value"),
    ],
)
def test_platforms_that_cannot_be_are_told(text: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Result(metadata={"refs.platforms": text}).platforms()


def test_platforms_are_written_with_all_that_tells_them() -> None:
    platforms = [
        ("w", Platform("windows", "amd64", "", "10.0")),
        ("a", Platform("linux", "arm", "v6")),
    ]
    assert json.loads(platforms_document(platforms)) == {
        "Platforms": [
            {
                "ID": "w",
                "Platform": {"architecture": "amd64", "os": "windows", "os.version": "10.0"},
            },
            {"ID": "a", "Platform": {"architecture": "arm", "os": "linux", "variant": "v6"}},
        ]
    }
    assert (
        Result(metadata={"refs.platforms": platforms_document(platforms)}).platforms() == platforms
    )


def test_facts_of_a_tree_are_its_own() -> None:
    result = Result(
        metadata={
            "containerimage.config": b'{"a":1}',
            "containerimage.config/x": b'{"a":2}',
            "containerimage.base.config/x": b'{"b":1}',
            "source.date.epoch": b"7",
            "source.date.epoch/x": b"8",
            "source.date.epoch/y": b"",
        }
    )
    assert (result.config(""), result.config("x"), result.config("y")) == ({"a": 1}, {"a": 2}, None)
    assert (result.base_config("x"), result.base_config("")) == ({"b": 1}, None)
    assert [result.epoch(key) for key in ("", "x", "y", "z")] == [7, 8, None, 7]
    assert Result().epoch("") is None
    with pytest.raises(UserError, match="invalid SOURCE_DATE_EPOCH from frontend: b'x'"):
        Result(metadata={"source.date.epoch": b"x"}).epoch("")
    for text in (b"{", b"[]", b"3"):
        with pytest.raises(UserError, match="failed to parse image config"):
            Result(metadata={"containerimage.config": text}).config("")
    for text, words in ((b"null", "invalid null image config"), (b'{"os":"linux"}', "together")):
        with pytest.raises(UserError, match=words):
            Result(metadata={"containerimage.config": text}).config("")
    half = Result(metadata={"containerimage.config": b'{"os":"linux"}'})
    assert half.config("", exported=False) == {"os": "linux"}


def test_results_of_all_ages_are_read() -> None:
    a, b = tree(), tree()
    known = {a.id: a, b.id: b}
    refs = pb.Result(metadata={"k": b"v"})
    refs.refs.refs["x"].id, refs.refs.refs["y"].id = a.id, ""
    assert read_result(refs, known) == Result(many={"x": a, "y": None}, metadata={"k": b"v"})
    old = pb.Result()
    old.refsDeprecated.refs["x"] = b.id
    assert read_result(old, known) == Result(many={"x": b})
    assert read_result(pb.Result(ref=pb.Ref(id=a.id)), known) == Result(single=a)
    assert read_result(pb.Result(refDeprecated=b.id), known) == Result(single=b)
    assert read_result(pb.Result(), known) == Result()
    with pytest.raises(RpcError, match="return reference nobody not found") as caught:
        read_result(pb.Result(refDeprecated="nobody"), known)
    assert caught.value.code is Code.UNKNOWN


def test_a_tree_travels_with_its_definition_where_it_has_one() -> None:
    definition = one(BUSYBOX)
    calls: list[int] = []

    def write() -> ops.Definition:
        calls.append(1)
        return definition

    written = LazyTree(MADE, solve, write)
    message = Result(many={"x": written, "y": None}).message()
    first = message.refs.refs["x"]
    assert (first.id, first.defs) == (written.id, definition)
    assert "y" in message.refs.refs and not message.refs.refs["y"].id
    assert written.definition() is definition and calls == [1]

    def refuses() -> ops.Definition:
        calls.append(2)
        raise UserError("no")

    without = LazyTree(MADE, solve, refuses)
    assert without.definition() is None and without.definition() is None
    assert calls == [1, 2] and tree().definition() is None


def test_a_promised_tree_is_made_once() -> None:
    calls: list[Vertex] = []

    async def solved(vertex: Vertex) -> Snapshot:
        calls.append(vertex)
        return Snapshot(("d",))

    async def run() -> None:
        promised = LazyTree(MADE, solved)
        found = await asyncio.gather(promised.snapshot(), promised.snapshot())
        assert list(found) == [Snapshot(("d",))] * 2 and calls == [MADE]
        await promised.close()
        await LazyTree(MADE, solved).close()

    asyncio.run(run())


def test_a_scan_is_offered_as_the_protocol_has_it() -> None:
    scan = tree()
    message = sbom_of(scan, "core", "type").message(pb.Ref(id=scan.id))
    assert dict(message.metadata) == {"reason": b"sbom", "sbom-core": b"core"}
    assert (message.kind, message.inTotoPredicateType) == (pb.Attestation.Bundle, "type")
    assert (message.path, message.ref.id) == ("", scan.id)


def test_subjects_of_attestations() -> None:
    scan = tree()
    raw = pb.InTotoSubject(kind=pb.InTotoSubject.Raw, name="f", digest=["sha256:ab", "md5:cd"])
    own = pb.InTotoSubject(kind=pb.InTotoSubject.Self, name="g")
    item = pb.Attestation(path="p", inTotoPredicateType="t", inTotoSubjects=[raw, own])
    (found,) = read_offered([item], lambda id: scan)
    assert (found.path, found.predicate_type, found.bundle) == ("p", "t", False)
    assert found.about == (About("f", {"sha256": "ab", "md5": "cd"}), About("g"))
    item.inTotoSubjects.add(kind=9)
    with pytest.raises(UserError, match="unknown attestation subject type 9"):
        read_offered([item], lambda id: scan)
