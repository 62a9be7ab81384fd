"""A step's limits as texts for the files of a cgroup. Pure [SBX-13]."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepLimits

MEMORY, CPU, CPUSET, PIDS = "memory", "cpu", "cpuset", "pids"
FREEZER = "freezer"
"""Of version 1 only; the other has it in every cgroup."""
ALWAYS = (MEMORY, PIDS)
"""The controllers that count every step, limits or not."""

_BY_CONTROLLER = {
    MEMORY: ("memory_bytes", "memory_swap_bytes", "reserved_bytes", "swappiness"),
    CPU: ("cpu_shares", "cpu_period_us", "cpu_quota_us"),
    CPUSET: ("cpuset_cpus", "cpuset_mems"),
    PIDS: ("pids",),
}
# As `model.options` names them, which a zygote does not import; `tests/executor/test_cgroups.py` compares.
_FLAGS = {
    "memory_bytes": "memory",
    "memory_swap_bytes": "memory-swap",
    "cpu_shares": "cpu-shares",
    "cpu_period_us": "cpu-period",
    "cpu_quota_us": "cpu-quota",
    "cpuset_cpus": "cpuset-cpus",
    "cpuset_mems": "cpuset-mems",
    "pids": "pids",
    # Of containers alone.
    "reserved_bytes": "memory-reservation",
    "swappiness": "memory-swappiness",
}
DEFAULT_PERIOD_US = 100_000
_DEFAULT = ""
"""Of a limit that nobody named, and nobody is warned of where it cannot be had."""


def controllers(limits: StepLimits) -> list[str]:
    """Return the controllers that a step with these limits needs, in a fixed order."""
    extra = [
        name for name, keys in _BY_CONTROLLER.items() if any(getattr(limits, key) for key in keys)
    ]
    return list(dict.fromkeys((*ALWAYS, *extra)))


def flags(controller: str, limits: StepLimits) -> list[str]:
    """Return the names of the limits that are lost without *controller*; not that of a default."""
    return [_FLAGS[key] for key in _BY_CONTROLLER[controller] if getattr(limits, key)]


def files(controller: str, version: int, limits: StepLimits) -> list[tuple[str, str, str]]:
    """Return ``(file, text, limit)``, in the order in which a new cgroup takes them; *limit* may be ""."""
    if controller == PIDS:
        texts = [("pids.max", str(limits.pids), "pids")] if limits.pids else []
    elif controller == MEMORY:
        texts = _memory(version, limits.memory_bytes, limits.memory_swap_bytes)
        if limits.reserved_bytes:
            file = "memory.soft_limit_in_bytes" if version == 1 else "memory.low"
            texts.append((file, str(limits.reserved_bytes), "reserved_bytes"))
        if limits.swappiness:  # which version 2 does not have, and then that is said
            texts.append(("memory.swappiness", limits.swappiness, "swappiness"))
    elif controller == CPU:
        texts = _cpu(version, limits)
    else:
        # Version 1 refuses processes while either is empty; the caller fills in the parent's.
        cpuset = (("cpuset_cpus", limits.cpuset_cpus), ("cpuset_mems", limits.cpuset_mems))
        texts = [(key.replace("_", "."), text, key) for key, text in cpuset if text]
    return [(file, text, key and _FLAGS[key]) for file, text, key in texts]


def _memory(version: int, memory: int, swap: int) -> list[tuple[str, str, str]]:
    """Without a limit for swap there is as much of it as memory, as docker has it."""
    texts: list[tuple[str, str, str]] = []
    key = "memory_swap_bytes" if swap else _DEFAULT
    swap = swap or 2 * memory
    if version == 1:
        if memory:
            texts.append(("memory.limit_in_bytes", str(memory), "memory_bytes"))
        if swap:
            texts.append(("memory.memsw.limit_in_bytes", str(swap), key))
    else:
        if memory:
            texts.append(("memory.max", str(memory), "memory_bytes"))
        if swap:
            text = "max" if swap < 0 else str(max(0, swap - memory))
            texts.append(("memory.swap.max", text, key))
    return texts


def _cpu(version: int, limits: StepLimits) -> list[tuple[str, str, str]]:
    shares, period, quota = limits.cpu_shares, limits.cpu_period_us, limits.cpu_quota_us
    texts: list[tuple[str, str, str]] = []
    if version == 1:
        if shares:
            texts.append(("cpu.shares", str(shares), "cpu_shares"))
        if period:
            texts.append(("cpu.cfs_period_us", str(period), "cpu_period_us"))
        if quota:
            texts.append(("cpu.cfs_quota_us", str(quota), "cpu_quota_us"))
    else:
        if shares:
            texts.append(("cpu.weight", str(weight(shares)), "cpu_shares"))
        if period or quota:
            text = f"{quota if quota > 0 else 'max'} {period or DEFAULT_PERIOD_US}"
            texts.append(("cpu.max", text, "cpu_quota_us" if quota else "cpu_period_us"))
    return texts


def weight(shares: int) -> int:
    """Return version 2's weight, 1 to 10000, for version 1's shares, 2 to 262144 (OCI's rule)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


def default_pids(threads_max: int) -> int:
    """Return how many processes a step may have, so that one that forks for ever ends by itself.

    The kernel's own limit is one for each 128 KiB of memory; each real process takes some hundreds.
    """
    return min(16384, max(1024, threads_max // 8))
