"""The invariants of the state machine, checked after every event under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.model.errors import InternalError
from pybuild.solver.messages import Run
from pybuild.solver.node import Grade, Node, NodeId

if TYPE_CHECKING:
    from pybuild.solver.state import State


def validate(state: State) -> None:
    """Check everything.

    Raises:
        InternalError: naming the node, the rule and the node's story.
    """
    for node in state.nodes.values():
        _check_links(state, node)
        _check_counts(node)
        _check_work(state, node)
    for key, leader in state.leaders.items():
        _expect(leader.key == key, leader, "leads a key that is not its own")
        _expect(state.nodes.get(leader.id) is leader, leader, "leads and is forgotten")
        _expect(leader.solved is None, leader, "leads and is solved")
    running = [
        n.key for n, asked in state.tickets.values() if isinstance(asked, Run) and n.key is not None
    ]
    if len(running) != len(set(running)):
        raise InternalError(f"two runs of one key: {sorted(running)}")
    for job in state.jobs.values():
        if not any(_is_moving(state, target) for target in job.targets):
            raise InternalError(
                f"job {job.name} is not done and waits for nothing;"
                f" stories: {[n.story for n in job.nodes if n.solved is None]}"
            )


def _expect(condition: bool, node: Node, rule: str) -> None:
    if not condition:
        raise InternalError(f"{node} {rule}; story: {node.story}")


def _check_links(state: State, node: Node) -> None:
    _expect(bool(node.jobs or node.wanters or node.key_wanters or node.users), node, "is nobody's")
    _expect(all(job in state.jobs for job in node.jobs), node, "belongs to a job that ended")
    for source in node.distinct:
        _expect(state.nodes.get(source.id) is source, node, "has an input that is forgotten")
        _expect(source.users.get(node.id) is node, node, "is not known to its input")
    for user in node.users.values():
        _expect(state.nodes.get(user.id) is user, node, "has a user that is forgotten")
    for wanted, grade in node.wants.items():
        _expect(wanted in state.nodes, node, "wants what is forgotten")
        _expect(state.nodes[wanted].wanters.get(node.id) == grade, node, "wants what is not told")
    for wanter in node.wanters:
        if isinstance(wanter, NodeId):
            _expect(node.id in state.nodes[wanter].wants, node, f"has no want of {wanter}")
        else:
            _expect(wanter in state.jobs, node, f"is wanted by ended job {wanter}")
    for wanter in node.key_wanters:
        _expect(wanter in state.nodes, node, f"has its key wanted by forgotten {wanter}")


def _check_counts(node: Node) -> None:
    _expect(
        node.results_missing == sum(i.solved is None for i in node.distinct),
        node,
        "counts its inputs' results wrongly",
    )
    _expect(
        node.keys_missing == sum(not i.key_settled for i in node.key_inputs),
        node,
        "counts its inputs' keys wrongly",
    )


def _check_work(state: State, node: Node) -> None:
    _expect(
        all(state.tickets.get(ticket, (None,))[0] is node for ticket in node.tickets),
        node,
        "has a ticket that is not known",
    )
    if node.solved is not None:
        _expect(not node.tickets, node, "is solved and still asks")
        _expect(not node.wants and not node.wants_keys, node, "is solved and still wants")
        _expect(node.key_settled, node, "is solved without its key being settled")
    if node.running:
        _expect(
            node.grade is not None or state.may_be_needed(node), node, "runs and nobody wants it"
        )
        _expect(node.missed, node, "runs without a miss")
        # It may have begun with one that was found to be gone since.
        gone = any("its result is gone" in source.story for source in node.distinct)
        _expect(node.results_missing == 0 or gone, node, "runs without its inputs")
        _expect(
            node.key is None or state.leaders.get(node.key) is node, node, "runs and does not lead"
        )
    if node.leader is not None:
        _expect(
            node.key is not None and state.leaders.get(node.key) is node.leader,
            node,
            "follows who does not lead",
        )
    if node.key is not None:
        _expect(state.by_key[node.key].get(node.id) is node, node, "is not found by its key")


def _is_moving(state: State, target: Node) -> bool:
    """Return whether the target waits for an open ticket, through any number of nodes between."""
    seen: set[NodeId] = set()
    stack = [target]
    while stack:
        node = stack.pop()
        if node.id in seen or node.solved is not None:
            continue
        seen.add(node.id)
        if node.tickets:
            return True
        stack.extend(state.nodes[w] for w, grade in node.wants.items() if grade is Grade.GO)
        if node.wants_keys:
            stack.extend(i for i in node.key_inputs if not i.key_settled)
    return False
