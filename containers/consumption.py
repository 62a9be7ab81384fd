"""How much of the machine a container takes: by its cgroups, and where there are none by its processes [CTR-80].

Both versions of cgroups are read, also side by side, each by the files that are there: which
controllers a container has depends on its limits, and on the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.insides import pids_of
from pybuild.containers.log import moment
from pybuild.containers.state import ContainerState
from pybuild.model.amounts import binary_bytes, short_bytes
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NEVER = "0001-01-01T00:00:00Z"
_UNLIMITED = 1 << 62
_LOOPBACK = "lo"
_COUNTERS = ("bytes", "packets", "errors", "dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """One look at a container; of one that does not run, nothing.

    Attributes:
        at: nanoseconds since the epoch.
        cpu, user, kernel: nanoseconds of processors so far; *machine*: of all processes there are.
        memory: bytes, with *memory_stat* of its cgroup, and *memory_limit*.
        counts: its memory is that of a cgroup, not a sum over processes.
        pids: its processes; *pids_limit*: 0 is none.
        read, written: bytes of disks.
        devices: what came and went by each device of a network namespace of its own.
    """

    at: int = 0
    cpu: int = 0
    user: int = 0
    kernel: int = 0
    machine: int = 0
    memory: int = 0
    memory_stat: dict[str, int] = field(default_factory=dict[str, int])
    memory_limit: int = 0
    counts: bool = False
    pids: int = 0
    pids_limit: int = 0
    read: int = 0
    written: int = 0
    devices: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    @property
    def used_memory(self) -> int:
        """The memory less the file cache that the kernel can take back, as docker shows it."""
        stat = self.memory_stat
        cache = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        return self.memory - cache if cache < self.memory else self.memory

    def received(self) -> int:
        return sum(one["rx_bytes"] for one in self.devices.values())

    def sent(self) -> int:
        return sum(one["tx_bytes"] for one in self.devices.values())

    def cpu_percent(self, before: Consumption) -> float:
        """Return the share of one processor since *before*, in per cent: four busy ones are 400."""
        ours, all = self.cpu - before.cpu, self.machine - before.machine
        return ours / all * online() * 100 if ours > 0 and all > 0 else 0.0


def online() -> int:
    """Return how many processors there are."""
    return os.cpu_count() or 1


def consumption(state: ContainerState, config: ContainerConfig) -> Consumption:
    """Look at a container now."""
    if not state.pid:
        return Consumption()
    paths = [path for _, path in state.leaf]
    pids = pids_of(paths, state.pid)
    user, kernel = _times(pids, state.pid)
    usage = _usage(paths)
    memory = _number(paths, "memory.current", "memory.usage_in_bytes")
    has_own_network = bool(config.networks) or config.network == "none"
    read, written = _transfers(pids)
    return Consumption(
        at=time.time_ns(),
        cpu=user + kernel if usage is None else usage,
        user=user,
        kernel=kernel,
        machine=_machine_time(),
        memory=_resident(pids) if memory is None else memory,
        memory_stat=_fields(_text(paths, "memory.stat")),
        memory_limit=_memory_limit(paths),
        counts=memory is not None,
        pids=_number(paths, "pids.current") or len(pids),
        pids_limit=_number(paths, "pids.max") or 0,
        read=read,
        written=written,
        devices=_devices(state.pid) if has_own_network else {},
    )


def _text(paths: Sequence[str], *names: str) -> str:
    """Return the first file of these cgroups by one of these names; "": there is none."""
    for path in paths:
        for name in names:
            try:
                with open(f"{path}/{name}", encoding="ascii") as file:
                    return file.read()
            except OSError:
                continue
    return ""


def _number(paths: Sequence[str], *names: str) -> int | None:
    text = _text(paths, *names).strip()
    return int(text) if text.isdecimal() else None


def _fields(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _usage(paths: Sequence[str]) -> int | None:
    """Return the nanoseconds that a cgroup has counted; None: none of ours does."""
    stat = _fields(_text(paths, "cpu.stat"))
    if "usage_usec" in stat and any(os.path.exists(f"{path}/cpu.max") for path in paths):
        return stat["usage_usec"] * 1000
    return _number(paths, "cpuacct.usage")


def _memory_limit(paths: Sequence[str]) -> int:
    """Return its limit, that of the machine where it has none."""
    whole = _PAGE * os.sysconf("SC_PHYS_PAGES")
    limit = _number(paths, "memory.max", "memory.limit_in_bytes")
    return whole if limit is None or limit > _UNLIMITED else min(limit, whole)


def _machine_time() -> int:
    with open("/proc/stat", encoding="ascii") as file:
        return sum(map(int, file.readline().split()[1:8])) * _TICK_NS


def _times(pids: Sequence[int], first: int) -> tuple[int, int]:
    """Return the nanoseconds of processes in user space and in the kernel, with those of the dead that *first* reaped."""
    user = kernel = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                words = file.read().rpartition(b")")[2].split()
            counts = [int(word) for word in words[11:15]]
        except (OSError, ValueError):
            continue  # it has just ended
        user += counts[0] + (counts[2] if pid == first else 0)
        kernel += counts[1] + (counts[3] if pid == first else 0)
    return user * _TICK_NS, kernel * _TICK_NS


def _resident(pids: Sequence[int]) -> int:
    """Return the memory that processes have for themselves."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                words = file.read().split()
            pages += int(words[1]) - int(words[2])
        except (OSError, ValueError, IndexError):
            continue
    return pages * _PAGE


