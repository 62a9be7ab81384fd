"""Options of ``run`` and ``create`` as the parts of a container's config."""

from __future__ import annotations

from pybuild.arguments.values import parse_pairs
from pybuild.containers import defaults
from pybuild.containers.givenwords import shown_alone, whole_seconds, with_rotation
from pybuild.containers.mounts import GivenMounts
from pybuild.containers.order import HealthCheck, LogConfig
from pybuild.containers.signals import signal_number
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.amounts import parse_binary_size
from pybuild.model.errors import UsageError, UserError
from pybuild.model.options import STEP_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.commandline.parser import Parsed

_DURATIONS = ("interval", "timeout", "start-period", "start-interval")


def log_config(parsed: Parsed) -> LogConfig:
    """Read ``--log-driver`` and ``--log-opt`` [CTR-7, CTR-75].

    Raises:
        UsageError: there is no such driver, or it has no such option.
    """
    options = parse_pairs(parsed.many("log-opt"), "log option", from_environment=False)
    return with_rotation(defaults.log_config(parsed.one("log-driver"), options))


def health_check(parsed: Parsed, image: Mapping[str, Any]) -> HealthCheck | None:
    """Return the health check: the image's, with what ``--health-*`` says in its place [CTR-3].

    Raises:
        UsageError: options that contradict each other, or are wrong.
    """
    command = parsed.one("health-cmd")
    names = [*_DURATIONS, "retries"]
    if parsed.flag("no-healthcheck"):
        if command or any(parsed.one(f"health-{name}") for name in names):
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return HealthCheck(("NONE",))
    given: dict[str, Any] = {"Test": ["CMD-SHELL", command]} if command else {}
    try:
        for name in _DURATIONS:
            if value := parsed.one(f"health-{name}"):
                from pybuild.frontend.syntax.healthchecks import interval_ns

                key = "".join(word.capitalize() for word in name.split("-"))
                given[key] = interval_ns(name, value)
    except UserError as error:
        raise UsageError(f"--health-*: {error.message}") from error
    text = parsed.one("health-retries")
    if text.startswith("-"):
        raise UsageError("--health-retries cannot be negative")
    if text and not text.isdecimal():
        raise UsageError(f'invalid --health-retries "{text}": expected a number')
    return defaults.health_check({**given, "Retries": int(text or 0)}, image)


def surroundings(parsed: Parsed, *, is_update: bool = False) -> dict[str, Any]:
    """Return the fields of a config that limits, ulimits and names of hosts are in.

    Args:
        is_update: of a container that has others; see `updating.limits_with`.

    Raises:
        UsageError: one of them is wrong.
    """
    options = {"resource", "cgroup-parent", *(one.name for one in STEP_OPTIONS)} - {"network"}
    fields: dict[str, Any] = {"has_cpus": bool(parsed.one("cpus"))}
    if options.isdisjoint(parsed.values):  # as a rule; what reads them takes long to load
        return {"limits": _limits(parsed, StepLimits(), is_update=is_update), **fields}
    from pybuild.model.resources import read_limit
    from pybuild.model.stepoptions import settings_of_flags

    # The memory that swap comes on top of may be known already.
    apart = ("network", "memory-swap") if is_update else ("network",)
    settings = settings_of_flags(lambda name: () if name in apart else parsed.many(name))
    limits = {name: getattr(settings.resources, name) for name in settings.resources.__slots__}
    if is_update and (swap := parsed.one("memory-swap")):
        limits["memory_swap_bytes"] = read_limit("memory-swap", swap)
    return {
        "add_hosts": settings.add_hosts,
        "ulimits": settings.ulimits,
        "shm_bytes": settings.shm_size_bytes,
        "limits": _limits(parsed, StepLimits(**limits), is_update=is_update),
        **fields,
    }


def _limits(parsed: Parsed, limits: StepLimits, *, is_update: bool) -> StepLimits:
    """Return the limits of a container's cgroup, with docker's own spellings [CTR-7]."""
    limits = limits._replace(
        reserved_bytes=parse_binary_size(
            parsed.one("memory-reservation") or "0", "memory-reservation"
        ),
        swappiness=defaults.swappiness(parsed.one("memory-swappiness")),
    )
    defaults.check_limits(limits)
    if cpus := parsed.one("cpus"):
        limits = defaults.with_cpus(limits, defaults.read_cpus(cpus))
    if pids := parsed.one("pids-limit"):
        limits = limits._replace(pids=defaults.read_pids(pids) or (-1 if is_update else 0))
    return limits


def only_shown(parsed: Parsed) -> dict[str, Any]:
    """Return the fields of a config that are shown as they were given; see `shown_alone`."""
    notes = parse_pairs(parsed.many("annotation"), "annotation", from_environment=False)
    trusts = parsed.flag("disable-content-trust", True)
    shown = shown_alone(notes, parsed.one("volume-driver"), trusts=trusts)
    more = {
        "ContainerIDFile": parsed.one("cidfile"),
        "PublishAllPorts": parsed.flag("publish-all"),
    }
    shown["HostConfig"] |= {name: value for name, value in more.items() if value}
    if "init" in parsed.values:
        shown["HostConfig"]["Init"] = parsed.flag("init")
    return shown


def stopping(parsed: Parsed, image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config that say how it is stopped [CTR-31].

    Raises:
        UsageError: one of them is wrong.
    """
    given = parsed.one("stop-signal")
    if given:
        signal_number(given)
    text = parsed.one("stop-timeout")
    return {
        "stop_signal": given or str(image.get("StopSignal") or ""),
        "stop_seconds": whole_seconds(text) if text else None,
    }


def mounts_of(parsed: Parsed) -> GivenMounts:
    """Return the mounts that the options name.

    Raises:
        UsageError: one of them is wrong.
    """
    others = parsed.many("volumes-from")
    if parsed.values.keys().isdisjoint(("volume", "mount", "tmpfs")):
        return GivenMounts((), others)
    from pybuild.volumes.reading import read_bind, read_mount, read_tmpfs

    own = (
        *map(read_bind, parsed.many("volume")),
        *map(read_mount, parsed.many("mount")),
        *map(read_tmpfs, parsed.many("tmpfs")),
    )
    return GivenMounts(own, others)
