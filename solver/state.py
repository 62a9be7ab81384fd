"""The pure state machine that decides what is looked up, what runs and which jobs hear of it.

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

A key is made before the work is done, and a directory of the client may change in between. A run
says what it read: where that is something else, the node gets the key of it, and those whose keys
were made from the old one seek theirs again. Nothing is stored under the key of what was not read.

One run for equal work [KEY-14]: vertices are shared between jobs by digest, and the first vertex
that misses a key leads; others of the same key wait for its result. This cannot deadlock: what a
leader still waits for is reached through inputs that count by key, and a key cannot be nested in
itself, being a hash.

A result may turn out to be gone when somebody reads it: a cache's layer, or a worker with what it
made. It is then unknown again, as are all that are made on top of it, and those of them that are
needed are looked up and made once more. What does not read it runs on.

Failures are never stored [KEY-15], not even in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, PybuildError
from pybuild.model.ops import ScratchSource, Vertex, walk
from pybuild.model.snapshot import Result, Snapshot
from pybuild.solver import keys, stacks
from pybuild.solver.job import Job, every
from pybuild.solver.losses import Losses
from pybuild.solver.messages import (
    Began,
    DigestContent,
    Digested,
    Event,
    Failed,
    Identified,
    Identify,
    InputGone,
    Instruction,
    JobAdded,
    JobCancelled,
    JobDone,
    JobFailed,
    MadeByAnother,
    Phase,
    Probe,
    Probed,
    Ran,
    Run,
    Save,
    SaveSeconds,
)
from pybuild.solver.node import Alias, Grade, Node, NodeId
from pybuild.solver.solution import Solved


class State(Losses):
    """All jobs of one solver."""

    # --- the door ---------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what happened and return what is to be done, in this order.

        Raises:
            ValueError: a job's name is in use, or its definition refers to inputs that are not
                there; nothing has changed.
            InternalError: an invariant does not hold.
        """
        for _ in self.pieces(event):
            pass
        return self.instructions()

    def pieces(self, event: Event) -> Iterator[None]:
        """Take in what happened piece by piece, for who has something else to do in between.

        No other event may come before the last piece; then `instructions` has what is to be done.

        Raises:
            ValueError, InternalError: as `handle`.
        """
        match event:
            case JobAdded(job=job, targets=targets):
                yield from self._add_job(job, targets)
            case JobCancelled(job=job):
                if job in self.jobs:
                    self._end_job(self.jobs[job], victims=True)
            case _:
                self._answer(event)
        yield from self._settle()

    def instructions(self) -> list[Instruction]:
        """Return the instructions since this was called last."""
        out, self._out = self._out, []
        return out

    def story(self, vertex: Vertex) -> list[str]:
        """Return the events of a vertex that some job still needs, oldest first."""
        return [
            f"{node.id.scope or 'shared'}: {line}"
            for node in self.nodes.values()
            if node.id.digest == vertex.digest
            for line in node.story
        ]

    def audience(self, ticket: int) -> list[tuple[str, Vertex]]:
        """Return the jobs that watch a run, each with its name for the vertex."""
        if ticket not in self.tickets:
            return []
        node = self.tickets[ticket][0]
        return [(job, n.vertex) for n in (node, *self._followers(node)) for job in n.jobs]

    def is_needed(self, ticket: int) -> bool:
        """Return whether an answer to *ticket* is still needed."""
        return ticket in self.tickets

    def known(self, name: str) -> tuple[dict[Digest, Solved], dict[Digest, Digest]]:
        """Return a job's results and keys so far, as `JobDone` has them; nothing if it ended."""
        return _known(self.jobs[name]) if name in self.jobs else ({}, {})

    # --- jobs -------------------------------------------------------------------------------------

    def _add_job(self, name: str, targets: tuple[Vertex, ...]) -> Iterator[None]:
        if name in self.jobs or not name:
            raise ValueError(f'job name "{name}" is in use')
        order: list[Vertex] = []
        contents: dict[str, keys.ContentInputs] = {}
        for vertex in walk(*targets):  # after this no digest needs recursion
            order.append(vertex)
            contents[vertex.digest] = keys.content_inputs(vertex)
            yield
        ignored: set[str] = set()
        for vertex in every(targets):
            if vertex.meta.ignore_cache:
                ignored.add(vertex.digest)
            yield
        job = self.jobs[name] = Job(name, targets)
        scoped: set[str] = set()
        in_job: dict[str, Node] = {}
        for vertex in order:
            yield
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
            yield
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
        known = _known(job)
        self._end_job(job, victims=False)
        self._say(JobDone(job.name, *known))

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
            self._drop_if_unused(node)

    # --- answers ----------------------------------------------------------------------------------

    def _answer(
        self,
        event: Identified | Probed | Digested | Began | Ran | MadeByAnother | Failed | InputGone,
    ) -> None:
        entry = self.tickets.get(event.ticket)
        if entry is None:
            return  # cancelled meanwhile
        node, instruction = entry
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
        match event, instruction:
            case Failed(error=error), (Identify() | DigestContent() | Run()):
                self._fail(node, error)
            case InputGone(delta=delta, error=error), (DigestContent() | Run()) as instruction:
                self._lose(node, instruction, delta, error)
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
                for number, counted in enumerate(node.content[index]):
                    if counted == selection:
                        node.digests[index, number] = content
                self._touch(node)
            case Ran(result=result, seconds=seconds, created=created, contents=contents), Run():
                node.running = 0
                self._correct_key(node, contents)
                solved = Solved(result=result, key=node.key, created=created, seconds=seconds)
                self._say(SaveSeconds(node.vertex.digest, seconds), node)
                self._made(node, solved)
            case MadeByAnother(record=record), Run():
                node.running = 0
                self._hit_all(node, Solved.of_record(record))
            case _:
                raise InternalError(f"{event} answers {instruction}; story: {node.story}")

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
            self._say(
                Save(
                    key=node.key,
                    snapshot=solved.result,
                    named_inputs=node.named_inputs,
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
        self._hit_twins(node, solved)

    def _hit_all(self, node: Node, solved: Solved) -> None:
        """A result that was not stored when it was looked up, and is now."""
        followers = self._followers(node)
        for member in (node, *followers):
            self._hit(member, solved)
        self._hit_twins(node, solved)

    def _hit_twins(self, node: Node, solved: Solved) -> None:
        if node.key is not None:
            for twin in list(self.by_key.get(node.key, {}).values()):
                if twin.solved is None:
                    self._hit(twin, solved)

    def _hit(self, node: Node, solved: Solved) -> None:
        self._solve(node, replace(solved, cached=True), Phase.CACHED)

    def _solve(self, node: Node, solved: Solved, phase: Phase) -> None:
        node.solved = solved
        node.leader = None
        node.forget_parts()
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
                peer = error.peer if isinstance(error, PybuildError) else ""
                self._tell(job, member, Phase.FAILED, error=str(error), peer=peer)
                known = _known(job)
                self._end_job(job, victims=True)
                self._say(JobFailed(name, member.vertex, error, *known), member)
            # Jobs that may still come to want it see it stopped, and will start it anew.
            for name in member.jobs:
                job = self.jobs[name]
                if job.is_going(member):
                    job.phases.pop(member, None)

    # --- wants ------------------------------------------------------------------------------------

    def _settle(self) -> Iterator[None]:
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
            yield

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
        made = stacks.composed(node.vertex, inputs)
        if made is not None:
            self._made(node, Solved(result=made, key=node.key, created=created))
            return
        node.running = self._ticket()
        self._ask(
            node,
            Run(
                node.running,
                node.vertex,
                tuple(inputs),
                self._runner_of(node),
                key=node.key,
                named_inputs=node.named_inputs,
                fresh=node.fresh,
            ),
        )


def _known(job: Job) -> tuple[dict[Digest, Solved], dict[Digest, Digest]]:
    solved = {n.id.digest: n.solved for n in job.nodes if n.solved is not None}
    return solved, {n.id.digest: n.key for n in job.nodes if n.key is not None}
