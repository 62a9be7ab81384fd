"""The exec ops of one build: their mounts, the step in the sandbox, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor import network
from pybuild.executor.inputs import VertexInputs, input_of
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.stepnetworks import Connect, DefaultNetwork, Resolvers
from pybuild.executor.steps import execop
from pybuild.executor.steps.cachemounts import CacheMounts, Seed
from pybuild.executor.steps.kepttrees import KeptTrees, Lent
from pybuild.executor.steps.outputs import Outputs, SharedStep, kept_mounts, result_mount, step_key
from pybuild.executor.steps.rung import Rung
from pybuild.executor.steps.spec import DeviceEdits, StepExit, StepMount, StepSpec
from pybuild.executor.trees.contexttrees import ContextTrees
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import BuildWarning, Emit, LogStream, VertexLog, VertexMount
from pybuild.model.ops import ExecOp, Mount, MountType, Vertex
from pybuild.model.snapshot import LocalTree, Result, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.authorities import Authorities
    from pybuild.executor.failedsteps import FailedTrees
    from pybuild.executor.proxies.server import Judge
    from pybuild.executor.proxies.stepproxies import ProxiedStep, StepProxies, TrustedBundle
    from pybuild.executor.steps.container import StepContainer

Ensure = Callable[[Snapshot, Emit], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """A step whose tree and mounts are there, and nothing else.

    Attributes:
        root: the number of the mount that is its root.
        outputs: what it writes to.
        lent: a copy that it works on, where steps do that.
        proxied: its proxy, if it has one; *bundle*: its tree's authorities, to be restored.
    """

    spec: StepSpec
    root: int
    outputs: Outputs
    lent: Lent
    proxied: ProxiedStep | None = None
    bundle: TrustedBundle | None = None

    async def ran(self, log: Callable[[str, bytes], None]) -> None:
        """Restore the tree's bundle after the step, and log the requests to its proxy."""
        if self.bundle is not None:
            await self.bundle.restore()
        if self.proxied is not None and (lines := self.proxied.record.lines()):
            text = "\n".join(["proxy network requests:", *lines, ""])
            log("stderr", text.encode("utf-8", "replace"))

    def facts(self) -> dict[str, Any]:
        """Return the facts that are kept with the results, beside what the step took."""
        if self.proxied is None:
            return {}
        from pybuild.executor.proxies.record import META

        return {META: self.proxied.record.facts()}


