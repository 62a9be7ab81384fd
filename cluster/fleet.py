"""The fleet: the workers that a coordinator is connected to, what each holds, and who has a free slot."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from pybuild.cluster import wire
from pybuild.cluster.borrowing import DeltaPlace
from pybuild.cluster.dialing import dial
from pybuild.cluster.health import WorkerHealth
from pybuild.cluster.messages import HELLO, Hello, read
from pybuild.cluster.placing import Candidate, Cost, Needs, fitting, place
from pybuild.model.dataclass import dataclass
from pybuild.model.layerfacts import LENT_PREFIX
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import Code, RpcError

_HELLO_S = 5.0
_AGAIN_S = 1.0
_PING_S = 2.0
_PONG_S = 6.0
STAYS_S = 10.0
_MOST_DECISIONS = 1000


@dataclass(slots=True, kw_only=True)
class HeldSlot:
    """A step that runs at a worker; times are a monotonic clock's.

    Attributes:
        pause: the thing that it waits for there; empty: it runs.
        ends: when it will have ended, going by the last time; None: unknown.
    """

    step: str
    began: float
    ends: float | None
    memory_bytes: int
    pause: str = ""


class Worker:
    """A worker that answers.

    Attributes:
        has: the deltas that it is known to hold.
        health: of its address, whoever answers there.
        running: the steps that hold its slots.
        heard: those that are listened to, of other coordinators' claims.
        is_leaving: it gets no more work.
    """

    def __init__(
        self,
        address: str,
        channel: Channel,
        hello: Hello,
        health: WorkerHealth | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.channel = channel
        self.hello = hello
        self.health = health or WorkerHealth()
        self.running: list[HeldSlot] = []
        self.heard: list[HeldSlot] = []
        self.is_leaving = False
        self.has: set[str] = set()
        self._changed = changed

    @property
    def name(self) -> str:
        """The name for people: host and port, or the socket's."""
        _, _, place = self.address.rpartition("://")
        return place if self.address.startswith("tcp:") else Path(place).stem

    @property
    def busy(self) -> int:
        return len(self.running)

    @property
    def is_closed(self) -> bool:
        return self.channel.closed.is_set()

    @property
    def is_well(self) -> bool:
        return self.health.is_well(time.monotonic())

    def blame(self, reason: str) -> None:
        """Give it no work for a time, and ask it for nothing: it lied."""
        self.health.set_aside(time.monotonic(), reason)
        self._changed()

    def faulted(self, step: str, reason: str) -> None:
        """Note a fault of its machine."""
        self.health.faulted(time.monotonic(), step, reason)
        self._changed()

    def candidate(self) -> Candidate:
        """Return it as the placer sees it."""
        now = time.monotonic()
        ends = [one.ends for one in self.running if one.ends is not None and one.ends > now]
        return Candidate(
            address=self.address,
            platforms=self.hello.platforms,
            slots=self.hello.slots,
            busy=self.busy,
            has=self.has,
            free_in_s=min(ends) - now if ends else None,
            memory_bytes=self.hello.memory_bytes,
            memory_used=sum(one.memory_bytes for one in self.running),
        )

    async def reach(self) -> Channel:
        """Return the channel."""
        return self.channel


