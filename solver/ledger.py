"""The books of the state machine: nodes, jobs, tickets, and who wants what of whom.

Here is how wants are kept consistent; when something is wanted, and what follows from an answer, is
decided in `state.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pybuild.solver.job import Job
from pybuild.solver.messages import (
    Cancel,
    DigestContent,
    Identify,
    Instruction,
    Phase,
    Probe,
    Run,
    Tell,
)
from pybuild.solver.node import Alias, Grade, Node, NodeId


class Ledger:
    """Nodes and their wants.

    Attributes:
        tickets: the open instructions, and the node of each.
        leaders: for each key that is being made, the node that makes it.
        by_key: the nodes that have each key.
    """

    def __init__(self, first_ticket: int = 1) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.jobs: dict[str, Job] = {}
        self.tickets: dict[int, tuple[Node, Instruction]] = {}
        self.leaders: dict[str, Node] = {}
        self.by_key: dict[str, dict[NodeId, Node]] = {}
        self.next_ticket = first_ticket
        self._out: list[Instruction] = []
        self._key_work: deque[Node] = deque()
        self._work: deque[Node] = deque()

    # --- the graph ----------------------------------------------------------------------------------

    def _drop_if_unused(self, node: Node) -> None:
        stack = [node]
        while stack:
            node = stack.pop()
            if node.jobs or node.wanters or node.key_wanters or node.users:
                continue
            if self.nodes.pop(node.id, None) is None:
                continue
            self._give_up(node)
            if node.key is not None:
                same = self.by_key[node.key]
                del same[node.id]
                if not same:
                    del self.by_key[node.key]
            for source in node.distinct:
                source.users.pop(node.id, None)
                stack.append(source)

    def _give_up(self, node: Node) -> None:
        """Stop all that goes on for a node, and let others of its key lead."""
        for ticket in sorted(node.tickets):
            del self.tickets[ticket]
            self._say(Cancel(ticket), node)
        node.tickets.clear()
        node.running = node.probe = 0
        node.began = False
        if not node.key_settled:
            node.identity_requested = False
            if node.alias is Alias.PROBING:
                node.alias = Alias.NOT_YET
        if node.key is not None and self.leaders.get(node.key) is node:
            del self.leaders[node.key]

    # --- wants --------------------------------------------------------------------------------------

    def _touch(self, node: Node) -> None:
        self._key_work.append(node)
        self._work.append(node)

    def desired(self, node: Node) -> tuple[bool, dict[NodeId, Grade]]:
        """Return the needs of a node now: whether its inputs' keys, and which results by node."""
        grade = node.grade
        if node.solved is not None or (grade is None and not node.key_wanters):
            return False, {}
        held = dict.fromkeys(node.wants, Grade.HOLD)
        if not node.key_settled:
            if not node.seeks_key:
                return node.wants_keys, held
            if node.fresh or (node.late and node.alias is not Alias.PROBING):
                return True, {i.id: Grade.GO for i in node.distinct}
            if node.alias is Alias.NO:
                return True, {node.inputs[n].id: Grade.GO for n in node.content}
            return True, held
        if grade is None:
            return False, {}
        if grade is Grade.HOLD or not node.missed:
            return False, held
        if node.leader is not None:
            return False, {node.leader.id: Grade.GO}
        return False, {i.id: Grade.GO for i in node.distinct}

    def _reconcile(self, node: Node) -> None:
        """Make what is registered of a node's wants what it desires, all the way down."""
        stack = [node]
        while stack:
            node = stack.pop()
            wants_keys, wants = self.desired(node)
            if wants_keys != node.wants_keys:
                node.wants_keys = wants_keys
                for source in node.key_inputs:
                    if wants_keys:
                        source.key_wanters.add(node.id)
                        self._touch(source)
                    else:
                        source.key_wanters.discard(node.id)
                        stack.append(source)
            if wants != node.wants:
                for gone in node.wants.keys() - wants.keys():
                    other = self.nodes[gone]
                    other.wanters.pop(node.id, None)
                    stack.append(other)
                for needed, grade in wants.items():
                    if node.wants.get(needed) != grade:
                        other = self.nodes[needed]
                        other.wanters[node.id] = grade
                        if grade is Grade.HOLD:
                            stack.append(other)
                        self._touch(other)
                node.wants = wants
            if node.leader is not None and node.leader.id not in wants:
                node.leader = None
            if node.running and node.grade is None and not self.may_be_needed(node):
                self._give_up(node)
                node.story.append("no longer needed")
            self._drop_if_unused(node)

    def may_be_needed(self, node: Node) -> bool:
        """Return whether some job may still come to need a node; its run is then not stopped."""
        jobs = (self.jobs.get(name) for name in node.jobs)
        return any(job is not None and not job.is_settled(node) for job in jobs)

    def _wanting(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes that wait for any of these, themselves included."""
        stack = list(nodes)
        waiting = {node.id: node for node in stack}
        while stack:
            node = stack.pop()
            for wanter in (*node.wanters, *node.key_wanters):
                if isinstance(wanter, NodeId) and wanter not in waiting:
                    waiting[wanter] = self.nodes[wanter]
                    stack.append(waiting[wanter])
        return list(waiting.values())

    def _jobs_wanting(self, node: Node) -> list[str]:
        """Return the jobs for which somebody waits for this node, in the order they came."""
        names = {w for n in self._wanting([node]) for w in n.wanters if isinstance(w, str)}
        return [name for name in self.jobs if name in names]

    # --- equal work ---------------------------------------------------------------------------------

    def _followers(self, node: Node) -> list[Node]:
        return [
            follower
            for wanter in node.wanters
            if isinstance(wanter, NodeId) and (follower := self.nodes[wanter]).leader is node
        ]

    def _hand_over(self, node: Node) -> None:
        """Let those who follow a node do the work themselves.

        For when something below it failed: that need not concern them, as their inputs may be
        other ones. (The end of the leader's job is no reason: what runs for it goes on.)
        """
        followers = self._followers(node)
        if not followers:
            return
        assert node.key is not None
        del self.leaders[node.key]
        for follower in followers:
            follower.leader = None
        for follower in followers:
            self._reconcile(follower)
            self._touch(follower)

    def _runner_of(self, node: Node) -> str:
        """Return the job whose runner serves a node: one that wants it."""
        if len(node.jobs) == 1:
            return next(iter(node.jobs))
        wanting = self._jobs_wanting(node)
        return next((job for job in wanting if job in node.jobs), wanting[0])

    # --- saying -------------------------------------------------------------------------------------

    def _ticket(self) -> int:
        self.next_ticket += 1
        return self.next_ticket - 1

    def _ask(self, node: Node, what: Identify | Probe | DigestContent | Run) -> None:
        self.tickets[what.ticket] = (node, what)
        node.tickets.add(what.ticket)
        self._say(what, node)

    def _say(self, what: Instruction, node: Node | None = None) -> None:
        if node is not None:
            node.story.append(type(what).__name__)
        self._out.append(what)

    def _tell(
        self,
        job: Job,
        node: Node,
        phase: Phase,
        *,
        error: str = "",
        cancelled: bool = False,
        peer: str = "",
    ) -> None:
        if job.may_tell(node, phase):
            self._say(Tell(job.name, node.vertex, phase, error, cancelled, peer))

    def _tell_all(self, job: Job, nodes: Iterable[Node], phase: Phase) -> None:
        for node in sorted(nodes, key=job.nodes.__getitem__):
            self._tell(job, node, phase)
