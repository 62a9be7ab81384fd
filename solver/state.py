"""The pure state machine that decides what is looked up, what runs and who is told.

It knows no event loop, no disk and no clock: `State.handle` takes an event and returns
instructions. `drive.py` carries them out and reports back.

How a vertex is solved, from the target down:

1. Whoever wants a result wants its *key* first. Keys are made from the inputs' keys, so this goes
   down to the sources and costs next to nothing, until a vertex has a *content key*: then its
   definition key is looked up as an alias, and if that is unknown, the inputs that count by
   content must be at hand to be digested.
2. With the key known, the store is probed. A hit ends the matter: nothing below is looked at.
3. A miss wants the inputs' results, each in the same way, then runs.

So the deepest hits win and only what is missing below a target runs. Two refinements make it fast:

*Lateness.* When a content key has to wait for something that runs, all keys above wait too, and a
strict order would run things one by one that could run side by side: each ``COPY --from`` of a
chain waits for the one before it. Such a vertex is *late*. It wants all its inputs' results at
once; most likely they are needed, as something below did change. When a late key becomes known and
the result turns out to be stored, the inputs that are not done are dropped again. A failure of
such an input still fails the build: the usual case is that it was needed, and people want to know
soon.

*Holding.* While a vertex asks for its own stored result, its wants are on hold: what runs goes on,
nothing new starts.

One run for equal work [KEY-14]: vertices are shared between jobs by digest, and the first vertex
that misses a key leads; others of the same key wait for its result. This cannot deadlock: what a
leader still waits for is reached through inputs that count by key, and a key cannot be nested in
itself, being a hash.

Failures are never stored [KEY-15], not even in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError
from pybuild.model.ops import DiffOp, GitSource, HttpSource, MergeOp, ScratchSource, Vertex, walk
from pybuild.model.snapshot import Result, Snapshot
from pybuild.solver import keys, stacks
from pybuild.solver.job import Job
from pybuild.solver.messages import (
    Began,
    Cancel,
    DigestContent,
    Digested,
    Event,
    Failed,
    Identified,
    Identify,
    Instruction,
    JobAdded,
    JobCancelled,
    JobDone,
    JobFailed,
    Phase,
    Probe,
    Probed,
    Ran,
    Run,
    Save,
    SaveAlias,
    SaveSeconds,
    Tell,
)
from pybuild.solver.node import Alias, Grade, Node, NodeId
from pybuild.solver.solution import Solved
from pybuild.solver.validate import validate


class State:
    """All jobs of one solver."""

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

    # --- the door ---------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what happened and return what is to be done, in this order.

        Raises:
            ValueError: a job's name is in use, or its definition refers to inputs that are not
                there; nothing has changed.
            InternalError: an invariant does not hold.
        """
        match event:
            case JobAdded(job=job, targets=targets):
                self._add_job(job, targets)
            case JobCancelled(job=job):
                if job in self.jobs:
                    self._end_job(self.jobs[job], victims=True)
            case _:
                self._answer(event)
        self._settle()
        out, self._out = self._out, []
        return out

    def story(self, vertex: Vertex) -> list[str]:
        """Return what happened to a vertex that some job still needs, oldest first."""
        return [
            f"{node.id.scope or 'shared'}: {line}"
            for node in self.nodes.values()
            if node.id.digest == vertex.digest
            for line in node.story
        ]

    def audience(self, ticket: int) -> list[tuple[str, Vertex]]:
        """Return who watches a run: jobs, each with its name for the vertex."""
        if ticket not in self.tickets:
            return []
        node = self.tickets[ticket][0]
        return [(job, n.vertex) for n in (node, *self._followers(node)) for job in n.jobs]

    def is_wanted(self, ticket: int) -> bool:
        """Whether an answer to *ticket* would still be heard."""
        return ticket in self.tickets

    def validate(self) -> None:
        """Check every invariant; for tests.

        Raises:
            InternalError: one does not hold.
        """
        validate(self)

    # --- jobs -------------------------------------------------------------------------------------

    def _add_job(self, name: str, targets: tuple[Vertex, ...]) -> None:
        if name in self.jobs or not name:
            raise ValueError(f'job name "{name}" is in use')
        order = list(walk(*targets))  # after this no digest needs recursion
        contents = {v.digest: keys.content_inputs(v) for v in order}
        job = self.jobs[name] = Job(name, targets)
        ignored = {v.digest for v in every(targets) if v.meta.ignore_cache}
        scoped: set[str] = set()
        in_job: dict[str, Node] = {}
        for vertex in order:
            inputs = tuple(in_job[source.digest] for source in vertex.inputs)
            fresh = vertex.digest in ignored
            own = fresh or Job.is_own(vertex) or any(i.id.digest in scoped for i in inputs)
            if own:
                scoped.add(vertex.digest)
            node_id = NodeId(vertex.digest, name if own else "")
            node = self.nodes.get(node_id) or self._add_node(
                node_id, vertex, inputs, contents[vertex.digest], fresh
            )
            node.jobs[name] = None
            in_job[vertex.digest] = node
            job.add(node)
            self._tell(job, node, Phase.ADDED)
        for target in targets:
            job.add_target(in_job[target.digest])
        for node in list(job.nodes):
            if node.solved is not None:
                self._tell_all(job, [node, *job.settle(node)], Phase.CACHED)
            elif node.running and node.began:
                self._tell(job, node, Phase.STARTED)
        for node in job.targets:
            if node.solved is None:
                node.wanters[name] = Grade.GO
                self._touch(node)
        self._finish_job_if_done(job)

    def _add_node(
        self,
        node_id: NodeId,
        vertex: Vertex,
        inputs: tuple[Node, ...],
        content: keys.ContentInputs,
        ignored: bool,
    ) -> Node:
        fresh = ignored or any(i.fresh for n, i in enumerate(inputs) if n not in content)
        node = Node(node_id, vertex, inputs, content, fresh)
        self.nodes[node_id] = node
        for source in node.distinct:
            source.users[node_id] = node
        if node.is_local:
            node.key_settled = True
        return node

    def _finish_job_if_done(self, job: Job) -> None:
        if job.name not in self.jobs or any(node.solved is None for node in job.targets):
            return
        solved = {n.id.digest: n.solved for n in job.nodes if n.solved is not None}
        self._end_job(job, victims=False)
        self._say(JobDone(job.name, solved))

    def _end_job(self, job: Job, *, victims: bool) -> None:
        """Forget a job; *victims*: tell it what of its going work is cancelled."""
        del self.jobs[job.name]
        if victims:
            for node in job.nodes:
                if job.is_going(node):
                    self._tell(job, node, Phase.FAILED, error="cancelled", cancelled=True)
        for node in job.targets:
            if node.wanters.pop(job.name, None) is not None:
                self._reconcile(node)
        # Users before inputs, so that nobody is in the way of anybody.
        for node in reversed(list(job.nodes)):
            node.jobs.pop(job.name, None)
            if not node.jobs and not node.running and node.solved is None:
                self._hand_over(node)
            self._drop_if_unused(node)

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
            node.asked_identity = False
            if node.alias is Alias.ASKED:
                node.alias = Alias.NOT_YET
        if node.key is not None and self.leaders.get(node.key) is node:
            del self.leaders[node.key]

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self, event: Identified | Probed | Digested | Began | Ran | Failed) -> None:
        entry = self.tickets.get(event.ticket)
        if entry is None:
            return  # cancelled meanwhile
        node, asked = entry
        if isinstance(event, Began):
            node.began = True
            node.story.append("began")
            for member in (node, *self._followers(node)):
                for name in member.jobs:
                    self._tell(self.jobs[name], member, Phase.STARTED)
            return
        del self.tickets[event.ticket]
        node.tickets.discard(event.ticket)
        node.story.append(type(event).__name__.lower())
        match event, asked:
            case Failed(error=error), (Identify() | DigestContent() | Run()):
                self._fail(node, error)
            case Failed(), Probe() as probe:
                self._probed(node, probe, None)
            case Probed(record=record), Probe() as probe:
                solved = None if record is None else Solved.of_record(record)
                self._probed(node, probe, solved)
            case Identified(identity=identity), Identify():
                node.identity = identity
                key = None if identity is None else keys.source_key(node.definition_part, identity)
                self._settle_key(node, key)
            case Digested(content=content), DigestContent(index=index, selection=selection):
                for number, wanted in enumerate(node.content[index]):
                    if wanted == selection:
                        node.digests[index, number] = content
                self._touch(node)
            case Ran(result=result, seconds=seconds, created=created), Run():
                node.running = 0
                solved = Solved(result=result, key=node.key, created=created, seconds=seconds)
                self._say(SaveSeconds(node.vertex.digest, seconds), node)
                self._made(node, solved)
            case _:
                raise InternalError(f"{event} answers {asked}; story: {node.story}")

    def _probed(self, node: Node, probe: Probe, solved: Solved | None) -> None:
        node.probe = 0
        if probe.alias:
            if node.key_settled:
                return
            if solved is None or solved.key is None:
                node.alias = Alias.NO
                self._reconcile(node)
                self._touch(node)
            else:
                self._settle_key(node, solved.key, solved)
        elif solved is not None and solved.key == node.key:
            self._hit(node, solved)
        else:
            self._miss(node)

    def _miss(self, node: Node) -> None:
        node.missed = True
        if not node.is_local:
            for user in node.users.values():
                if node.id in user.content_ids:
                    self._mark_late(user)
        self._reconcile(node)
        self._touch(node)

    def _made(self, node: Node, solved: Solved) -> None:
        """A result that was not stored before."""
        if node.key is not None and isinstance(solved.result, Snapshot):
            parts = node.key_parts() or []
            self._say(
                Save(
                    key=node.key,
                    snapshot=solved.result,
                    inputs=keys.named_inputs(
                        node.key_part, node.vertex.inputs, parts, node.identity
                    ),
                    seconds=solved.seconds,
                    created=solved.created,
                    name=node.vertex.meta.name,
                ),
                node,
            )
        followers = self._followers(node)
        self._solve(node, solved, Phase.COMPLETED)
        for follower in followers:
            self._solve(follower, solved, Phase.COMPLETED)
        if node.key is not None:
            for twin in list(self.by_key.get(node.key, {}).values()):
                if twin.solved is None:
                    self._hit(twin, solved)

    def _hit(self, node: Node, solved: Solved) -> None:
        self._solve(node, replace(solved, cached=True), Phase.CACHED)

    def _solve(self, node: Node, solved: Solved, phase: Phase) -> None:
        node.solved = solved
        node.leader = None
        self._give_up(node)
        node.story.append(f"solved: {phase}")
        self._reconcile(node)
        for user in node.users.values():
            user.results_missing -= 1
            if user.results_missing == 0 or node.id in user.content_ids:
                self._touch(user)
        for name in list(node.jobs):
            job = self.jobs[name]
            if phase is Phase.COMPLETED:
                self._tell(job, node, Phase.STARTED)
            covered = job.settle(node)
            if phase is Phase.COMPLETED:
                self._tell(job, node, phase)
                self._tell_all(job, covered, Phase.CACHED)
            else:
                self._tell_all(job, [node, *covered], Phase.CACHED)
            for below in covered:
                self._reconcile(below)  # it may be running
            self._finish_job_if_done(job)

    # --- failure ----------------------------------------------------------------------------------

    def _fail(self, node: Node, error: BaseException) -> None:
        failed = [node, *self._followers(node)]
        self._give_up(node)
        for above in self._wanting(failed):
            if above not in failed:
                self._hand_over(above)
        for member in failed:
            member.leader = None
            self._reconcile(member)
        for member in failed:
            for name in self._jobs_wanting(member):
                job = self.jobs[name]
                self._tell(job, member, Phase.STARTED)
                self._tell(job, member, Phase.FAILED, error=str(error))
                self._end_job(job, victims=True)
                self._say(JobFailed(name, member.vertex, error), member)
            # Jobs that may still come to want it see it stopped, and will start it anew.
            for name in member.jobs:
                job = self.jobs[name]
                if job.is_going(member):
                    job.told.pop(member, None)

    def _wanting(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes that wait for any of these, themselves included."""
        stack = list(nodes)
        found = {node.id: node for node in stack}
        while stack:
            node = stack.pop()
            for wanter in (*node.wanters, *node.key_wanters):
                if isinstance(wanter, NodeId) and wanter not in found:
                    found[wanter] = self.nodes[wanter]
                    stack.append(found[wanter])
        return list(found.values())

    def _jobs_wanting(self, node: Node) -> list[str]:
        """Return the jobs for which somebody waits for this node, in the order they came."""
        found = {w for n in self._wanting([node]) for w in n.wanters if isinstance(w, str)}
        return [name for name in self.jobs if name in found]

    def _hand_over(self, node: Node) -> None:
        """Let those who follow a node that has not begun do the work themselves.

        What keeps the node from its result (a failure below, the end of its job) need not
        concern them: their inputs may be other ones.
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

    # --- wants ------------------------------------------------------------------------------------

    def _touch(self, node: Node) -> None:
        self._key_work.append(node)
        self._work.append(node)

    def _settle(self) -> None:
        """Work until nothing changes. Keys go first, up the graph, so that whoever learns its key
        can hold back what it wanted before that starts."""
        while True:
            if self._key_work:
                node = self._key_work.popleft()
                if node.id in self.nodes and node.seeks_key:
                    self._seek_key(node)
            elif self._work:
                node = self._work.popleft()
                if node.id in self.nodes:
                    self._seek_result(node)
            else:
                return

    def _desired(self, node: Node) -> tuple[bool, dict[NodeId, Grade]]:
        """Return what a node wants now: its inputs' keys, and results by node."""
        grade = node.grade
        if node.solved is not None or (grade is None and not node.key_wanters):
            return False, {}
        held = dict.fromkeys(node.wants, Grade.HOLD)
        if not node.key_settled:
            if not node.seeks_key:
                return node.wants_keys, held
            if node.fresh or (node.late and node.alias is not Alias.ASKED):
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

    def may_be_wanted(self, node: Node) -> bool:
        """Whether some job may still come to want a node; what runs is then not stopped."""
        jobs = (self.jobs.get(name) for name in node.jobs)
        return any(job is not None and not job.is_settled(node) for job in jobs)

    def _reconcile(self, node: Node) -> None:
        """Make what is registered of a node's wants what it desires, all the way down."""
        stack = [node]
        while stack:
            node = stack.pop()
            wants_keys, wants = self._desired(node)
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
                for wanted, grade in wants.items():
                    if node.wants.get(wanted) != grade:
                        other = self.nodes[wanted]
                        other.wanters[node.id] = grade
                        if grade is Grade.HOLD:
                            stack.append(other)
                        self._touch(other)
                node.wants = wants
            if node.leader is not None and node.leader.id not in wants:
                node.leader = None
            if node.running and node.grade is None and not self.may_be_wanted(node):
                self._give_up(node)
                node.story.append("no longer needed")
            self._drop_if_unused(node)

    # --- keys -------------------------------------------------------------------------------------

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
            found = [key for key in by_key if key is not None]
            self._settle_key(node, keys.definition_key(node.definition_part, found))
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
        """Remember what the definition key means now; also where it was not to be asked.

        A record need not exist yet: an alias whose record is not found is no answer.
        """
        found = [source.key for source in node.inputs]
        if None not in found:
            known = keys.definition_key(node.definition_part, [k for k in found if k is not None])
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
        elif not node.asked_identity:
            node.asked_identity = True
            self._ask(node, Identify(self._ticket(), node.vertex, self._runner_of(node)))

    def _ask_alias(self, node: Node) -> None:
        inputs = [i.key for i in node.inputs]
        if None in inputs:
            node.alias = Alias.NO
            self._reconcile(node)
            self._touch(node)
            return
        found = [key for key in inputs if key is not None]
        node.alias = Alias.ASKED
        self._reconcile(node)
        node.probe = self._ticket()
        key = keys.definition_key(node.definition_part, found)
        self._ask(node, Probe(node.probe, node.vertex, key, alias=True))

    def _digest_contents(self, node: Node) -> None:
        if node.alias is Alias.ASKED or not (node.late or node.alias is Alias.NO):
            return
        asked = {
            (asked.index, asked.selection)
            for ticket in node.tickets
            if isinstance(asked := self.tickets[ticket][1], DigestContent)
        }
        for index, selections in node.content.items():
            solved = node.inputs[index].solved
            if solved is None:
                continue
            for number, selection in enumerate(selections):
                if (index, number) not in node.digests and (index, selection) not in asked:
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
        else:
            self._reconcile(node)
            self._touch(node)

    def _mark_late(self, node: Node) -> None:
        stack = [node]
        while stack:
            node = stack.pop()
            if not node.late and node.seeks_key:
                node.late = True
                node.story.append("late")
                self._touch(node)
                stack.extend(node.users.values())

    # --- results ----------------------------------------------------------------------------------

    def _seek_result(self, node: Node) -> None:
        if node.solved is not None or node.grade is not Grade.GO or node.running:
            return
        if not node.key_settled:
            return  # the key work sees to it
        if isinstance(node.vertex.op, ScratchSource):
            self._solve(node, Solved(result=Snapshot(), key=node.key), Phase.COMPLETED)
            return
        if not node.missed:
            leader = self.leaders.get(node.key) if node.key is not None else None
            if node.key is None or node.fresh or (leader is not None and not leader.fresh):
                self._miss(node)  # the leader found nothing either
            elif not node.probe:
                node.probe = self._ticket()
                self._ask(node, Probe(node.probe, node.vertex, node.key))
            return
        if node.key is not None:
            leader = self.leaders.setdefault(node.key, node)
            if leader is not node:
                self._follow(node, leader)
                return
        node.leader = None
        self._reconcile(node)
        if node.results_missing == 0:
            self._start(node)

    def _follow(self, node: Node, leader: Node) -> None:
        if node.leader is not leader:
            node.leader = leader
            node.story.append(f"follows {leader.id.scope or 'shared'} {leader.id.digest}")
        self._reconcile(node)
        if leader.began:
            for name in node.jobs:
                self._tell(self.jobs[name], node, Phase.STARTED)

    def _start(self, node: Node) -> None:
        inputs: list[Result] = []
        created = 0.0
        for source in node.inputs:
            assert source.solved is not None
            inputs.append(source.solved.result)
            created = max(created, source.solved.created)
        made = composed(node.vertex, inputs)
        if made is not None:
            self._made(node, Solved(result=made, key=node.key, created=created))
            return
        node.running = self._ticket()
        self._ask(node, Run(node.running, node.vertex, tuple(inputs), self._runner_of(node)))

    def _followers(self, node: Node) -> list[Node]:
        return [
            follower
            for wanter in node.wanters
            if isinstance(wanter, NodeId) and (follower := self.nodes[wanter]).leader is node
        ]

    def _runner_of(self, node: Node) -> str:
        """Return the job whose runner serves a node: one that wants it."""
        if len(node.jobs) == 1:
            return next(iter(node.jobs))
        wanting = self._jobs_wanting(node)
        return next((job for job in wanting if job in node.jobs), wanting[0])

    # --- saying -----------------------------------------------------------------------------------

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
        self, job: Job, node: Node, phase: Phase, *, error: str = "", cancelled: bool = False
    ) -> None:
        if job.may_tell(node, phase):
            self._say(Tell(job.name, node.vertex, phase, error, cancelled))

    def _tell_all(self, job: Job, nodes: Iterable[Node], phase: Phase) -> None:
        for node in sorted(nodes, key=job.nodes.__getitem__):
            self._tell(job, node, phase)


def every(targets: tuple[Vertex, ...]) -> Iterator[Vertex]:
    """Yield every vertex object below, also several of one digest: they may differ in meta."""
    seen: set[int] = set()
    stack = list(targets)
    while stack:
        vertex = stack.pop()
        if id(vertex) not in seen:
            seen.add(id(vertex))
            yield vertex
            stack.extend(vertex.inputs)


def composed(vertex: Vertex, inputs: list[Result]) -> Snapshot | None:
    """Return the result of an op that only composes stacks; None where files must be looked at."""
    snapshots = [i for i in inputs if isinstance(i, Snapshot)]
    if len(snapshots) < len(inputs):
        return None
    match vertex.op:
        case MergeOp():
            return stacks.merge(snapshots)
        case DiffOp() if len(snapshots) == 2:
            return stacks.difference(*snapshots)
        case _:
            return None