class Fleet:
    """The workers at *addresses*; who does not answer is tried again for as long as the fleet is open.

    Args:
        resized: called with the number of slots when it may have changed.

    Attributes:
        sizes: bytes of deltas, as workers said.
        decisions: what the placer weighed for each of the last steps, by its name.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        tls: ssl.SSLContext | None,
        resized: Callable[[int], None] = lambda slots: None,
    ) -> None:
        self._addresses = addresses
        self._members = dict.fromkeys(addresses, math.inf)
        self._resized = resized
        self.sizes: dict[str, int] = {}
        self.decisions: OrderedDict[str, tuple[Cost, ...]] = OrderedDict()
        self._tls = tls
        self._workers: dict[str, Worker] = {}
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._health: dict[str, WorkerHealth] = {}
        self.reasons: dict[str, str] = {}

    async def open(self) -> None:
        """Connect to all; return when each has answered or failed once."""
        await self._connect(self._addresses)

    async def update(self, addresses: Collection[str]) -> None:
        """Have others at these addresses as members, too; return when each has answered or failed once.

        A member of before that is not among them gets steps for some seconds more: it may be that only
        who listed them had to begin anew.
        """
        until = time.monotonic() + STAYS_S
        for address, before in self._members.items():
            if address not in addresses and address not in self._addresses:
                self._members[address] = min(before, until)
        new = [address for address in addresses if address not in self._tasks]
        self._members |= dict.fromkeys(addresses, math.inf)
        self._change()
        await self._connect(new)

    async def _connect(self, addresses: Sequence[str]) -> None:
        first = {address: asyncio.Event() for address in addresses}
        for address, tried in first.items():
            self._tasks[address] = asyncio.create_task(self._keep(address, tried))
        await asyncio.gather(*(tried.wait() for tried in first.values()))

    async def close(self) -> None:
        """Leave all workers."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._timer is not None:
            self._timer.cancel()

    def worker(self, address: str) -> Worker | None:
        """Return the worker at *address* if it answers, and may be asked for what it has."""
        worker = self._workers.get(address)
        return worker if worker in self._lenders else None

    @property
    def connected(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if not worker.is_closed]

    @property
    def workers(self) -> list[Worker]:
        """Those that get work."""
        return [worker for worker in self._lenders if not worker.is_leaving]

    @property
    def _lenders(self) -> list[Worker]:
        """Those that are asked for what they have: also who gets no more work."""
        return [worker for worker in self.connected if worker.is_well]

    @property
    def slots(self) -> int:
        return sum(one.hello.slots for one in self.workers if self._is_member(one.address))

    def fits(self, needs: Needs) -> bool:
        """Return whether any worker can run the step, busy or not."""
        return bool(fitting(needs, self._candidates()))

    def _candidates(self) -> list[Candidate]:
        return [one.candidate() for one in self.workers if self._is_member(one.address)]

    def _is_member(self, address: str) -> bool:
        return time.monotonic() < self._members.get(address, 0.0)

    @asynccontextmanager
    async def slot(self, needs: Needs) -> AsyncGenerator[tuple[Worker, HeldSlot] | None]:
        """Hold a slot of the worker that suits the step best, when one is free; None: none can run it."""
        worker = await self._placed(needs)
        if worker is None:
            yield None
            return
        now = time.monotonic()
        ends = None if needs.seconds is None else now + needs.seconds
        running = HeldSlot(step=needs.step, began=now, ends=ends, memory_bytes=needs.memory_bytes)
        worker.running.append(running)
        try:
            yield worker, running
        finally:
            _take_out(worker.running, running)
            self._change()

    @contextmanager
    def listening(self, worker: Worker, needs: Needs) -> Generator[tuple[Worker, HeldSlot]]:
        """Note that a step is listened to at *worker*, in a slot of whoever had it begin."""
        heard = HeldSlot(step=needs.step, began=time.monotonic(), ends=None, memory_bytes=0)
        worker.heard.append(heard)
        try:
            yield worker, heard
        finally:
            _take_out(worker.heard, heard)

    async def _placed(self, needs: Needs) -> Worker | None:
        while self.fits(needs):
            placement = place(needs, self._candidates(), self.sizes)
            if placement.worker is not None:
                self._note(needs.step, placement.costs)
                return self._workers[placement.worker.address]
            changed = self._changed
            with suppress(TimeoutError):
                async with asyncio.timeout(placement.again_s):
                    await changed.wait()
        return None

    def _note(self, step: str, costs: tuple[Cost, ...]) -> None:
        self.decisions[step] = costs
        self.decisions.move_to_end(step)
        if len(self.decisions) > _MOST_DECISIONS:
            self.decisions.popitem(last=False)

    def drain(self, address: str) -> bool:
        """Give a worker no more work; return whether it is there. What runs there goes on."""
        worker = self._workers.get(address)
        if worker is None or worker.is_closed:
            return False
        worker.is_leaving = True
        self._change()
        return True

    def holders(self, delta: str) -> list[Worker]:
        """Return the workers that hold a delta, the idle ones first."""
        having = [worker for worker in self._lenders if delta in worker.has]
        return sorted(having, key=lambda worker: (worker.busy, worker.address))

    def places(self, delta: str, layout: str) -> list[DeltaPlace]:
        """Return where a delta can be asked for; *layout* is what its record names."""
        workers = self.holders(delta)
        noted = self._workers.get(layout.removeprefix(LENT_PREFIX))
        if noted in self._lenders and noted not in workers:
            workers.append(noted)
        return [DeltaPlace(worker.address, worker.reach, delta, worker.blame) for worker in workers]

    def _change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._resized(self.slots)
        now = time.monotonic()
        later = [w.health.until - now for w in self.connected if not w.is_well]
        later += [until - now for until in self._members.values() if now < until < math.inf]
        if later and (
            self._timer is None or self._timer.when() < asyncio.get_running_loop().time()
        ):
            self._timer = asyncio.get_running_loop().call_later(min(later) + 0.01, self._change)

    async def _keep(self, address: str, tried: asyncio.Event) -> None:
        while True:
            channel: Channel | None = None
            try:
                channel = await dial(address, self._tls)
                answer = await channel.unary(HELLO, wire.write(Hello()), timeout=_HELLO_S)
                health = self._health.setdefault(address, WorkerHealth())
                worker = Worker(address, channel, read(Hello, answer), health, self._change)
                self._workers[address] = worker
                self.reasons.pop(address, None)
                tried.set()
                self._change()
                await self._watch(worker)
                self.reasons[address] = "it has gone"
            except (OSError, RpcError, ValueError) as error:
                self.reasons[address] = str(error) or type(error).__name__
            finally:
                tried.set()
                if channel is not None:
                    await channel.close()
                self._change()
            if not self._is_member(address):
                del self._tasks[address], self._members[address]
                self._workers.pop(address, None)
                self.reasons.pop(address, None)
                return
            await asyncio.sleep(_AGAIN_S)

    async def _watch(self, worker: Worker) -> None:
        """Return when the worker has gone, or is silent for some seconds though connected."""
        while not worker.is_closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PING_S):
                    await worker.channel.closed.wait()
                    return
            try:
                await worker.channel.unary(HELLO, wire.write(Hello()), timeout=_PONG_S)
            except RpcError as error:
                if error.code is Code.DEADLINE_EXCEEDED:
                    worker.blame(f"it was silent for {_PONG_S:.0f} s")
                raise


def _take_out(slots: list[HeldSlot], one: HeldSlot) -> None:
    """Remove *one*, and not an equal one."""
    slots[:] = [other for other in slots if other is not one]