class ExecOps:
    """Runs the exec ops of one build.

    Args:
        ensure: returns the directories of a snapshot's deltas, base first.
        sources: has the agents that steps may use.
        secrets, dns, allow, devices, network_mode, connect, ca, cgroup, judge: as `executor.runner.BuildRunner` has them.

    Attributes:
        cache_mounts: hands them out.
        failed: takes what steps leave that fail, where somebody wants it.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        lease: Lease,
        rung: Rung,
        contexts: ContextTrees,
        inputs: VertexInputs,
        ensure: Ensure,
        sources: RemoteSources,
        *,
        secrets: execop.Secrets,
        dns: network.DnsSettings | None,
        allow: frozenset[str],
        devices: Sequence[str],
        network_mode: str,
        connect: Connect | None,
        ca: Sequence[str],
        cgroup: str,
        judge: Judge | None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._lease = lease
        self._rung = rung
        self._contexts = contexts
        self._inputs = inputs
        self._ensure = ensure
        self._sources = sources
        self._secrets = secrets
        self._absent: set[str] = set()  # secrets that steps asked for, and nobody gave
        self._allow = allow
        self._devices = devices
        self._network = DefaultNetwork(workers, network_mode, connect)
        self._ca = ca
        self._judge = judge
        self._proxies: StepProxies | None = None
        self._authorities: Authorities | None = None
        if ca:
            from pybuild.executor.authorities import Authorities

            self._authorities = Authorities(ca)
        self._cgroup = cgroup
        self.failed: FailedTrees | None = None
        self.cache_mounts = CacheMounts(store, workers, lease)
        self._shared: dict[Digest, SharedStep] = {}
        self._resolvers = Resolvers(dns)
        self._trees = KeptTrees(store)
        self._has_said_rung = False
        self._common = ""

    def foresee(self, steps: int) -> None:
        """Begin with what so many steps are going to need that ask for no network."""
        self._network.foresee(steps)

    async def close(self) -> None:
        """Remove the directories that steps had in common, and end their proxies."""
        if self._proxies is not None:
            await self._proxies.close()
        await self._network.close()
        self._trees.close()
        if self._common:
            self._store.discard(self._common)

    async def run(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> Snapshot:
        """Return the tree that the step leaves in the mount that *op* is about; the same step runs once."""
        execop.check_allowed(self._allow, op.settings.network, op.security)
        result = result_mount(op)
        if len(kept_mounts(op)) == 1:
            return (await self._step(vertex, op, inputs, emit))[result]
        shared = self._shared.setdefault(step_key(vertex), SharedStep())
        async with shared.lock:
            if result not in shared.results:
                shared.results |= await self._step(vertex, op, inputs, emit)
                shared.contents = self._inputs.read_of(vertex)
        self._inputs.note(vertex, shared.contents)
        return shared.results[result]

    @asynccontextmanager
    async def prepared(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> AsyncGenerator[PreparedStep]:
        """Have the step's tree and mounts ready, for it or for others to be run in them."""
        number = next((n for n, mount in enumerate(op.mounts) if mount.target == "/"), -1)
        root = op.mounts[number] if number >= 0 else None
        base = Snapshot()
        if root is not None and root.input is not None:
            if root.selector != "/":
                raise UserError(f'a root from "{root.selector}" of an input is not supported yet')
            base = await self._inputs.snapshot(vertex, inputs, root.input, emit)
        devices = DeviceEdits()
        if op.devices:
            from pybuild.executor.devices import find_devices

            find = partial(find_devices, op.devices, self._allow, self._devices)
            devices = await asyncio.to_thread(find)
        async with AsyncExitStack() as stack:
            outputs = Outputs(self._store, self._lease)
            stack.callback(outputs.abort)
            mounts, env = await self._mounts(vertex, op, inputs, emit, stack, outputs)
            default_env: Sequence[str] = ()
            proxied: ProxiedStep | None = None
            if op.proxied:
                proxied = await stack.enter_async_context(
                    self._open_proxies().open(op, self._common_of_steps())
                )
                mounts.insert(0, proxied.mount)
                default_env, env = proxied.default_env, [*env, *proxied.env]
            elif self._authorities is not None:
                mounts.insert(0, await self._authorities.mount(self._common_of_steps()))
                default_env = self._authorities.environment(op.env)
            connection, connecting = await self._network.of(op.settings.network)
            resolv_conf = self._resolvers.of(op.settings, connection, connecting)
            if proxied is not None:
                connection, connecting = "connected", proxied.connecting
            lowers = await self._ensure(base, emit)
            active = await outputs.begin(number, base)
            copied = await self._rung.works_on_copies()
            bundle: TrustedBundle | None = None
            if proxied is not None and not copied:
                bundle = await self._open_proxies().trust(lowers, active.fs)
            lent = stack.enter_context(self._trees.lend(lowers, copied=copied))
            step = execop.spec(
                op,
                lent,
                lowers=lowers,
                upper=active.fs,
                work=active.work,
                common=self._common_of_steps(),
                store=self._store.root,
                mounts=[*devices.mounts, *mounts],
                default_env=default_env,
                extra_env=[*devices.env, *env],
                resolv_conf=resolv_conf,
                connection=connection,
                connecting=connecting,
                cgroup=self._cgroup,
            )
            yield PreparedStep(step, number, outputs, lent, proxied, bundle)

    @asynccontextmanager
    async def container(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> AsyncGenerator[StepContainer]:
        """Make the tree and the mounts of *op* for processes that are started in them."""
        from pybuild.executor.steps.container import StepContainer

        async with self.prepared(vertex, op, inputs, emit) as step:
            container = StepContainer(self._workers, step.spec, self._allow, self._secrets)
            try:
                yield container
            finally:
                await container.close()

    async def _step(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> dict[int, Snapshot]:
        """Run the step and return what is left in the mounts that are kept, by their number."""
        async with self.prepared(vertex, op, inputs, emit) as prepared:
            step = prepared.spec
            tail = execop.Tail()

            def log(stream: str, data: bytes) -> None:
                emit(
                    VertexLog(
                        vertex=vertex.digest,
                        time=self._store.clock.now(),
                        stream=LogStream(stream),
                        data=data,
                    )
                )

            def on_output(stream: str, data: bytes) -> None:
                tail.add(data)
                log(stream, data)

            if not self._has_said_rung:
                self._has_said_rung = True
                if line := await self._rung.line() + self._network.line():
                    log("stderr", line.encode())
            try:
                ended = await self._workers.run_step(step, on_output)
            except UserError as error:  # such as a user that the image does not have
                raise error.copy_with(peer=f"{execop.failed(op)}: {error.message}") from error
            await prepared.ran(log)
            emit(execop.usage(vertex, ended))
            try:
                execop.check_exit(
                    op,
                    ended,
                    tail,
                    vertex.meta.spans,
                    trusts=self._authorities is not None,
                    step=vertex.meta.name,
                    reason=partial(self._reason, op, ended, step),
                )
            except StepError as error:
                if self.failed is None:
                    raise
                from pybuild.executor.failedsteps import FailedStep

                left = await prepared.outputs.commit_all(ended)
                self.failed.keep(FailedStep(vertex, inputs, left))
                raise error.copy_with(vertex=vertex.digest) from error
            if loss := execop.loss_warning(op, ended):
                emit(BuildWarning(message=loss, spans=vertex.meta.spans))
            results = await prepared.outputs.commit(kept_mounts(op), ended, prepared.facts())
            if prepared.root in results:
                made = results[prepared.root].deltas[-1]
                prepared.lent.done(self._store.deltas.path(made))
            return results

    def _reason(
        self, op: ExecOp, ended: StepExit, step: StepSpec, last: Sequence[str]
    ) -> tuple[str, str]:
        from pybuild.executor.steps.exits import StepFiles, reason_of  # for failed steps alone

        ids = [mount.id for mount in op.mounts if mount.type is MountType.SECRET]
        missing = [id for id in ids if id in self._absent]
        files = StepFiles((step.upper, *reversed(step.lowers)))
        connected = step.connecting is not None
        return reason_of(op, ended, last, files, missing, self._store.root, connected=connected)

    def _open_proxies(self) -> StepProxies:
        if self._proxies is None:
            from pybuild.executor.proxies.stepproxies import StepProxies

            self._proxies = StepProxies(
                self._store, self._workers, self._network, self._judge, self._ca
            )
        return self._proxies

    def _common_of_steps(self) -> str:
        if not self._common:
            self._common = self._store.scratch("steps")
            os.makedirs(self._common + "/root")
        return self._common

    async def _mounts(
        self,
        vertex: Vertex,
        op: ExecOp,
        inputs: Sequence[Result],
        emit: Emit,
        stack: AsyncExitStack,
        outputs: Outputs,
    ) -> tuple[list[StepMount], list[str]]:
        """Return the step's mounts but for the root, in order, and secret variables."""
        mounts: list[StepMount] = []
        env: list[str] = []
        caches = await self._hold_caches(vertex, op, inputs, emit, stack)
        kept = kept_mounts(op)
        for number, mount in enumerate(op.mounts):
            match mount.type:
                case MountType.BIND if mount.target != "/" and (
                    number in kept or self._is_looked_into(mount, inputs)
                ):
                    base = Snapshot()
                    if mount.input is not None:
                        base = await self._inputs.snapshot(vertex, inputs, mount.input, emit)
                    lowers = await self._ensure(base, emit)
                    active = await outputs.begin(number, base)
                    mounts.append(
                        execop.bind_mount(
                            mount, lowers, mount.selector, upper=active.fs, work=active.work
                        )
                    )
                case MountType.BIND if mount.target != "/":
                    mounts.append(await self._bind(vertex, mount, inputs, emit))
                case MountType.CACHE:
                    mounts.append(execop.cache_mount(mount, caches.pop(0)))
                case MountType.TMPFS:
                    mounts.append(execop.tmpfs_mount(mount))
                case MountType.SECRET:
                    read = partial(execop.read_secret, mount, self._secrets)
                    data = await execop.looked_up(self._secrets, read)
                    if data is None:
                        self._absent.add(mount.id)
                    if data is not None and mount.env:
                        env.append(execop.secret_env(mount, data))
                    if data is not None and mount.target:
                        mounts.append(execop.secret_mount(mount, data))
                case MountType.SSH:
                    agent = self._sources.agents.get(mount.id)
                    if agent is not None:
                        mode = 0o600 if mount.mode is None else mount.mode
                        path = await agent.path(mount.uid, mount.gid, mode)
                        mounts.append(execop.ssh_mount(mount, path))
                    elif mount.required:
                        raise execop.no_agent(mount.id)
                case _:
                    pass
        mounts += map(execop.host_mount, op.host_mounts)
        return mounts, env

    def _is_looked_into(self, mount: Mount, inputs: Sequence[Result]) -> bool:
        """Whether what is written there, and lost otherwise, is kept should the step fail."""
        if self.failed is None or mount.readonly:
            return False
        return mount.input is None or isinstance(inputs[mount.input], Snapshot)

    async def _bind(
        self, vertex: Vertex, mount: Mount, inputs: Sequence[Result], emit: Emit
    ) -> StepMount:
        if mount.input is None:
            return execop.bind_mount(mount, (), mount.selector)
        source = input_of(vertex, inputs, mount.input)
        selector = mount.selector
        if isinstance(source, LocalTree):
            if lower := await self._contexts.lower(source):
                return execop.bind_mount(mount, (lower,), selector or "/")
            path = posixpath.normpath("/" + selector.lstrip("/"))
            copy = await self._inputs.copy(vertex, mount.input, source, path, emit)
            source, selector = copy.snapshot, copy.selector
        return execop.bind_mount(mount, await self._ensure(source, emit), selector or "/")

    async def _hold_caches(
        self,
        vertex: Vertex,
        op: ExecOp,
        inputs: Sequence[Result],
        emit: Emit,
        stack: AsyncExitStack,
    ) -> list[str]:
        mounts = [mount for mount in op.mounts if mount.type is MountType.CACHE]
        if not mounts:
            return []
        seeds: list[Seed | None] = []
        for mount in mounts:
            if mount.input is None:
                seeds.append(None)
                continue
            snapshot = await self._inputs.snapshot(vertex, inputs, mount.input, emit)
            seeds.append(Seed(snapshot, partial(self._ensure, snapshot, emit)))

        def say(id: str, origin: str, has_come: bool) -> None:
            emit(VertexMount(vertex=vertex.digest, id=id, origin=origin))
            if has_come:
                line = f'cache mount "{id}": {origin}; it counts in no key\n'
                data = line.encode("utf-8", "replace")
                time, stream = self._store.clock.now(), LogStream.STDERR
                emit(VertexLog(vertex=vertex.digest, time=time, stream=stream, data=data))

        def warn(text: str) -> None:
            emit(BuildWarning(message=text, spans=vertex.meta.spans))

        held = self.cache_mounts.hold(mounts, seeds, say, warn, renew=vertex.meta.ignore_cache)
        return await stack.enter_async_context(held)
