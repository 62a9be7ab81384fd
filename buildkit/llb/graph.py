"""A received definition as a checked graph: its ops, those that are needed, and their order.

What arrives is hostile input. An op's id is the digest of exactly the bytes that came, so an op
cannot name itself or one that names it, and whatever is not named from the last entry is never
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import ops as pb
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.span import Span

MAX_OPS = 50_000
MAX_INPUTS = 10_000
MAX_QUOTED = 200
_MAX_LINE = 1 << 31


@dataclass(frozen=True, slots=True)
class Edge:
    """One result of one op."""

    digest: Digest
    index: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An op as it came.

    Attributes:
        inputs: checked to be there.
        metadata: facts about it outside of its id.
        spans: its places in a file of the client.
    """

    digest: Digest
    op: pb.Op
    inputs: tuple[Edge, ...]
    metadata: pb.OpMetadata
    spans: tuple[Span, ...]

    def edge(self, index: int, what: str) -> Edge | None:
        """Return the edge of input *index*; None for -1, which means nothing.

        Raises:
            UserError: there is no such input; *what* names who asks.
        """
        if index == -1:
            return None
        if not 0 <= index < len(self.inputs):
            raise self.wrong(f"{what} refers to input {index} of {len(self.inputs)}")
        return self.inputs[index]

    def wrong(self, message: str) -> UserError:
        """Return an error that names the op."""
        name = self.metadata.description.get("llb.customname", "")
        where = f'"{shortened(name)}"' if name else self.digest[:19]
        return UserError(f"invalid definition: op {where}: {message}", spans=self.spans)


@dataclass(frozen=True, slots=True)
class Graph:
    """The ops that a result needs.

    Attributes:
        entries: by id, each after those it needs.
        used: per id, which of its results somebody needs.
        root: the result.
        files: contents of the files that spans name.
        infos: what else is said of them.
    """

    entries: dict[Digest, Entry]
    used: dict[Digest, frozenset[int]]
    root: Edge
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    infos: dict[str, pb.SourceInfo] = field(default_factory=dict[str, pb.SourceInfo])


def shortened(text: str) -> str:
    """Return *text* as a message quotes it: a stranger's text may be of any length."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"


def parse(definition: pb.Definition) -> Graph:
    """Check *definition* and put it in order.

    Raises:
        UserError: it is empty, or not a definition.
    """
    if not definition.defs:
        raise UserError("invalid nil input definition to definition op")
    if len(definition.defs) > MAX_OPS:
        raise UserError(
            f"definition has {len(definition.defs)} ops, at most {MAX_OPS} are possible"
        )
    raw: dict[Digest, bytes] = {}
    last = Digest("")
    for data in definition.defs:
        last = Digest.of(data)
        raw[last] = data
    source = _Source(definition.Source)
    terminal = _entry(last, raw, definition, source)
    if terminal.op.WhichOneof("op") is not None or len(terminal.inputs) != 1:
        raise UserError("invalid definition: the last op does not name the result")
    root = terminal.inputs[0]
    entries: dict[Digest, Entry] = {}
    used: dict[Digest, set[int]] = {}
    pending: dict[Digest, Entry] = {}
    stack: list[Digest] = [root.digest]
    used[root.digest] = {root.index}
    while stack:
        digest = stack[-1]
        if digest in entries:
            stack.pop()
        elif digest in pending:
            stack.pop()
            entries[digest] = pending.pop(digest)
        else:
            entry = pending[digest] = _entry(digest, raw, definition, source)
            for edge in reversed(entry.inputs):
                used.setdefault(edge.digest, set()).add(edge.index)
                if edge.digest not in entries:
                    stack.append(edge.digest)
    frozen = {digest: frozenset(indexes) for digest, indexes in used.items()}
    return Graph(entries, frozen, root, source.files, source.infos)


def _entry(
    digest: Digest, raw: dict[Digest, bytes], definition: pb.Definition, source: _Source
) -> Entry:
    try:
        op = pb.Op.FromString(raw[digest])
    except DecodeError as error:
        raise UserError(f"invalid definition: op {digest[:19]} cannot be read") from error
    if len(op.inputs) > MAX_INPUTS:
        raise UserError(f"invalid definition: op {digest[:19]} has {len(op.inputs)} inputs")
    edges: list[Edge] = []
    for item in op.inputs:
        if item.digest not in raw:
            raise UserError(f"invalid missing input digest {shortened(item.digest)}")
        if item.index < 0:
            raise UserError(f"invalid definition: result {item.index} of op {item.digest[:19]}")
        edges.append(Edge(Digest(item.digest), item.index))
    # Looking a key up in a protobuf map would add it.
    has_metadata = digest in definition.metadata
    metadata = definition.metadata[digest] if has_metadata else pb.OpMetadata()
    return Entry(digest, op, tuple(edges), metadata, tuple(source.spans(digest)))


class _Source:
    """The places that ops come from; contradictions are left out, since it only explains."""

    def __init__(self, source: pb.Source) -> None:
        self._source = source
        self._names: list[str] = [info.filename for info in source.infos]
        self.files = {info.filename: info.data for info in source.infos if info.data}
        self.infos = {info.filename: info for info in source.infos}

    def spans(self, digest: Digest) -> Iterator[Span]:
        if digest not in self._source.locations:
            return
        # The last one is the nearest, and is shown first.
        for location in reversed(self._source.locations[digest].locations):
            if not 0 <= location.sourceIndex < len(self._names):
                continue
            name = self._names[location.sourceIndex]
            for item in location.ranges:
                first, last = item.start.line, item.end.line
                if 0 < first <= max(first, last) < _MAX_LINE:
                    yield Span(name, first, max(first, last), item.start.character)
