"""Definitions: who made them, and the parts of directories that they can read [5.1, 6]."""

from __future__ import annotations

from typing import Any

from pybuild.buildkit.pb import ops
from pybuild.daemon.builds.producers import Producers
from pybuild.daemon.frontend.dockerfile import used_paths
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    LocalSource,
    Mkfile,
    Mount,
    MountType,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from tests.buildkit.llbs import BUSYBOX, one
from tests.daemon.lazytrees import SCRATCH


def document(**request: object) -> dict[str, Any]:
    return {"request": {"root": "r", **request}, "more": 1}


def test_a_definition_is_known_as_long_as_its_build_goes_on() -> None:
    producers = Producers()
    definition = one(BUSYBOX)
    assert producers.find(definition) is None
    producers.add(definition, "one", document(a=1))
    assert producers.find(definition) == {"request": {"a": 1}, "more": 1}
    producers.add(definition, "two", document(a=1, root="other"))
    assert producers.find(definition) == {"request": {"a": 1}, "more": 1}
    producers.add(definition, "three", document(a=2))
    assert producers.find(definition) is None
    producers.forget("three")
    assert producers.of_inputs({"b": definition, "c": ops.Definition()}) == {
        "b": {"request": {"a": 1}, "more": 1}
    }
    producers.forget("one")
    assert producers.find(definition) is not None
    producers.forget("two")
    assert producers.find(definition) is None


def test_what_is_no_definition_was_made_by_nobody() -> None:
    producers = Producers()
    empty = ops.Definition()
    garbled = ops.Definition(defs=[b"\xff\xff"])
    alone = ops.Definition(defs=[BUSYBOX.SerializeToString()])
    for definition in (empty, garbled, alone):
        producers.add(definition, "b", document())
        assert producers.find(definition) is None


def test_mounts_of_a_directory_are_asked_for_by_their_place() -> None:
    context = Vertex(LocalSource(name="context"))
    step = ExecOp(
        args=("x",), env=(), cwd="/", platform=LINUX_AMD64,
        mounts=(
            Mount(target="/", input=0),
            Mount(target="/m", input=1, selector="/b/c/"),
            Mount(target="/t", type=MountType.TMPFS),
        ),
    )  # fmt: skip
    first = Vertex(step, (SCRATCH, context))
    copy = FileOp(actions=(Copy(input=1, source="/a", dest="/"), Mkfile(path="/f", data=b"")))
    assert used_paths(first) == {"context": ("b/c",)}
    assert used_paths(first, Vertex(copy, (first, context))) == {"context": ("a", "b/c")}
    assert used_paths(first, context) == {"context": ()}
    assert used_paths(SCRATCH) == {}
