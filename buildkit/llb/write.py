"""Our vertices as a definition that BuildKit's tools and servers read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import field

from pybuild.buildkit.llb import writeexec, writefiles
from pybuild.buildkit.llb.graph import Edge
from pybuild.buildkit.llb.names import CUSTOM
from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.llb.sources import write_git, write_http, write_local
from pybuild.buildkit.llb.stepsettings import write_limits
from pybuild.buildkit.pb import ops as pb
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    DiffOp,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MergeOp,
    OciLayoutSource,
    PassOp,
    ScratchSource,
    Vertex,
    walk,
)
from pybuild.model.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Facts for the definition that vertices do not have.

    Attributes:
        locals: the queries of the client's directories, by the names of their sources; one that is
            not there has its own name and the source's exclusions for a query.
        layouts: the store in the client's session that is an OCI layout, by the source's path.
        files: contents of the files that spans name, to be shown in errors.
    """

    locals: Mapping[str, LocalQuery] = field(default_factory=dict[str, LocalQuery])
    layouts: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


def write(result: Vertex, options: WriteOptions | None = None) -> pb.Definition:
    """Return the definition of *result*; of the empty tree it is empty.

    The same vertices give the same bytes.

    Raises:
        UserError: something in it cannot be said there, such as a name that is no UTF-8.
    """
    return written(result, options)[0]


def written(
    result: Vertex, options: WriteOptions | None = None
) -> tuple[pb.Definition, Mapping[Digest, Edge | None]]:
    """Return the same, and which result of which op each vertex has become; None is scratch."""
    writer = _Writer(options or WriteOptions())
    for vertex in walk(result):
        try:
            writer.add(vertex)
        except UnicodeEncodeError as error:
            raise UserError(
                f'"{vertex.meta.name}" holds text that is not valid UTF-8: {error.object!r}',
                spans=vertex.meta.spans,
            ) from error
    return writer.finish(result), writer.edges


def _encode(op: pb.Op) -> bytes:
    """Return the bytes that BuildKit's own encoder makes of *op*: the kind comes after all other fields.

    Its debugger finds a step by the digest of what it encodes anew.
    """
    kind = pb.Op()
    kind.CopyFrom(op)
    kind.ClearField("inputs")
    kind.ClearField("platform")
    kind.ClearField("constraints")
    rest = pb.Op(inputs=op.inputs)
    if op.HasField("platform"):
        rest.platform.CopyFrom(op.platform)
    if op.HasField("constraints"):
        rest.constraints.CopyFrom(op.constraints)
    return rest.SerializeToString(deterministic=True) + kind.SerializeToString(deterministic=True)


