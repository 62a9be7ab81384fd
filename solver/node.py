"""One vertex as the state machine sees it. Data and questions about it; all moves are in `State`."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any, NamedTuple

from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.named import NamedInputs
from pybuild.model.ops import LocalSource, Vertex
from pybuild.solver import keys
from pybuild.solver.solution import Solved


class NodeId(NamedTuple):
    """A vertex in its scope.

    The scope is empty for what means the same to everybody, so that jobs share it. A vertex above
    a local source (another client's directory has the same definition) or above one whose stored
    result must be ignored belongs to its job; such vertices of two jobs still meet when their
    result keys are equal.
    """

    digest: Digest
    scope: str


class Grade(IntEnum):
    """The degree to which a result is needed.

    HOLD: its wanters are still looking up whether their own results are stored. Work that has begun
    goes on, but nothing new starts.
    """

    HOLD = 1
    GO = 2


class Alias(Enum):
    """The progress of the look-up by definition key, for vertices with content keys."""

    NOT_YET = "not yet"
    PROBING = "probing"
    NO = "no"


class Node:
    """A vertex being solved.

    Attributes:
        content: the selections that count by content, per input index.
        fresh: no stored result may be used: asked for, or because an input that counts by key
            is fresh, as a key cannot tell the new bytes from the old ones [KEY-13].
        alias: starts as NO where a definition key cannot say anything.
        key_inputs: inputs whose keys must be known before anything can be looked up.
        wanters: those that need the result: ids of nodes, and names of jobs whose target this is.
        key_wanters: nodes that want the key.
        wants, wants_keys: the other side of these two.
        keys_missing, results_missing: counts over distinct inputs (of `key_inputs`, of all).
        late: the key cannot be known before something runs; see `State`.
        missed: looked up, not stored (or not to be looked up): wanted means run.
        leader: another node of the same key that does the work.
        losses: how often an input was gone when it was to be read.

    A graph has ten thousand; without slots each would take two kilobytes more.
    """

    __slots__ = (
        "_definition_part",
        "_key_part",
        "_named_inputs",
        "alias",
        "began",
        "content",
        "content_ids",
        "digests",
        "distinct",
        "fresh",
        "id",
        "identity",
        "identity_requested",
        "inputs",
        "jobs",
        "key",
        "key_ids",
        "key_inputs",
        "key_settled",
        "key_wanters",
        "keys_missing",
        "late",
        "leader",
        "losses",
        "missed",
        "probe",
        "results_missing",
        "running",
        "solved",
        "story",
        "tickets",
        "users",
        "vertex",
        "wanters",
        "wants",
        "wants_keys",
    )

    def __init__(
        self,
        node_id: NodeId,
        vertex: Vertex,
        inputs: tuple[Node, ...],
        content: keys.ContentInputs,
        fresh: bool,
    ) -> None:
        self.id = node_id
        self.vertex = vertex
        self.inputs = inputs
        self.distinct: tuple[Node, ...] = tuple({i.id: i for i in inputs}.values())
        self.content = content
        self.fresh = fresh
        # A local source never has a key, and a fresh input's old key says nothing of its new bytes.
        no_alias = fresh or any(
            self.inputs[i].fresh or self.inputs[i].is_local for i in self.content
        )
        self.alias = Alias.NO if no_alias or not self.content else Alias.NOT_YET
        self.key_inputs: tuple[Node, ...] = (
            self.distinct
            if self.alias is Alias.NOT_YET
            else tuple({i.id: i for n, i in enumerate(inputs) if n not in self.content}.values())
        )
        self.key_ids = frozenset(i.id for i in self.key_inputs)
        self.content_ids = frozenset(inputs[n].id for n in self.content)
        self.digests: dict[tuple[int, int], ContentDigest] = {}
        self.identity: Digest | None = None
        self.identity_requested = False

        self.jobs: dict[str, None] = {}
        self.users: dict[NodeId, Node] = {}
        self.wanters: dict[NodeId | str, Grade] = {}
        self.key_wanters: set[NodeId] = set()
        self.wants: dict[NodeId, Grade] = {}
        self.wants_keys = False

        self.key: Digest | None = None
        self.key_settled = False
        self.keys_missing = sum(not i.key_settled for i in self.key_inputs)
        self.results_missing = sum(i.solved is None for i in self.distinct)
        self.late = False
        self.missed = False
        self.leader: Node | None = None
        self.losses = 0
        self.probe = 0
        self.running = 0
        self.began = False
        self.tickets: set[int] = set()
        self.solved: Solved | None = None
        self.story: list[str] = []
        self._definition_part: dict[str, Any] | None = None
        self._key_part: dict[str, Any] | None = None
        self._named_inputs: NamedInputs | None = None

    def __repr__(self) -> str:
        return f"<{self.vertex.meta.name or type(self.vertex.op).__name__} {self.id.digest.short}>"

    @property
    def is_local(self) -> bool:
        return isinstance(self.vertex.op, LocalSource)

    @property
    def grade(self) -> Grade | None:
        """The strongest want."""
        if not self.wanters:
            return None
        return Grade.GO if Grade.GO in self.wanters.values() else Grade.HOLD

    @property
    def seeks_key(self) -> bool:
        """Return whether a node waits for the key now."""
        return not self.key_settled and (bool(self.key_wanters) or self.grade is Grade.GO)

    @property
    def will_run(self) -> bool:
        """Return whether the result, when needed, has to be made. Reading a local tree does not count."""
        if self.solved is not None or self.is_local:
            return False
        return self.missed or self.fresh or (self.key_settled and self.key is None)

    @property
    def definition_part(self) -> dict[str, Any]:
        if self._definition_part is None:
            self._definition_part = keys.definition_part(self.vertex.op)
        return self._definition_part

    @property
    def key_part(self) -> dict[str, Any]:
        """Return the op's part of the result key."""
        if not self.content:
            return self.definition_part
        if self._key_part is None:
            self._key_part = keys.content_part(self.vertex, self.content)
        return self._key_part

    def key_parts(self) -> list[keys.KeyInput] | None:
        """Return the part of each input in the result key; None while one is missing."""
        parts: list[keys.KeyInput] = []
        for index, source in enumerate(self.inputs):
            if index in self.content:
                digests = [self.digests.get((index, n)) for n in range(len(self.content[index]))]
                whole = [d for d in digests if d is not None]
                if len(whole) < len(digests):
                    return None
                parts.append(keys.ByContent(tuple(whole)))
            elif source.key is None:
                return None
            else:
                parts.append(keys.ByKey(source.key))
        return parts

    @property
    def named_inputs(self) -> NamedInputs:
        """Return the key's parts by name; only once it is settled, since they are computed but once."""
        if self._named_inputs is None:
            sources = [keys.NamedSource(source.vertex, source.identity) for source in self.inputs]
            self._named_inputs = keys.named_inputs(
                self.key_part,
                sources,
                self.key_parts() or [],
                self.identity,
                self.vertex.meta.secrets,
            )
        return self._named_inputs

    def forget_parts(self) -> None:
        """Let go of what only looking the result up and storing it take; it is made again if asked."""
        self._definition_part = self._key_part = self._named_inputs = None
