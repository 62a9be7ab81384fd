"""The inputs of one build's vertices as snapshots, and what was read of clients' directories for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pybuild.executor.files.values import Remark
from pybuild.executor.trees.contextcopies import ContextCopies
from pybuild.executor.trees.fileops import ContextCopy
from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError
from pybuild.model.events import BuildWarning, Emit
from pybuild.model.ops import Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot


class VertexInputs:
    """The inputs of one build's vertices; a client's directory is copied into the store for that."""

    def __init__(self, copies: ContextCopies) -> None:
        self._copies = copies
        self._read: dict[Digest, dict[int, Mapping[Selection, ContentDigest]]] = {}

    async def snapshot(
        self, vertex: Vertex, inputs: Sequence[Result], index: int, emit: Emit
    ) -> Snapshot:
        """Return the input number *index* as a snapshot."""
        if isinstance(result := input_of(vertex, inputs, index), Snapshot):
            return result
        return (await self.copy(vertex, index, result, "/", emit)).snapshot

    async def copy(
        self, vertex: Vertex, index: int, tree: LocalTree, path: str, emit: Emit
    ) -> ContextCopy:
        """Return a copy of *path* in a client's directory, which is the input number *index*."""
        copy = await self._copies.snapshot(tree, path, warning(emit))
        self.note(vertex, {index: copy.contents})
        return copy

    def note(self, vertex: Vertex, contents: Contents) -> None:
        """Keep what was read of inputs, by their number, until `take`."""
        read = self._read.setdefault(vertex.digest, {})
        for index, one in contents.items():
            read[index] = {**read.get(index, {}), **one}

    def read_of(self, vertex: Vertex) -> Contents:
        """Return the contents that were read for *vertex* so far."""
        return self._read.get(vertex.digest, {})

    def take(self, vertex: Vertex) -> Contents:
        """Return the contents that were read for *vertex*, and forget them."""
        return self._read.pop(vertex.digest, {})


def input_of(vertex: Vertex, inputs: Sequence[Result], index: int) -> Result:
    """Return the result of the input number *index*."""
    if not 0 <= index < len(inputs):
        raise InternalError(f'vertex "{vertex.meta.name}" refers to input {index} of {len(inputs)}')
    return inputs[index]


def warning(emit: Emit) -> Callable[[str], None]:
    """Return a function that emits a warning with a text."""
    return lambda message: emit(BuildWarning(message=message))


def advice_of(remark: Remark, vertex: Vertex) -> BuildWarning:
    """Return the advice about the instruction of *vertex*."""
    from pybuild.model.advice import COPIED_NOTHING, COPIED_OVER, LARGE_CONTEXT, UNKNOWN_OWNER

    kinds = {
        "nothing": COPIED_NOTHING,
        "over": COPIED_OVER,
        "owner": UNKNOWN_OWNER,
        "large": LARGE_CONTEXT,
    }
    return kinds[remark.kind].warning(*remark.values, spans=vertex.meta.spans)
