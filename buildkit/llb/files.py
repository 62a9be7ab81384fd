"""Received file ops as ours.

An action changes the tree of an earlier action or of an input, and may read a second one. Nearly
always that is one chain on one tree, which is what our `FileOp` is. Whatever forks or joins is cut
there into several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pybuild.buildkit.llb import copies, fields
from pybuild.buildkit.llb.graph import Edge, Entry
from pybuild.buildkit.llb.mounts import SCRATCH
from pybuild.buildkit.pb import ops as pb
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    FileAction,
    FileOp,
    Mkdir,
    Mkfile,
    Owner,
    Rm,
    Symlink,
    Vertex,
    VertexMeta,
)

_MAX_ACTIONS = 10_000


@dataclass(frozen=True, slots=True)
class ReceivedActions:
    """The place of a vertex in the received op *op*, which may be several of ours.

    Attributes:
        numbers: per action of the vertex, the number of the received one.
        trees: per input of the vertex, what received actions call it: the op's inputs come first,
            then the trees that its actions make.
    """

    op: Digest
    numbers: tuple[int, ...]
    trees: tuple[int, ...]


_NOTHING = -1


class _Chain:
    """Actions done in order on one tree."""

    def __init__(self, base: Vertex, reference: int) -> None:
        self.base = base
        self.references = {reference}  # what ops call the base or the tree while it changes
        self.actions: list[FileAction] = []
        self.numbers: list[int] = []
        self.trees = [reference]
        self.inputs: list[Vertex] = []
        self._numbers: dict[Vertex, int] = {}
        self.made: Vertex | None = None

    def index(self, source: Vertex, reference: int) -> int:
        if source not in self._numbers:
            self.inputs.append(source)
            self.trees.append(reference)
            self._numbers[source] = len(self.inputs)
        return self._numbers[source]

    def vertex(self, meta: VertexMeta) -> Vertex:
        if self.made is None:
            op = FileOp(actions=tuple(self.actions))
            self.made = Vertex(op, (self.base, *self.inputs), meta)
            _ = self.made.digest  # known from the bottom up, so that none recurses deeply
        return self.made


def read_file(
    entry: Entry,
    used: frozenset[int],
    meta: VertexMeta,
    tree: Callable[[Edge], Vertex],
    places: dict[Digest, ReceivedActions],
) -> dict[int, Vertex]:
    """Return the results in *used*, by number.

    Args:
        tree: returns the vertex of an edge.
        places: gets where the vertices come from, by their digests.

    Raises:
        UserError: it cannot be, or asks for what we do not have.
    """
    actions = list(entry.op.file.actions)
    if not actions:
        raise entry.wrong("invalid file op with no actions")
    if len(actions) > _MAX_ACTIONS:
        raise entry.wrong(f"{len(actions)} actions")
    reader = _Reader(entry, actions, used, meta, tree)
    results = reader.results()
    places.update(reader.places())
    return results


class _Reader:
    def __init__(
        self,
        entry: Entry,
        actions: list[pb.FileAction],
        used: frozenset[int],
        meta: VertexMeta,
        tree: Callable[[Edge], Vertex],
    ) -> None:
        self._entry = entry
        self._actions = actions
        self._used = used
        self._meta = meta
        self._tree = tree
        self._first = len(entry.inputs)  # the number of the first action's tree
        self._chains: list[_Chain] = []
        self._counts = self._count()

    def results(self) -> dict[int, Vertex]:
        results: dict[int, Vertex] = {}
        for number, action in enumerate(self._actions):
            chain = self._chain_of(action)
            chain.references.add(self._first + number)
            self._chains.append(chain)
            chain.actions.extend(self._read(action, chain))
            chain.numbers.extend([number] * (len(chain.actions) - len(chain.numbers)))
            if action.output in self._used:
                if action.output in results:
                    raise self._entry.wrong(f"result {action.output} is that of two actions")
                results[action.output] = chain.vertex(self._meta)
        missing = sorted(self._used - set(results))
        if missing:
            raise self._entry.wrong(f"there is no result {missing[0]}")
        return results

    def places(self) -> Iterator[tuple[Digest, ReceivedActions]]:
        """Yield where the vertices come from that were made."""
        for chain in self._chains:
            if chain.made is not None:
                place = ReceivedActions(
                    self._entry.digest, tuple(chain.numbers), tuple(chain.trees)
                )
                yield chain.made.digest, place

    # --- who uses what ---

    def _count(self) -> list[int]:
        """Count the uses of each action's tree; also checks the actions' references."""
        counts = [0] * len(self._actions)
        for number, action in enumerate(self._actions):
            references = [action.input]
            if action.WhichOneof("action") == "copy":
                references.append(action.secondaryInput)
            for reference in references:
                if not _NOTHING <= reference < self._first + number:
                    raise self._entry.wrong(f"action {number} refers to tree {reference}")
                if reference >= self._first:
                    counts[reference - self._first] += 1
            if action.output in self._used:
                counts[number] += 1
        return counts

    def _chain_of(self, action: pb.FileAction) -> _Chain:
        before = action.input - self._first
        if before >= 0 and self._counts[before] == 1:
            return self._chains[before]
        return _Chain(self._vertex(action.input), action.input)

    def _vertex(self, reference: int) -> Vertex:
        if reference >= self._first:
            return self._chains[reference - self._first].vertex(self._meta)
        edge = self._entry.edge(reference, "an action")
        return SCRATCH if edge is None else self._tree(edge)

    # --- actions ---

    def _read(self, action: pb.FileAction, chain: _Chain) -> Iterator[FileAction]:
        kind = action.WhichOneof("action")
        match kind:
            case "copy":
                reference = action.secondaryInput
                source = chain.index(self._vertex(reference), reference)
                yield from copies.read_copy(
                    self._entry, action.copy, source, self._owner(action.copy, chain)
                )
            case "mkdir":
                yield self._mkdir(action.mkdir, chain)
            case "mkfile":
                mkfile = action.mkfile
                mtime, mtime_ns = fields.moment(mkfile.timestamp)
                path = fields.path(mkfile.path, "mkfile")
                yield Mkfile(
                    path=path,
                    data=mkfile.data,
                    mode=fields.mode(mkfile.mode, "mkfile"),
                    make_parents=copies.is_top(path),
                    owner=self._owner(mkfile, chain),
                    mtime=mtime,
                    mtime_ns=mtime_ns,
                )
            case "symlink":
                link = action.symlink
                mtime, mtime_ns = fields.moment(link.timestamp)
                yield Symlink(
                    path=fields.path(link.newpath, "symlink"),
                    target=fields.text(link.oldpath, "symlink"),
                    owner=self._owner(link, chain),
                    mtime=mtime,
                    mtime_ns=mtime_ns,
                )
            case "rm":
                yield Rm(
                    path=fields.path(action.rm.path, "rm"),
                    wildcard=action.rm.allowWildcard,
                    allow_not_found=action.rm.allowNotFound,
                )
            case None:
                raise self._entry.wrong("a file action of an unknown kind")

    def _mkdir(self, mkdir: pb.FileActionMkDir, chain: _Chain) -> Mkdir:
        mtime, mtime_ns = fields.moment(mkdir.timestamp)
        return Mkdir(
            path=fields.path(mkdir.path, "mkdir"),
            mode=fields.mode(mkdir.mode, "mkdir"),
            make_parents=mkdir.makeParents,
            owner=self._owner(mkdir, chain),
            mtime=mtime,
            mtime_ns=mtime_ns,
        )

    def _owner(
        self,
        action: pb.FileActionCopy | pb.FileActionMkDir | pb.FileActionMkFile | pb.FileActionSymlink,
        chain: _Chain,
    ) -> Owner | None:
        if not action.HasField("owner"):
            return None
        owner = action.owner
        user = self._id(owner.user, chain) if owner.HasField("user") else "0"
        group = self._id(owner.group, chain) if owner.HasField("group") else None
        return Owner(user=user, group=group)

    def _id(self, option: pb.UserOpt, chain: _Chain) -> str:
        """Return a number, or a name, which is looked up in the tree that the actions change."""
        match option.WhichOneof("user"):
            case "byID":
                return str(fields.owner_id(option.byID, "an owner"))
            case "byName":
                name, where = option.byName.name, option.byName.input
                if not name or "\0" in name or ":" in name:
                    raise self._entry.wrong(f'invalid owner "{name}"')
                if where == _NOTHING:
                    raise self._entry.wrong(f'invalid user index: -1: "{name}"')
                if where not in chain.references and not self._is_base(where, chain):
                    raise self._entry.wrong(
                        f'the owner "{name}" is to be looked up in another tree, '
                        "which is not supported"
                    )
                return name
            case _:
                raise self._entry.wrong("an owner is neither a name nor a number")

    def _is_base(self, reference: int, chain: _Chain) -> bool:
        if not 0 <= reference < self._first:
            return False
        return self._vertex(reference) == chain.base
