"""A definition that a client sent, as our vertices [remote-api 9].

Pure, like the frontend: what must be known of images is asked for with `NeedAnswers`, and handed in
by calling `read` again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from pybuild.buildkit.llb import execs, files, graph, names
from pybuild.buildkit.llb.graph import Edge, Entry, Graph
from pybuild.buildkit.llb.layered import MOST_DIFFERENCES, layered
from pybuild.buildkit.llb.mounts import SCRATCH
from pybuild.buildkit.llb.queries import (
    Answers,
    BlobQuery,
    BundleQuery,
    ImageQuery,
    LayoutQuery,
    LocalQuery,
    Query,
    UploadQuery,
)
from pybuild.buildkit.llb.sources import SourceOrQuery, read_source
from pybuild.buildkit.pb import ops as pb
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, PybuildError
from pybuild.model.ops import DiffOp, LocalSource, MergeOp, Op, PassOp, Vertex, VertexMeta
from pybuild.model.platform import Platform
from pybuild.model.policy import UndecidedSources
from pybuild.model.span import Span

Call = Callable[[LocalQuery], str]
Rule = Callable[[pb.SourceOp, Platform], None]


@dataclass(frozen=True, slots=True)
class ReceivedOp:
    """The received op that a vertex was made of; clients know it by that id.

    *group*, where given, is what progress shows in place of the single steps.
    """

    digest: Digest
    group: pb.ProgressGroup | None


@dataclass(frozen=True, slots=True)
class ReadDefinition:
    """A definition that can be built.

    Attributes:
        locals: directories of the client, by the name that their `LocalSource` has; a directory
            that is read in several ways is there under several names.
        origins: by a vertex's digest.
        vertices: by a received op's id; of an op with several results, the first that is needed.
        actions: the places of vertices in received file ops, by their digests.
        files, infos: contents of the files that spans name, and what else is said of them, for errors.
    """

    result: Vertex
    locals: dict[str, LocalQuery]
    origins: dict[Digest, ReceivedOp]
    vertices: dict[Digest, Vertex]
    actions: dict[Digest, files.ReceivedActions]
    files: dict[str, bytes]
    infos: dict[str, pb.SourceInfo]


@dataclass(frozen=True, slots=True)
class NeedAnswers:
    """Answer these, all at once, and call `read` again with the answers added.

    Attributes:
        spans: per query, the lines that ask for it, for errors.
    """

    queries: tuple[Query, ...]
    spans: tuple[tuple[Span, ...], ...]


Outcome = ReadDefinition | NeedAnswers


def read(
    definition: pb.Definition,
    *,
    platform: Platform,
    answers: Answers | None = None,
    call: Call | None = None,
    rule: Rule = lambda source, platform: None,
) -> Outcome:
    """Return the vertices of *definition*, or what must be answered first.

    Args:
        platform: of ops that name none.
        call: names a directory of the client, where definitions are read beside each other; the
            same text for equal queries alone.
        rule: judges each source before it is read, and may put another in its place.

    Raises:
        UserError: it is no definition, or asks for what we do not have.
    """
    checked = graph.parse(definition)
    sources = _Sources(checked, platform, call, rule)
    answers = answers or {}
    missing = {
        query: tuple(spans)
        for query, spans in sources.spans_by_query.items()
        if query not in answers
    }
    if missing:
        return NeedAnswers(tuple(missing), tuple(missing.values()))
    reader = _Reader(checked, sources, answers, platform)
    return reader.finish()


async def read_with(
    definition: pb.Definition,
    *,
    platform: Platform,
    resolve: Callable[[NeedAnswers], Awaitable[Answers]],
    in_thread: Callable[[Callable[[], Outcome]], Awaitable[Outcome]],
    call: Call | None = None,
    rule: Rule = lambda source, platform: None,
) -> ReadDefinition:
    """Do `read`, with *resolve* to answer its queries.

    Args:
        in_thread: does what may take long.

    Raises:
        UserError: as `read`; and what *resolve* raises.
    """
    reading = partial(read, definition, platform=platform, call=call, rule=rule)
    outcome = await in_thread(reading)
    if isinstance(outcome, NeedAnswers):
        answers = await resolve(outcome)
        outcome = await in_thread(partial(reading, answers=answers))
    if isinstance(outcome, NeedAnswers):
        raise InternalError(f"no answer for {outcome.queries[0]}")
    return outcome


def _platform(op: pb.Op, default: Platform) -> Platform:
    if not op.HasField("platform") or not (op.platform.OS or op.platform.Architecture):
        return default
    given = op.platform
    return Platform.make(
        given.OS or default.os,
        given.Architecture or default.arch,
        given.Variant,
        given.OSVersion,
    )


class _Sources:
    """All sources, their queries, and a name for each local one."""

    def __init__(
        self,
        checked: Graph,
        platform: Platform,
        call: Call | None,
        rule: Rule,
    ) -> None:
        self._call = call
        self.sources: dict[Digest, SourceOrQuery] = {}
        self.spans_by_query: dict[Query, list[Span]] = {}
        self.locals: dict[str, LocalQuery] = {}
        self._names: dict[LocalQuery, str] = {}
        entries = [one for one in checked.entries.values() if one.op.WhichOneof("op") == "source"]
        gathered = UndecidedSources()
        for entry in entries:
            try:
                with gathered:
                    rule(entry.op.source, _platform(entry.op, platform))
            except PybuildError as error:
                raise error.with_spans(entry.spans) from error.__cause__
        gathered.finish()
        for entry in entries:
            source = self.sources[entry.digest] = read_source(entry, _platform(entry.op, platform))
            if isinstance(source, Query):
                self.spans_by_query.setdefault(source, []).extend(entry.spans)

    def name(self, query: LocalQuery) -> str:
        """Return the name of the directory: the client's, with a number where that is taken."""
        if query not in self._names:
            name, number = query.dir_name, 1
            if self._call is not None:
                name = self._call(query)
            while name in self.locals:
                number += 1
                name = f"{query.dir_name}#{number}"
            self._names[query] = name
            self.locals[name] = query
        return self._names[query]


