"""The limits of a container after an update: those that it had, with others in their place [CTR-65]. Pure."""

from __future__ import annotations

from pybuild.containers.config import ContainerConfig
from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.zygote import cgroups
from pybuild.model.errors import UserError


def limits_with(
    config: ContainerConfig, given: StepLimits, *, has_cpus: bool
) -> tuple[StepLimits, StepLimits]:
    """Return the limits that a container has then, and those of them that its cgroups are to be given.

    Args:
        given: those that are not 0 count; -1 takes that of processes away.
        has_cpus: its processors were given as one number, not as a period and a quota.

    Raises:
        UserError: they contradict those that it has.
    """
    known = config.limits
    _check_cpus(config, given, has_cpus=has_cpus)
    changed = {name: value for name, value in given._asdict().items() if value}
    limits = known._replace(**changed)
    swap = known.memory_swap_bytes or 2 * known.memory_bytes
    if given.memory_swap_bytes > 0 and not limits.memory_bytes:
        _refuse(
            config, "you should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < given.memory_swap_bytes < limits.memory_bytes:
        _refuse(config, "Minimum memoryswap limit should be larger than memory limit, see usage")
    if given.memory_bytes and not given.memory_swap_bytes:
        if 0 < swap < given.memory_bytes:
            _refuse(
                config,
                "Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time",
            )
        limits = limits._replace(memory_swap_bytes=swap)
    # The kernel is told of what is one to it, though only a half of it changes.
    changes = given
    if given.memory_bytes or given.memory_swap_bytes:
        changes = changes._replace(
            memory_bytes=limits.memory_bytes, memory_swap_bytes=limits.memory_swap_bytes
        )
    if given.cpu_period_us or given.cpu_quota_us:
        changes = changes._replace(
            cpu_period_us=limits.cpu_period_us, cpu_quota_us=limits.cpu_quota_us
        )
    if given.pids < 0:
        changes = changes._replace(pids=cgroups.default_pids())
    return limits._replace(pids=max(0, limits.pids)), changes


def _check_cpus(config: ContainerConfig, given: StepLimits, *, has_cpus: bool) -> None:
    known, conflict = config.limits, "Conflicting options: "
    if has_cpus and not config.has_cpus:
        for name, value in (("Period", known.cpu_period_us), ("Quota", known.cpu_quota_us)):
            if value:
                what = f"Nano CPUs cannot be updated as CPU {name} has already been set"
                _refuse(config, conflict + what)
    elif config.has_cpus and not has_cpus:
        for name, value in (("Period", given.cpu_period_us), ("Quota", given.cpu_quota_us)):
            if value:
                what = f"CPU {name} cannot be updated as NanoCPUs has already been set"
                _refuse(config, conflict + what)


def _refuse(config: ContainerConfig, why: str) -> None:
    raise UserError(f"cannot update container {config.name}: {why}")
