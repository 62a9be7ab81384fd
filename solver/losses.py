"""Results that are gone when somebody reads them: unknown again, with all that is made on top of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from pybuild.model.snapshot import Snapshot
from pybuild.solver.keyring import Keyring
from pybuild.solver.messages import DigestContent, Instruction, Run
from pybuild.solver.node import Node

MOST_LOSSES = 32
"""So often a vertex may find that an input is gone; then it fails."""


class Losses(Keyring):
    """Has made again what is gone and needed."""

    @abstractmethod
    def _fail(self, node: Node, error: BaseException) -> None:
        """End the jobs that wait for a node."""

    def can_lose(self, ticket: int, delta: str) -> bool:
        """Return whether `InputGone` would have something made again, rather than fail."""
        if ticket not in self.tickets:
            return False
        node, instruction = self.tickets[ticket]
        return node.losses < MOST_LOSSES and _reads(instruction, delta)

    def _with(self, delta: str) -> Iterator[Node]:
        for node in self.nodes.values():
            result = None if node.solved is None else node.solved.result
            if isinstance(result, Snapshot) and delta in result.deltas:
                yield node

    def _lose(self, node: Node, instruction: Instruction, delta: str, error: BaseException) -> None:
        """Have every result with *delta* made again that somebody needs; *node*, which missed it, waits.

        They may have been made again since it was given the old ones: then it begins anew.
        """
        node.running = 0
        node.began = False
        node.losses += 1
        if node.losses > MOST_LOSSES or not _reads(instruction, delta):
            self._fail(node, error)
            return
        for one in list(self._with(delta)):
            self._unsolve(one)
        self._reconcile(node)
        self._touch(node)

    def _unsolve(self, node: Node) -> None:
        node.solved = None
        node.missed = False
        node.story.append("its result is gone")
        for name in node.jobs:
            self.jobs[name].is_to_end_again(node)
        for user in node.users.values():
            user.results_missing += 1
            # What is running has what it reads; else its content may be another one when it is made again.
            if user.solved is None and not user.running and node.id in user.content_ids:
                self._read_again(user, node)
        self._reconcile(node)
        self._touch(node)


def _reads(instruction: Instruction, delta: str) -> bool:
    """Return whether what was to be done reads a tree with *delta*."""
    match instruction:
        case Run(inputs=inputs):
            return any(isinstance(one, Snapshot) and delta in one.deltas for one in inputs)
        case DigestContent(result=Snapshot(deltas=deltas)):
            return delta in deltas
        case _:
            return False
