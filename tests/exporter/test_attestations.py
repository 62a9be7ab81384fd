"""Statements that scanners and clients leave, layers of steps, and how a scanner is run [ATT-3]."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pybuild.exporter.attest.attestation import (
    MAX_BYTES,
    About,
    Attestation,
    from_client,
    unbundled,
)
from pybuild.exporter.attest.layers import by_step, stacks
from pybuild.exporter.attest.options import Sbom
from pybuild.exporter.attest.sbom import scan
from pybuild.frontend.lowering.interface import ResolvedImage
from pybuild.image.attestation import SPDX, Subject
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    ExecOp,
    FileOp,
    ImageSource,
    MergeOp,
    Mkfile,
    Mount,
    MountType,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference

SELF = Subject("img", {"sha256": "ab"})


def statement(kind: str = SPDX, **more: Any) -> bytes:
    document = {"_type": "x", "predicateType": kind, "predicate": {"n": 1}, **more}
    return json.dumps(document).encode()


def told(attestation: Attestation) -> dict[str, Any]:
    return asyncio.run(attestation.statement([SELF])).to_json()


def test_the_core_comes_first_and_subjects_are_those_of_the_file_or_the_result() -> None:
    named = statement(subject=[{"name": "", "digest": {"sha1": "cd"}}])
    found = unbundled([("a.json", named), ("sbom.spdx.json", statement())], SPDX, "sbom")
    assert [one.path for one in found] == ["sbom.spdx.json", "a.json"]
    assert told(found[0])["subject"] == [{"name": "img", "digest": {"sha256": "ab"}}]
    assert told(found[1])["subject"] == [{"name": "_", "digest": {"sha1": "cd"}}]
    assert told(found[0])["predicate"] == {"n": 1}


def test_a_client_may_give_the_result_another_name() -> None:
    found = from_client("x.json", "https://e.example/p", b"{}", (About("also"),))
    assert [subject["name"] for subject in told(found)["subject"]] == ["img", "also"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not an in-toto statement"),
        (statement("https://e.example/other"), "does not match required predicate type"),
        (statement(subject=[1]), "its subjects cannot be read"),
    ],
)
def test_what_is_no_statement_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        unbundled([("x.json", data)], SPDX)


def test_nobody_else_speaks_of_provenance() -> None:
    kind = "https://slsa.dev/provenance/v1"
    with pytest.raises(UserError, match="may not bundle provenance"):
        unbundled([("x.json", statement(kind))])
    with pytest.raises(UserError, match="may not set provenance"):
        from_client("x.json", kind, b"{}")


def test_too_long_a_predicate_is_refused() -> None:
    with pytest.raises(UserError, match="exceeds"):
        from_client("x.json", SPDX, b" " * (MAX_BYTES + 1))


# --- layers ---------------------------------------------------------------------------------------

IMAGE = Vertex(
    ImageSource(digest=Digest.of(b"m"), reference=Reference.parse("base"), platform=LINUX_AMD64)
)
SCRATCH = Vertex(ScratchSource())


def made(base: Vertex, path: str) -> Vertex:
    return Vertex(FileOp(actions=(Mkfile(path=path, data=b""),)), (base,))


def test_stacks_of_steps_follow_from_that_of_the_result() -> None:
    first = made(IMAGE, "/1")
    linked = made(SCRATCH, "/2")
    merged = Vertex(MergeOp(), (first, linked))
    last = made(merged, "/3")
    found = stacks(last, ("i", "j", "1", "2", "3"), lambda _: None, lambda _: ("i", "j"))
    by_name = {"image": IMAGE, "first": first, "linked": linked, "merged": merged, "last": last}
    assert {name: found[vertex.digest] for name, vertex in by_name.items()} == {
        "image": ("i", "j"),
        "first": ("i", "j", "1"),
        "linked": ("2",),
        "merged": ("i", "j", "1", "2"),
        "last": ("i", "j", "1", "2", "3"),
    }


def test_layers_that_are_no_blobs_yet_are_left_out() -> None:
    last = made(IMAGE, "/1")
    found = stacks(last, ("i", "1"), lambda _: None, lambda _: ("i",))
    outputs = {IMAGE.digest: "step0:0", last.digest: "step1:0"}

    def describe(stack: tuple[str, ...]) -> list[dict[str, Any]] | None:
        return [{"d": name} for name in stack] if stack == ("i",) else None

    assert by_step(found, outputs, describe) == {"step0:0": [[{"d": "i"}]]}


# --- scans ----------------------------------------------------------------------------------------


def scanner(**config: Any) -> ResolvedImage:
    return ResolvedImage(Digest.of(b"s"), {"config": config}, 1, LINUX_AMD64)


def test_a_scanner_sees_the_result_and_the_extras_and_leaves_its_findings() -> None:
    sbom = Sbom(generator=Reference.parse("scan:1"), parameters={"KEY": "v"})
    image = scanner(Entrypoint=["/scan"], Cmd=["-x"], Env=["PATH=/p"], WorkingDir="/w")
    extras = {"stage": IMAGE, "context": SCRATCH}
    vertex = scan(sbom, image, name="linux/amd64", core=IMAGE, extras=extras)
    op = vertex.op
    assert isinstance(op, ExecOp)
    assert (op.args, op.cwd) == (("/scan", "-x"), "/w")
    assert op.env == (
        "PATH=/p",
        "BUILDKIT_SCAN_DESTINATION=/run/out/",
        "BUILDKIT_SCAN_SOURCE=/run/src/core/sbom",
        "BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras/",
        "BUILDKIT_SCAN_KEY=v",
    )
    assert op.mounts == (
        Mount(target="/", input=0),
        Mount(target="/tmp", type=MountType.TMPFS),
        Mount(target="/run/src/core/sbom", input=1, readonly=True),
        Mount(target="/run/src/extras/sbom-context", input=2, readonly=True),
        Mount(target="/run/src/extras/sbom-stage", input=3, readonly=True),
        Mount(target="/run/out", output=True),
    )
    assert vertex.inputs[1:] == (IMAGE, SCRATCH, IMAGE)


def test_a_scanner_that_does_not_say_how_it_is_run_is_refused() -> None:
    sbom = Sbom(generator=Reference.parse("scan:1"))
    with pytest.raises(UserError, match="scan:1 does not have cmd"):
        scan(sbom, scanner(), name="x", core=IMAGE, extras={})
