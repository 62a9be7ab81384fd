"""The state machine's keys: found from the sources up, by alias or by content."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pybuild.model.contents import Contents
from pybuild.model.digest import Digest
from pybuild.model.ops import GitSource, HttpSource, ScratchSource
from pybuild.solver import keys
from pybuild.solver.ledger import Ledger
from pybuild.solver.messages import Cancel, DigestContent, Identify, Probe, Run, SaveAlias
from pybuild.solver.node import Alias, Grade, Node
from pybuild.solver.solution import Solved


class Keyring(Ledger, ABC):
    """Settles the key of each node that somebody wants the key or the result of."""

    @abstractmethod
    def _miss(self, node: Node) -> None:
        """Note that a node's result has to be made when it is wanted."""

    @abstractmethod
    def _hit(self, node: Node, solved: Solved) -> None:
        """Note a result that was there already."""

    def _seek_key(self, node: Node) -> None:
        if not node.inputs:
            self._seek_source_key(node)
            return
        if not node.wants_keys and not node.late:
            waits = any(node.inputs[n].will_run for n in node.content)
            if waits or node.fresh or any(i.late and not i.key_settled for i in node.distinct):
                self._mark_late(node)
        self._reconcile(node)
        if node.keys_missing:
            self._digest_contents(node)
            return
        by_key = [i.key for n, i in enumerate(node.inputs) if n not in node.content]
        if None in by_key:
            self._settle_key(node, None)
        elif not node.content:
            known = [key for key in by_key if key is not None]
            self._settle_key(node, keys.definition_key(node.definition_part, known))
        elif node.alias is Alias.NOT_YET:
            self._ask_alias(node)
        elif node.alias is Alias.NO:
            self._digest_contents(node)
            parts = node.key_parts()
            if parts is not None:
                key = keys.content_key(node.key_part, parts)
                self._save_alias(node, key)
                self._settle_key(node, key)

    def _save_alias(self, node: Node, key: Digest) -> None:
        """Remember what the definition key means now; also where it was not to be looked up.

        A record need not exist yet: an alias whose record is not found is no answer.
        """
        input_keys = [source.key for source in node.inputs]
        if None not in input_keys:
            known = keys.definition_key(
                node.definition_part, [k for k in input_keys if k is not None]
            )
            self._say(SaveAlias(known, key), node)

    def _seek_source_key(self, node: Node) -> None:
        op = node.vertex.op
        if isinstance(op, ScratchSource):
            self._settle_key(node, keys.source_key(node.definition_part, None))
            return
        node.identity = keys.source_identity(op)
        if node.identity is not None:
            self._settle_key(node, keys.source_key(node.definition_part, node.identity))
        elif not isinstance(op, HttpSource | GitSource):
            self._settle_key(
                node, keys.definition_key(node.definition_part, [])
            )  # no source after all
        elif not node.identity_requested:
            node.identity_requested = True
            self._ask(node, Identify(self._ticket(), node.vertex, self._runner_of(node)))

    def _ask_alias(self, node: Node) -> None:
        inputs = [i.key for i in node.inputs]
        if None in inputs:
            node.alias = Alias.NO
            self._reconcile(node)
            self._touch(node)
            return
        known = [key for key in inputs if key is not None]
        node.alias = Alias.PROBING
        self._reconcile(node)
        node.probe = self._ticket()
        key = keys.definition_key(node.definition_part, known)
        self._ask(node, Probe(node.probe, node.vertex, key, alias=True))

    def _digest_contents(self, node: Node) -> None:
        if node.alias is Alias.PROBING or not (node.late or node.alias is Alias.NO):
            return
        requested = {
            (requested.index, requested.selection)
            for ticket in node.tickets
            if isinstance(requested := self.tickets[ticket][1], DigestContent)
        }
        for index, selections in node.content.items():
            solved = node.inputs[index].solved
            if solved is None:
                continue
            for number, selection in enumerate(selections):
                if (index, number) not in node.digests and (index, selection) not in requested:
                    job = self._runner_of(node)
                    self._ask(
                        node,
                        DigestContent(
                            self._ticket(), node.vertex, index, solved.result, selection, job
                        ),
                    )

    def _settle_key(self, node: Node, key: Digest | None, solved: Solved | None = None) -> None:
        node.key, node.key_settled = key, True
        node.story.append(f"key {key}")
        for ticket in sorted(node.tickets):
            if not isinstance(self.tickets[ticket][1], Run):
                node.tickets.discard(ticket)
                del self.tickets[ticket]
                self._say(Cancel(ticket), node)
        node.probe = 0
        twin: Node | None = None
        if key is not None:
            same = self.by_key.setdefault(key, {})
            twin = next((t for t in same.values() if t.solved is not None), None)
            same[node.id] = node
        for user in node.users.values():
            if node.id in user.key_ids:
                user.keys_missing -= 1
                if user.keys_missing == 0:
                    self._touch(user)
        node.key_wanters.clear()
        if key is None and not node.is_local:
            self._miss(node)
        if solved is not None:
            self._hit(node, solved)
        elif twin is not None and twin.solved is not None and not node.fresh:
            self._hit(node, twin.solved)
        elif node.fresh and node.grade is Grade.GO:
            self._miss(node)  # to hold what is below for a moment costs a look at all of it
        else:
            self._reconcile(node)
            self._touch(node)

    def _correct_key(self, node: Node, contents: Contents) -> None:
        """Give a node that ran the key of what it read, if that is not what was digested before."""
        digests = dict(node.digests)
        for index, selections in node.content.items():
            for number, selection in enumerate(selections):
                read = contents.get(index, {}).get(selection)
                known = digests.get((index, number))
                if read is not None and known is not None and read.digest != known.digest:
                    digests[index, number] = read
        if digests == node.digests:
            return
        node.digests = digests
        node.forget_parts()
        parts = node.key_parts()
        assert parts is not None
        self._forget_key(node)
        node.key = keys.content_key(node.key_part, parts)
        node.story.append(f"in truth key {node.key}")
        self.by_key.setdefault(node.key, {})[node.id] = node
        for user in node.users.values():
            if node.id in user.key_ids:
                self._seek_again(user)

    def _read_again(self, node: Node, source: Node) -> None:
        """Forget what was read of *source*, and let the node seek its key again if it was made of that."""
        for ticket in sorted(node.tickets):
            instruction = self.tickets[ticket][1]
            if isinstance(instruction, DigestContent) and node.inputs[instruction.index] is source:
                node.tickets.discard(ticket)
                del self.tickets[ticket]
                self._say(Cancel(ticket), node)
        stale = [place for place in node.digests if node.inputs[place[0]] is source]
        for place in stale:
            del node.digests[place]
        if stale or not node.key_settled:
            self._seek_again(node)

    def _seek_again(self, node: Node) -> None:
        """Let a node whose key was made from one that is no more seek its key, and so on upwards."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node.solved is not None:
                continue  # stored under the key that it was found by
            for ticket in sorted(node.tickets):
                if isinstance(self.tickets[ticket][1], Probe):
                    node.tickets.discard(ticket)
                    del self.tickets[ticket]
                    self._say(Cancel(ticket), node)
            node.probe = 0
            if node.alias is Alias.PROBING:
                node.alias = Alias.NOT_YET
            if node.key_settled:
                self._forget_key(node)
                node.key, node.key_settled, node.missed = None, False, False
                node.leader = None
                node.forget_parts()
                for user in node.users.values():
                    if node.id in user.key_ids:
                        user.keys_missing += 1
                        if user.wants_keys:
                            node.key_wanters.add(user.id)
                        stack.append(user)
            self._touch(node)
            self._reconcile(node)

    def _forget_key(self, node: Node) -> None:
        """Take a node out of the books of its key; who follows it does the work itself."""
        if node.key is None:
            return
        self._hand_over(node)
        if self.leaders.get(node.key) is node:
            del self.leaders[node.key]
        del self.by_key[node.key][node.id]
        if not self.by_key[node.key]:
            del self.by_key[node.key]

    def _mark_late(self, node: Node) -> None:
        stack = [node]
        while stack:
            node = stack.pop()
            if not node.late and node.seeks_key:
                node.late = True
                node.story.append("late")
                self._touch(node)
                stack.extend(node.users.values())