def _transfers(pids: Sequence[int]) -> tuple[int, int]:
    """Return the bytes that the processes of now have read from disks, and written."""
    read = written = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/io", encoding="ascii") as file:
                known = _fields(file.read().replace(":", ""))
        except OSError:
            continue  # it has just ended, or is not ours to look at
        read += known.get("read_bytes", 0)
        written += known.get("write_bytes", 0)
    return read, written


def _devices(pid: int) -> dict[str, dict[str, int]]:
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    by_device: dict[str, dict[str, int]] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = list(map(int, rest.split()))
        if name.strip() != _LOOPBACK and len(numbers) >= 12:
            received = {f"rx_{what}": numbers[n] for n, what in enumerate(_COUNTERS)}
            sent = {f"tx_{what}": numbers[8 + n] for n, what in enumerate(_COUNTERS)}
            by_device[name.strip()] = {**received, **sent}
    return by_device


def stats_document(
    config: ContainerConfig, now: Consumption, before: Consumption
) -> dict[str, Any]:
    """Return docker's stats of a container, of which clients work out the percentages themselves [CTR-80].

    Args:
        before: the look before this one; an empty one where there was none.
    """
    document: dict[str, Any] = {
        "id": config.id,
        "name": f"/{config.name}",
        "os_type": "linux",
        "read": moment(now.at) if now.at else _NEVER,
        "preread": moment(before.at) if before.at else _NEVER,
        "pids_stats": {"current": now.pids} if now.at else {},
        "num_procs": 0,
        "storage_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 0, "minor": 0, "op": op, "value": count}
                for op, count in (("read", now.read), ("write", now.written))
            ]
            if now.at
            else None
        },
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(before),
        "memory_stats": {
            "usage": now.memory,
            "stats": dict(now.memory_stat),
            "limit": now.memory_limit,
        }
        if now.at
        else {},
    }
    if now.pids_limit:
        document["pids_stats"]["limit"] = now.pids_limit
    if now.devices:
        document["networks"] = {name: dict(known) for name, known in now.devices.items()}
    return document


def _cpu(look: Consumption) -> dict[str, Any]:
    known: dict[str, Any] = {
        "cpu_usage": {
            "total_usage": look.cpu,
            "usage_in_kernelmode": look.kernel,
            "usage_in_usermode": look.user,
        },
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }
    if look.at:
        known |= {"system_cpu_usage": look.machine, "online_cpus": online()}
    return known


def measured(
    containers: Containers, names: Sequence[str], *, all: bool
) -> list[tuple[Container, Consumption]]:
    listed = [containers.find(name) for name in names] or containers.list()
    looks: list[tuple[Container, Consumption]] = []
    for one in listed:
        try:
            state = one.state()
        except UserError:
            continue  # it was just removed
        if names or all or state.lives:
            looks.append((one, consumption(state, one.config)))
    return looks


def consumption_row(
    one: Container, now: Consumption, before: Consumption | None, *, whole: bool
) -> dict[str, Any]:
    share = now.used_memory / now.memory_limit * 100 if now.memory_limit else 0.0
    percent = now.cpu_percent(before) if before is not None else 0.0
    id = one.config.id if whole else one.config.short_id
    return {
        "BlockIO": f"{short_bytes(now.read)} / {short_bytes(now.written)}",
        "CPUPerc": f"{percent:.2f}%",
        "Container": id,
        "ID": id,
        "MemPerc": f"{share:.2f}%",
        "MemUsage": f"{binary_bytes(now.used_memory)} / {binary_bytes(now.memory_limit)}",
        "Name": one.config.name,
        "NetIO": f"{short_bytes(now.received())} / {short_bytes(now.sent())}",
        "PIDs": str(now.pids),
    }