class _Reader:
    def __init__(
        self, checked: Graph, sources: _Sources, answers: Answers, platform: Platform
    ) -> None:
        self._graph = checked
        self._sources = sources
        self._answers = answers
        self._platform = platform
        self._results: dict[Edge, Vertex] = {}
        self._differences = 0
        self._origins: dict[Digest, ReceivedOp] = {}
        self._vertices: dict[Digest, Vertex] = {}
        self._actions: dict[Digest, files.ReceivedActions] = {}

    def finish(self) -> ReadDefinition:
        for entry in self._graph.entries.values():
            for index, vertex in self._read(entry):
                # Digests are made from the bottom up, so that none recurses deeply.
                self._origins.setdefault(vertex.digest, _origin(entry))
                self._vertices.setdefault(entry.digest, vertex)
                self._results[Edge(entry.digest, index)] = vertex
        return ReadDefinition(
            self._tree(self._graph.root),
            self._sources.locals,
            self._origins,
            self._vertices,
            self._actions,
            self._graph.files,
            self._graph.infos,
        )

    def _tree(self, edge: Edge) -> Vertex:
        return self._results[edge]

    def _read(self, entry: Entry) -> Iterator[tuple[int, Vertex]]:
        """Yield the results of an op that somebody needs."""
        if entry.op.constraints.filter:
            raise entry.wrong("a choice of workers is not supported")
        used = self._graph.used[entry.digest]
        meta = VertexMeta(
            name=names.shown(entry),
            spans=entry.spans,
            ignore_cache=entry.metadata.ignore_cache,
        )
        kind = entry.op.WhichOneof("op")
        match kind:
            case "file":
                results = files.read_file(entry, used, meta, self._tree, self._actions)
                yield from results.items()
                return
            case "exec":
                yield from self._exec(entry, used, meta)
                return
            case "source":
                vertex = Vertex(self._source(entry), meta=meta)
            case "merge":
                vertex = self._merge(entry, meta)
            case "diff":
                vertex = self._diff(entry, meta)
            case "passthrough":
                yield from self._passed(entry, used, meta)
                return
            case "build":
                raise entry.wrong("build ops are not supported")
            case None:
                raise entry.wrong("its kind is not known")
        if used != frozenset((0,)):
            raise entry.wrong(f"there is no result {max(used)}")
        yield 0, vertex

    def _source(self, entry: Entry) -> Op:
        source = self._sources.sources[entry.digest]
        match source:
            case LocalQuery():
                return LocalSource(name=self._sources.name(source), exclude=source.exclude)
            case ImageQuery() | LayoutQuery() | UploadQuery() | BlobQuery() | BundleQuery():
                return self._answers[source]
            case _:
                return source

    def _exec(
        self, entry: Entry, used: frozenset[int], meta: VertexMeta
    ) -> Iterator[tuple[int, Vertex]]:
        platform = _platform(entry.op, self._platform)
        kept = execs.kept_mounts(entry, used)
        for index, number in kept.items():
            shared = frozenset(kept.values()) - {number}
            op, inputs = execs.read_exec(entry, number, shared, platform, self._tree)
            yield index, Vertex(op, inputs, meta)

    def _passed(
        self, entry: Entry, used: frozenset[int], meta: VertexMeta
    ) -> Iterator[tuple[int, Vertex]]:
        received = entry.op.passthrough
        inputs = tuple(self._tree(edge) for edge in entry.inputs)
        for index in sorted(used):
            if index >= len(received.outputs):
                raise entry.wrong(f"there is no result {index}")
            number = received.outputs[index]
            if not 0 <= number < len(inputs):
                raise entry.wrong(f"a result refers to input {number} of {len(inputs)}")
            yield index, Vertex(PassOp(output=number, id=received.id), inputs, meta)

    def _merge(self, entry: Entry, meta: VertexMeta) -> Vertex:
        edges = [entry.edge(item.input, "a merge") for item in entry.op.merge.inputs]
        inputs = tuple(self._tree(edge) for edge in edges if edge is not None)
        match inputs:
            case ():
                return SCRATCH
            case (only,):
                return only
            case _:
                return Vertex(MergeOp(), inputs, meta)

    def _diff(self, entry: Entry, meta: VertexMeta) -> Vertex:
        received = entry.op.diff
        edges = (
            entry.edge(received.lower.input, "a difference"),
            entry.edge(received.upper.input, "a difference"),
        )
        lower, upper = (SCRATCH if edge is None else self._tree(edge) for edge in edges)
        if lower is SCRATCH:
            return upper
        self._differences += 1
        merged: Vertex | None = None
        if self._differences <= MOST_DIFFERENCES:
            merged = layered(lower, upper, meta)
        return merged or Vertex(DiffOp(), (lower, upper), meta)


def _origin(entry: Entry) -> ReceivedOp:
    metadata = entry.metadata
    has_group = metadata.HasField("progress_group")
    return ReceivedOp(entry.digest, metadata.progress_group if has_group else None)
