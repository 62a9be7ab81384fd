"""Vertices to be written as messages, and read back."""

from __future__ import annotations

from pybuild.buildkit.llb.write import WriteOptions, write
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    ExecOp,
    HttpSource,
    ImageSource,
    Mount,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from tests.buildkit.llbs import read_all

SCRATCH = Vertex(ScratchSource())
IMAGE = Vertex(
    ImageSource(
        digest=Digest.of(b"m"),
        reference=Reference.parse("busybox:1").with_digest(Digest.of(b"m")),
        platform=LINUX_AMD64,
    )
)
FILE = Vertex(HttpSource(url="https://e.com/f", filename="f"))
ROOT = Mount(target="/", input=0, output=True)
STEP = ExecOp(args=("true",), env=(), cwd="/", mounts=(ROOT,), platform=LINUX_AMD64)


def op_of(vertex: Vertex, options: WriteOptions | None = None) -> pb.Op:
    """Return the last op of the definition, which is the vertex's."""
    definition = write(vertex, options)
    assert pb.Op.FromString(definition.defs[-1]).inputs[0].digest == Digest.of(definition.defs[-2])
    return pb.Op.FromString(definition.defs[-2])


def comes_back(vertex: Vertex) -> None:
    found = read_all(write(vertex)).result
    assert found == vertex and found.op == vertex.op
