"""The mounts of a step whose contents are its results [MNT-1]."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.executor.steps.outputs import kept_mounts, result_mount, step_key
from pybuild.model.ops import ExecOp, Mount, Vertex, VertexMeta
from pybuild.model.platform import Platform

ROOT = Mount(target="/", input=0)
OTHER = Mount(target="/other", input=1)


def op(*mounts: Mount) -> ExecOp:
    platform = Platform.parse("linux/amd64")
    return ExecOp(args=("true",), env=(), cwd="/", mounts=mounts, platform=platform)


@pytest.mark.parametrize(
    ("mounts", "number"), [((OTHER, ROOT), 1), ((ROOT, OTHER), 0), ((OTHER,), -1), ((), -1)]
)
def test_the_root_is_the_result_where_no_mount_is_marked(
    mounts: tuple[Mount, ...], number: int
) -> None:
    assert result_mount(op(*mounts)) == number


def test_a_marked_mount_is_the_result_and_shared_ones_are_kept() -> None:
    marked = replace(OTHER, output=True)
    assert result_mount(op(ROOT, marked)) == 1
    assert kept_mounts(op(ROOT, marked)) == {1}
    assert kept_mounts(op(replace(ROOT, shared_output=True), marked)) == {0, 1}


def test_one_step_with_two_results_has_one_key() -> None:
    def vertex(*mounts: Mount) -> Vertex:
        return Vertex(op=op(*mounts), inputs=(), meta=VertexMeta(name="RUN"))

    first, second = (
        vertex(ROOT, replace(OTHER, output=True)),
        vertex(replace(ROOT, output=True), OTHER),
    )
    assert first.digest != second.digest
    assert step_key(first) == step_key(second) != step_key(vertex(ROOT))
