"""Builds of this machine by a frontend that is an image: no server is started for them [DIR-5]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pybuild
from pybuild.buildkit.pb import gateway as pb
from pybuild.model.errors import UsageError, UserError
from tests.daemon.frontendimages import Bridge, contained

pytestmark = pytest.mark.slow


async def front(bridge: Bridge) -> int:
    made = await bridge.solve(
        Frontend="dockerfile.v0", FrontendOpt={**bridge.opts, "filename": "real", "target": "b"}
    )
    config = json.loads(made.metadata["containerimage.config"])
    config["config"]["Labels"] = {"by": bridge.opts["cmdline"]}
    metadata = {"containerimage.config": json.dumps(config).encode()}
    await bridge.give(pb.Result(ref=made.ref, metadata=metadata))
    return 0


def test_a_file_of_another_language_is_built_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contained(monkeypatch, front=front)
    store: Any = {"root": tmp_path / "store"}
    base = b'FROM scratch\nCOPY f /\nENTRYPOINT ["front"]\n'
    pybuild.build({"f": "1"}, dockerfile=base, tags=["front:1"], **store)
    context = tmp_path / "c"
    context.mkdir()
    (context / "Dockerfile").write_text("# syntax=front:1 words\n- no Dockerfile\n")
    (context / "real").write_text("# syntax=front:1\nFROM scratch AS b\nCOPY f /g\nFROM scratch\n")
    (context / "f").write_text("2")
    out = tmp_path / "out"
    result = pybuild.build(context, tags=["made:1"], outputs=[f"type=local,dest={out}"], **store)
    assert (out / "g").read_text() == "2"
    kept = pybuild.build(context, tags=["made:1"], **store)
    assert kept.image_id and kept.names and result.warnings == ()
    assert ("[b 1/1] COPY f /g", "CACHED") in kept.steps
    again = pybuild.build(context, dockerfile=b"FROM made:1\n", outputs=[], **store)
    assert again.image_id is not None
    with pytest.raises(UsageError, match="no frontend that is an image may"):
        pybuild.build(context, volumes=[f"{context}:/v"], **store)
    (context / "Dockerfile").write_text("# syntax=front:1\n")
    (context / "real").write_text("FROM scratch AS b\nCOPY nothing /\n")
    with pytest.raises(UserError, match="nothing"):
        pybuild.build(context, **store)