class _Writer:
    def __init__(self, options: WriteOptions) -> None:
        self._options = options
        self._definition = pb.Definition()
        self.edges: dict[Digest, Edge | None] = {}
        self._files: dict[str, int] = {}

    def finish(self, result: Vertex) -> pb.Definition:
        edge = self.edges[result.digest]
        if edge is not None:
            terminal = pb.Op(inputs=[pb.Input(digest=edge.digest, index=edge.index)])
            self._definition.defs.append(terminal.SerializeToString(deterministic=True))
        return self._definition

    def add(self, vertex: Vertex) -> None:
        """Write a vertex whose inputs are written; scratch is none, which an edge of None says."""
        edges = [self.edges[source.digest] for source in vertex.inputs]
        result = 0
        match vertex.op:
            case ScratchSource():
                self.edges[vertex.digest] = None
                return
            case MergeOp():
                edges = [edge for edge in edges if edge is not None]
                if len(edges) < 2:
                    self.edges[vertex.digest] = edges[0] if edges else None
                    return
                op = pb.Op(merge=pb.MergeOp())
                op.merge.inputs.extend(pb.MergeInput(input=n) for n in range(len(edges)))
            case DiffOp():
                op = pb.Op(diff=pb.DiffOp())
                lower, upper = _numbers(edges)
                op.diff.lower.input = lower
                op.diff.upper.input = upper
            case PassOp(output=output, id=id):
                # Scratch is no input; where it is what is passed on, so is the result.
                if edges[output] is None:
                    self.edges[vertex.digest] = None
                    return
                passed = [_numbers(edges)[output]]
                op = pb.Op(passthrough=pb.PassthroughOp(id=id, outputs=passed))
            case FileOp() as file:
                op = pb.Op(file=writefiles.write_file(file, _numbers(edges)))
            case ExecOp() as step:
                seeds = [self._empty_cache(seed) for seed in writeexec.cache_seeds(step)]
                op = pb.Op(exec=writeexec.write_exec(step, _numbers([*edges, *seeds]), len(edges)))
                edges += seeds
                result = writeexec.result_number(step)
                op.platform.CopyFrom(platform_message(step.platform))
            case source:
                op = self._source(source)
        op.inputs.extend(
            pb.Input(digest=edge.digest, index=edge.index) for edge in edges if edge is not None
        )
        digest = self._put(op)
        self._describe(digest, vertex)
        self.edges[vertex.digest] = Edge(digest, result)

    def _empty_cache(self, seed: pb.FileOp | None) -> Edge | None:
        return None if seed is None else Edge(self._put(pb.Op(file=seed)), 0)

    def _put(self, op: pb.Op) -> Digest:
        data = _encode(op)
        digest = Digest.of(data)
        if digest not in self._definition.metadata:
            self._definition.defs.append(data)
            self._definition.metadata[digest].SetInParent()
        return digest

    def _describe(self, digest: Digest, vertex: Vertex) -> None:
        metadata = self._definition.metadata[digest]
        if vertex.meta.name:
            metadata.description[CUSTOM] = vertex.meta.name
        metadata.ignore_cache = vertex.meta.ignore_cache
        if isinstance(vertex.op, ExecOp):
            write_limits(vertex.op.settings.resources, metadata)
        locations = self._definition.Source.locations
        if not vertex.meta.spans or digest in locations:
            return
        for span in vertex.meta.spans:
            location = locations[digest].locations.add(sourceIndex=self._file(span.file))
            place = location.ranges.add()
            place.start.line = span.first_line
            place.end.line = span.last_line

    def _file(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = len(self._files)
            self._definition.Source.infos.add(
                filename=name, data=self._options.files.get(name, b""), language="Dockerfile"
            )
        return self._files[name]

    def _source(
        self, op: ImageSource | LocalSource | HttpSource | GitSource | OciLayoutSource
    ) -> pb.Op:
        match op:
            case ImageSource():
                reference = op.reference.with_digest(op.digest)
                source = pb.SourceOp(identifier=f"docker-image://{reference}")
                if op.layers:
                    source.attrs["image.layerlimit"] = str(op.layers)
                return pb.Op(source=source, platform=platform_message(op.platform))
            case OciLayoutSource():
                store = self._options.layouts.get(op.path)
                if store is None:
                    raise UserError(f'the OCI layout "{op.path}" is not in the session')
                source = pb.SourceOp(identifier=f"oci-layout://{store}@{op.digest}")
                source.attrs["oci.store"] = store
                return pb.Op(source=source, platform=platform_message(op.platform))
            case LocalSource():
                query = self._options.locals.get(op.name)
                if query is None:
                    query = LocalQuery(dir_name=op.name, exclude=op.exclude, shared_key=op.name)
                return pb.Op(source=write_local(query))
            case HttpSource():
                return pb.Op(source=write_http(op))
            case GitSource():
                return pb.Op(source=write_git(op))


def _numbers(edges: list[Edge | None]) -> list[int]:
    """Return the number that each input has in the op; -1 for scratch, which is not there."""
    counted = itertools.count()
    return [-1 if edge is None else next(counted) for edge in edges]


def platform_message(platform: Platform) -> pb.Platform:
    """Return *platform* as the protocol has it."""
    return pb.Platform(
        OS=platform.os,
        Architecture=platform.arch,
        Variant=platform.variant,
        OSVersion=platform.os_version,
    )
