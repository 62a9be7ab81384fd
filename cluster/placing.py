"""The placer: on which worker a step runs. Pure.

A worker costs the seconds until it could begin: the wait for a slot, the bytes that have to come, and the
cache mounts that are not at home there. Times are estimates; who knows nothing of a step waits for nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b

from pybuild.model.dataclass import dataclass
from pybuild.model.platform import Platform

BYTES_PER_S = 100e6
"""Of a layer from worker to worker, packed and unpacked on the way."""
UNKNOWN_BYTES = 1 << 20
"""Of a delta whose size nobody has said: its order of magnitude is that of a small one."""
MOUNT_BYTES = 256 << 20
"""Worth of a cache mount that a worker has already."""
_LEAST_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A worker as the placer sees it.

    Attributes:
        platforms: its own first; the others it can run or emulate.
        has: the deltas that it holds.
        free_in_s: the seconds until a busy one has a slot, as far as can be said; None: it cannot.
        memory_bytes, memory_used: what it has, and what its steps used the last time; 0: unknown.
    """

    address: str
    platforms: tuple[Platform, ...]
    slots: int
    busy: int
    has: Collection[str]
    free_in_s: float | None = None
    memory_bytes: int = 0
    memory_used: int = 0

    def is_native(self, platform: Platform | None) -> bool:
        """Return whether its processor runs the platform's programs itself."""
        if platform is None:
            return True
        own = self.platforms[0].arch if self.platforms else ""
        return platform.arch == own or (own, platform.arch) == ("amd64", "386")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The needs of a step.

    Attributes:
        platform: None for file operations, which any machine does.
        deltas: all of its inputs.
        avoid: addresses of workers that have failed it.
        step: its name, for people.
        seconds: its duration the last time; None: unknown.
        memory_bytes: the most memory that it used then, and some; 0: unknown.
        mounts: ids of its cache mounts.
        locked: those of them that one step at a time may use: they are used at home only.
    """

    platform: Platform | None
    deltas: tuple[str, ...]
    avoid: frozenset[str] = frozenset()
    step: str = ""
    seconds: float | None = None
    memory_bytes: int = 0
    mounts: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The seconds until a step could begin at a worker."""

    address: str
    wait_s: float
    bytes_s: float
    mounts_s: float
    is_free: bool

    @property
    def seconds(self) -> float:
        return self.wait_s + self.bytes_s + self.mounts_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The placer's answer.

    Attributes:
        worker: where it runs now; None: nowhere yet.
        again_s: when to ask again at the latest; None: once something has changed.
        costs: of each worker that can run it, the best first.
    """

    worker: Candidate | None
    again_s: float | None
    costs: tuple[Cost, ...]


def fitting(needs: Needs, workers: Iterable[Candidate]) -> list[Candidate]:
    """Return the workers that can run the step at all, busy or not: emulating ones if there is no other."""
    able = [
        worker
        for worker in workers
        if worker.address not in needs.avoid
        and (needs.platform is None or needs.platform in worker.platforms)
    ]
    native = [worker for worker in able if worker.is_native(needs.platform)]
    able = native or able
    for mount in needs.locked:
        home = home_of(mount, able)
        able = [worker for worker in able if worker.address == home]
    return able


def home_of(mount: str, workers: Iterable[Candidate]) -> str:
    """Return the address of a cache mount's home: the same one for as long as it is among *workers*."""

    def score(address: str) -> bytes:
        return blake2b(f"{mount}\0{address}".encode(), digest_size=8).digest()

    return max((worker.address for worker in workers), key=score, default="")


def place(needs: Needs, workers: Iterable[Candidate], sizes: Mapping[str, int]) -> Placement:
    """Return where a step runs: where it can begin first, be it by waiting for a slot.

    It is not waited for longer than half of the step's own time. Ties go to the one with the most free
    slots, then by address, so that equal questions have equal answers.

    Args:
        sizes: bytes of deltas, as far as known.
    """
    able = fitting(needs, workers)
    homes = {mount: home_of(mount, able) for mount in needs.mounts}
    costs = {worker.address: _cost(needs, worker, sizes, homes) for worker in able}
    by_address = {worker.address: worker for worker in able}

    def rank(cost: Cost) -> tuple[float, int, str]:
        worker = by_address[cost.address]
        return cost.seconds, worker.busy - worker.slots, cost.address

    ordered = sorted(costs.values(), key=rank)
    first_free = next((cost for cost in ordered if cost.is_free), None)
    if first_free is None:
        return Placement(worker=None, again_s=None, costs=tuple(ordered))
    best = ordered[0]
    if not best.is_free and needs.seconds is not None:
        patience = max(_LEAST_PATIENCE_S, needs.seconds / 2)
        if best.wait_s <= patience and best.seconds < first_free.seconds:
            return Placement(worker=None, again_s=best.wait_s + 0.05, costs=tuple(ordered))
    return Placement(worker=by_address[first_free.address], again_s=None, costs=tuple(ordered))


def _cost(
    needs: Needs, worker: Candidate, sizes: Mapping[str, int], homes: Mapping[str, str]
) -> Cost:
    moved = sum(
        sizes.get(delta, UNKNOWN_BYTES)
        for delta in dict.fromkeys(needs.deltas)
        if delta not in worker.has
    )
    away = sum(home != worker.address for home in homes.values())
    has_room = (
        not worker.busy
        or not worker.memory_bytes
        or worker.memory_used + needs.memory_bytes <= worker.memory_bytes
    )
    is_free = worker.busy < worker.slots and has_room
    wait_s = 0.0 if is_free else float("inf") if worker.free_in_s is None else worker.free_in_s
    return Cost(
        address=worker.address,
        wait_s=wait_s,
        bytes_s=moved / BYTES_PER_S,
        mounts_s=away * MOUNT_BYTES / BYTES_PER_S,
        is_free=is_free,
    )


def table(costs: Sequence[Cost]) -> str:
    """Return the costs as text, a line a worker."""
    lines = [
        f"{cost.address}: {cost.seconds:.2f} s = wait {cost.wait_s:.2f} + bytes {cost.bytes_s:.2f} "
        f"+ cache mounts {cost.mounts_s:.2f}"
        for cost in costs
    ]
    return "\n".join(lines) + ("\n" if lines else "")
