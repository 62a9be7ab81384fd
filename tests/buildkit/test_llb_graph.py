"""Definitions as hostile input: what is checked before anything is made of them [remote-api 9]."""

from __future__ import annotations

import random

import pytest

from pybuild.buildkit.llb import graph
from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import PassOp, walk
from pybuild.model.span import Span
from tests import watchdog
from tests.buildkit.llbs import BUSYBOX, Builder, exec_op, file_op, mkdir, one, read_all


def test_an_empty_definition_has_the_known_words() -> None:
    with pytest.raises(UserError, match=r"^invalid nil input definition to definition op$"):
        graph.parse(pb.Definition())


def test_an_id_is_over_exactly_the_bytes_that_came() -> None:
    # The same op with its fields the other way round: another id, since nothing is re-encoded.
    inner = BUSYBOX.source.SerializeToString()
    platform = pb.Platform(OS="linux", Architecture="amd64").SerializeToString()
    source_field = b"\x1a" + bytes([len(inner)]) + inner
    platform_field = b"\x52" + bytes([len(platform)]) + platform
    for data in (source_field + platform_field, platform_field + source_field):
        terminal = pb.Op(inputs=[pb.Input(digest=Digest.of(data))]).SerializeToString()
        found = graph.parse(pb.Definition(defs=[data, terminal]))
        assert list(found.entries) == [Digest.of(data)]


def test_only_what_the_result_needs_is_looked_at_and_in_order() -> None:
    builder = Builder()
    unused = builder.add(pb.Op(build=pb.BuildOp()))
    base = builder.add(BUSYBOX)
    first = builder.add(exec_op(args=["1"]), base)
    second = builder.add(exec_op(args=["2"]), first)
    definition = builder.end(second)
    # The list may come in any order but for its end.
    shuffled = list(definition.defs[:-1])
    random.Random(1).shuffle(shuffled)
    definition.defs[:-1] = shuffled
    found = graph.parse(definition)
    assert list(found.entries) == [base[0], first[0], second[0]]
    assert unused[0] not in found.entries
    assert found.used[Digest(first[0])] == {0}


def test_an_op_that_stands_there_twice_is_one() -> None:
    definition = one(exec_op(), BUSYBOX)
    definition.defs[:0] = list(definition.defs[:1]) * 3
    assert len(graph.parse(definition).entries) == 2


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (pb.Definition(defs=[b""]), "does not name the result"),
        (pb.Definition(defs=[b"\xff\xff"]), "cannot be read"),
        (pb.Definition(defs=[BUSYBOX.SerializeToString()]), "does not name the result"),
        (Builder().end(("sha256:" + "0" * 64, 0)), "invalid missing input digest sha256:0000"),
        (Builder().end(("", 0)), "invalid missing input digest"),
        (Builder().end(("x" * 10_000, 0)), "invalid missing input digest x"),
        (one(pb.Op()), "its kind is not known"),
        (one(exec_op()), "refers to input 0 of 0"),
        (one(pb.Op(build=pb.BuildOp())), "build ops are not supported"),
        (one(pb.Op(passthrough=pb.PassthroughOp())), "there is no result 0"),
        (one(pb.Op(passthrough=pb.PassthroughOp(outputs=[1])), BUSYBOX), "input 1 of 1"),
        (one(pb.Op(passthrough=pb.PassthroughOp(outputs=[-1])), BUSYBOX), "input -1 of 1"),
        (one(pb.Op(source=BUSYBOX.source), BUSYBOX), "a source has no inputs"),
        (
            one(pb.Op(source=BUSYBOX.source, constraints=pb.WorkerConstraints(filter=["a"]))),
            "a choice of workers",
        ),
    ],
)
def test_what_is_no_definition_is_refused_by_name(definition: pb.Definition, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_all(definition)
    assert words in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("index", [-1, 1, 2**62])
def test_a_result_that_is_none_is_refused(index: int) -> None:
    for op in (BUSYBOX, file_op(mkdir("/a", -1, 0)), exec_op(pb.Mount(dest="/m", output=3))):
        builder = Builder()
        inputs = () if op is BUSYBOX else (builder.add(BUSYBOX),)
        digest, _ = builder.add(op, *inputs)
        with pytest.raises(UserError, match="result"):
            read_all(builder.end((digest, index)))


def test_too_many_ops_and_inputs_are_refused() -> None:
    with pytest.raises(UserError, match="at most"):
        graph.parse(pb.Definition(defs=[b""] * (graph.MAX_OPS + 1)))
    many = Builder()
    base = many.add(BUSYBOX)
    with pytest.raises(UserError, match="inputs"):
        graph.parse(many.end(many.add(exec_op(), *[base] * (graph.MAX_INPUTS + 1))))


@pytest.mark.slow
def test_a_chain_of_thousands_and_a_tower_of_diamonds_need_no_recursion() -> None:
    builder = Builder()
    edge = builder.add(BUSYBOX)
    for number in range(5000):
        edge = builder.add(exec_op(args=[str(number)]), edge)
    for number in range(200):
        merge = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=0), pb.MergeInput(input=1)]))
        edge = builder.add(merge, edge, builder.add(exec_op(args=[f"d{number}"]), edge))
    with watchdog.ends():
        found = read_all(builder.end(edge))
    assert sum(1 for _ in walk(found.result)) == 1 + 5000 + 400


def test_lines_of_the_clients_file_come_along() -> None:
    definition = one(exec_op(), BUSYBOX)
    digest = Digest.of(definition.defs[1])
    source = definition.Source
    source.infos.add(filename="Dockerfile", data=b"FROM busybox\nRUN x\n")
    locations = source.locations[digest].locations
    locations.add(ranges=[pb.Range(start=pb.Position(line=2), end=pb.Position(line=2))])
    locations.add(sourceIndex=7)  # of no file
    locations.add(ranges=[pb.Range(start=pb.Position(line=-5))])
    found = read_all(definition)
    assert found.result.meta.spans == (Span("Dockerfile", 2, 2),)
    assert found.files == {"Dockerfile": b"FROM busybox\nRUN x\n"}


def test_an_op_that_passes_inputs_on_needs_all_of_them() -> None:
    builder = Builder()
    one_input, other = builder.add(BUSYBOX), builder.add(exec_op(), builder.add(BUSYBOX))
    passed = builder.add(
        pb.Op(passthrough=pb.PassthroughOp(id="x", outputs=[1, 0])), one_input, other
    )
    step = builder.add(exec_op(pb.Mount(dest="/m", input=1, output=-1)), passed, (passed[0], 1))
    result = read_all(builder.end(step)).result
    first, second = result.inputs
    assert (first.op, second.op) == (PassOp(output=1, id="x"), PassOp(output=0, id="x"))
    assert first.inputs == second.inputs and len(first.inputs) == 2
    again = read_all(write(result)).result
    assert [vertex.op for vertex in walk(again)].count(PassOp(output=0, id="x")) >= 1
