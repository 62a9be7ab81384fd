"""Volumes of a request in the RUNs of a definition, and what of them is in keys."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.model.digest import Digest
from pybuild.model.encoding import encode_op
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, HostMount, LocalSource, Mount
from pybuild.model.volumes import HostVolume, VolumeAccess
from pybuild.solver.keys import content_inputs, content_part, definition_part
from tests.frontend.lowering import build, execs
from tests.frontend.runs import ROOT

FILE = "FROM a\nRUN one\nRUN two\n"


def volume(**fields: Any) -> HostVolume:
    return HostVolume(source="/here", target="/in", **fields)


def test_the_content_of_a_volume_is_an_input_of_each_step() -> None:
    lowered = build(FILE, volumes=(volume(),))
    for op in execs(lowered):
        assert op.mounts == (ROOT, Mount(target="/in", input=1, readonly=True))
        assert op.host_mounts == ()
    source = lowered.result.inputs[1]
    assert source.op == LocalSource(name="volume=/in") and source.meta.name == "[volume /in] read"
    assert [one.path for one in content_inputs(lowered.result)[1]] == ["/"]
    (scratch,) = {
        op.mounts[1] for op in execs(build(FILE, volumes=(volume(access=VolumeAccess.SCRATCH),)))
    }
    assert scratch == Mount(target="/in", input=1)


def test_without_its_content_path_and_mode_are_in_the_key() -> None:
    def part(**fields: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"source": "/here", "target": "/in", "in_key": False, **fields}
        one = HostVolume(**given)
        result = build(FILE, volumes=(one,)).result
        return content_part(result, {})

    base = part()
    assert base["host_mounts"] == [{"type": "HostMount", "target": "/in"}]
    assert part(source="/elsewhere") == base
    others = [
        part(target="/on"),
        part(access=VolumeAccess.SCRATCH),
        part(access=VolumeAccess.WRITABLE),
    ]
    assert all(other != base for other in others)
    assert execs(build(FILE, volumes=(volume(in_key=False),)))[0].host_mounts == (
        HostMount(target="/in", source="/here"),
    )


def test_a_build_without_volumes_has_the_key_that_it_had() -> None:
    (op, _) = execs(build(FILE))
    assert "host_mounts" not in encode_op(op) | definition_part(op)
    assert isinstance(op, ExecOp)
    assert Digest.of_json(encode_op(op)).startswith("sha256:")


def test_a_mount_of_the_step_in_the_place_of_a_volume_is_refused() -> None:
    inside = "FROM a\nRUN --mount=type=tmpfs,target=/in/x y\n"
    for access in (VolumeAccess.READONLY, VolumeAccess.SCRATCH):
        build(inside, volumes=(volume(access=access),))
    with pytest.raises(UserError, match="lies in the volume /in, which is writable"):
        build(inside, volumes=(volume(access=VolumeAccess.WRITABLE, in_key=False),))
    with pytest.raises(UserError, match="/in is a mount of this step, and a volume"):
        build("FROM a\nRUN --mount=type=tmpfs,target=/in y\n", volumes=(volume(),))
