"""Definitions for tests: made of messages, and read with every image answered by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pybuild.buildkit.llb.queries import Answer, ImageQuery, LayoutQuery, Query
from pybuild.buildkit.llb.read import NeedAnswers, ReadDefinition, read
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.ops import HttpSource, ImageSource, OciLayoutSource
from pybuild.model.platform import LINUX_AMD64

BUSYBOX = pb.Op(source=pb.SourceOp(identifier="docker-image://docker.io/library/busybox:latest"))


class Builder:
    """Puts ops into a definition, one after the other; an edge is an op's id and a result."""

    def __init__(self) -> None:
        self.definition = pb.Definition()

    def add(self, op: pb.Op, *inputs: tuple[str, int], name: str = "") -> tuple[str, int]:
        copy = pb.Op()
        copy.CopyFrom(op)
        copy.inputs.extend(pb.Input(digest=digest, index=index) for digest, index in inputs)
        data = copy.SerializeToString(deterministic=True)
        self.definition.defs.append(data)
        digest = Digest.of(data)
        if name:
            self.definition.metadata[digest].description["llb.customname"] = name
        return digest, 0

    def end(self, edge: tuple[str, int]) -> pb.Definition:
        self.add(pb.Op(), edge)
        return self.definition


def one(op: pb.Op, *inputs: pb.Op) -> pb.Definition:
    """Return the definition whose result is *op* on *inputs*, sources or the like."""
    builder = Builder()
    return builder.end(builder.add(op, *[builder.add(item) for item in inputs]))


def exec_op(*mounts: pb.Mount, args: Iterable[str] = ("true",)) -> pb.Op:
    """Return an exec in the root that is input 0, with more mounts."""
    meta = pb.Meta(args=args, cwd="/")
    return pb.Op(exec=pb.ExecOp(meta=meta, mounts=[pb.Mount(dest="/"), *mounts]))


def file_op(*actions: pb.FileAction) -> pb.Op:
    return pb.Op(file=pb.FileOp(actions=actions))


def mkdir(path: str, input: int, output: int = -1) -> pb.FileAction:
    made = pb.FileActionMkDir(path=path, mode=0o755, timestamp=-1)
    return pb.FileAction(input=input, secondaryInput=-1, output=output, mkdir=made)


def copy(input: int, secondary: int, output: int = -1, **fields: object) -> pb.FileAction:
    fields = {"createDestPath": True, **fields}
    made = pb.FileActionCopy(mode=-1, timestamp=-1, **fields)  # type: ignore[arg-type]  # pyright: ignore
    return pb.FileAction(input=input, secondaryInput=secondary, output=output, copy=made)


def answer(query: Query) -> Answer:
    match query:
        case ImageQuery(reference=reference, platform=platform):
            digest = reference.digest or Digest.of(str(reference).encode())
            return ImageSource(digest=digest, reference=reference, platform=platform)
        case LayoutQuery(reference=reference, platform=platform, store=store):
            assert reference.digest is not None
            return OciLayoutSource(path=store, digest=reference.digest, platform=platform)
        case _:
            return HttpSource(url="http://uploaded/", checksum=Digest.of(b""), filename="context")


def answers(need: NeedAnswers) -> Mapping[Query, Answer]:
    return {query: answer(query) for query in need.queries}


def read_all(definition: pb.Definition) -> ReadDefinition:
    found = read(definition, platform=LINUX_AMD64)
    if isinstance(found, NeedAnswers):
        found = read(definition, platform=LINUX_AMD64, answers=answers(found))
    assert isinstance(found, ReadDefinition)
    return found
