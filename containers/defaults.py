"""The parts of a container's config that its image and what was given make together, checked [CTR-1…7]. Pure."""

from __future__ import annotations

import os
import posixpath

from pybuild.containers.environment import texts_of
from pybuild.containers.order import HealthCheck, LogConfig, RestartPolicy
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.amounts import parse_binary_size
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_LOG_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "json-file": ("max-size", "max-file", "labels", "env"),
    "local": ("max-size", "max-file"),
    "none": (),
}
_PERIOD_US = 100_000
_LEAST_MEMORY = 6 << 20
_NODES = "/sys/devices/system/node/node"
_MOST_DIGITS = 9
_MOST_FILES = 1000
"""Of a log: each is looked for at every turn of them."""
_DURATIONS = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_FIELDS = ("interval", "timeout", "start_period", "start_interval")


def command_of(
    entrypoint: Sequence[str] | None, command: Sequence[str], image: Mapping[str, Any]
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the entrypoint and the command of a container [CTR-2].

    Args:
        entrypoint: as it was given; None: it was not, ``("",)``: there is to be none.
        image: the config of the image.

    Raises:
        UsageError: there is nothing to run.
    """
    if entrypoint is None:
        first = texts_of(image, "Entrypoint")
        rest = tuple(command) or texts_of(image, "Cmd")
    else:
        first = () if tuple(entrypoint) == ("",) else tuple(entrypoint)
        rest = tuple(command)
    if not (first or rest):
        raise UsageError("no command specified: the image has neither ENTRYPOINT nor CMD")
    return first or None, rest or None


def restart_policy(name: str, most: int | None) -> RestartPolicy:
    """Return a policy [CTR-7, CTR-33]; *most*: None where no number was given.

    Raises:
        UsageError: there is none of that name, or it takes no number.
    """
    name = name or "no"
    if name not in _POLICIES:
        raise UsageError(
            f"invalid restart policy: unknown policy '{name}'",
            hints=[f"one of {', '.join(_POLICIES)}"],
        )
    if most is None:
        return RestartPolicy(name)
    if name != "on-failure":
        raise UsageError(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if most < 0:
        raise UsageError("invalid restart policy: maximum retry count cannot be negative")
    return RestartPolicy(name, most)


def read_restart(text: str) -> RestartPolicy:
    """Read ``no``, ``always``, ``unless-stopped`` or ``on-failure[:n]``.

    Raises:
        UsageError: it is none of them.
    """
    name, colon, count = text.partition(":")
    if colon and name == "on-failure" and not count.isdecimal():
        raise UsageError(f'invalid restart policy "{text}": "{count}" is no number')
    return restart_policy(name, int(count) if colon and count.isdecimal() else None)


def read_cpus(text: str) -> float:
    """Read ``--cpus``, a number of processors."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f'invalid --cpus "{text}": expected a number such as 1.5') from None


def read_pids(text: str) -> int:
    """Read ``--pids-limit``; 0: as many as there may be."""
    if not text.removeprefix("-").isdecimal():
        raise UsageError(f'invalid --pids-limit "{text}": expected a number')
    return max(0, int(text))


def log_config(driver: str, options: Mapping[str, str]) -> LogConfig:
    """Return where the output goes [CTR-7, CTR-75].

    Raises:
        UsageError: there is no such driver, or it has no such option.
    """
    driver = driver or "json-file"
    if driver not in _LOG_OPTIONS:
        raise UsageError(
            f'no log driver named "{driver}": one of {", ".join(_LOG_OPTIONS)}',
            hints=["send its output on yourself: pybuild logs -f CONTAINER | PROGRAM"],
        )
    for name, value in options.items():
        if name not in _LOG_OPTIONS[driver]:
            raise UsageError(f"unknown log opt '{name}' for {driver} log driver")
        if name == "max-size":
            parse_binary_size(value, "max-size")
        elif name == "max-file":
            _check_files(value)
    return LogConfig(driver, dict(options))


def _check_files(value: str) -> None:
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f'invalid max-file "{value}": a number of files, at least 1')
    if len(value) > 4 or int(value) > _MOST_FILES:
        raise UsageError(f'invalid max-file "{value}": at most {_MOST_FILES} files')


def health_check(given: Mapping[str, Any], image: Mapping[str, Any]) -> HealthCheck | None:
    """Return the health check: the image's, with what was given in its place, both in docker's shape [CTR-3].

    Raises:
        UsageError: a duration that is none.
    """
    own = as_object(image.get("Healthcheck"))
    test = texts_of(given, "Test") or texts_of(own, "Test")
    known: dict[str, int] = {}
    for field, key in zip(_FIELDS, _DURATIONS, strict=True):
        value = int(given.get(key) or own.get(key) or 0)
        if value < 0 or 0 < value < 1_000_000:
            raise UsageError(f"{key} in Healthcheck cannot be less than 1ms")
        if value:
            known[field] = value
    retries = int(given.get("Retries") or own.get("Retries") or 0)
    if retries < 0:
        raise UsageError("Retries in Healthcheck cannot be negative")
    return HealthCheck(test, **known, retries=retries) if test else None


def workdir_with(given: str, image: Mapping[str, Any]) -> str:
    """Return the working directory that was given, else the image's, else the root.

    Raises:
        UsageError: it is not absolute.
    """
    cwd = given or str(image.get("WorkingDir") or "/")
    if not cwd.startswith("/"):
        raise UsageError(
            f"the working directory '{cwd}' is invalid, it needs to be an absolute path"
        )
    return posixpath.normpath(cwd)


def swappiness(text: str) -> str:
    """Check how readily memory is swapped out; "" and -1 leave it to the machine [CTR-4].

    Raises:
        UsageError: there is no such amount.
    """
    if text in ("", "-1"):
        return ""
    if not text.isdecimal() or len(text) > 3 or int(text) > 100:
        raise UsageError(
            f"invalid value: {text[:20]}. Valid memory swappiness range is 0-100",
            hints=["-1, or nothing, is the machine's own"],
        )
    return str(int(text))


def check_limits(limits: StepLimits) -> None:
    """Refuse limits that no process can live with, or that this machine cannot have.

    Raises:
        UsageError: they are so.
    """
    if 0 < limits.memory_bytes < _LEAST_MEMORY:
        raise UsageError("Minimum memory limit allowed is 6MB")
    if 0 < limits.reserved_bytes < _LEAST_MEMORY:
        raise UsageError("Minimum memory reservation allowed is 6MB")
    if 0 < limits.memory_bytes < limits.reserved_bytes:
        raise UsageError(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if limits.cpu_period_us and not 1000 <= limits.cpu_period_us <= 1_000_000:
        raise UsageError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < limits.cpu_quota_us < 1000:
        raise UsageError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_memory_nodes(limits.cpuset_mems)
    if not limits.cpuset_cpus:
        return
    import re

    there = os.cpu_count() or 1
    numbers = re.findall(r"\d+", limits.cpuset_cpus)
    if any(len(one) > _MOST_DIGITS or int(one) >= there for one in numbers):
        raise UsageError(
            f"requested CPUs are not available - requested {limits.cpuset_cpus}, "
            f"available: 0-{there - 1}"
        )


def _check_memory_nodes(text: str) -> None:
    """See that the nodes of memory in a list such as ``0-2,4`` are there."""
    numbers = text.replace("-", ",").split(",")
    if not all(one in ("", "0") or os.path.exists(f"{_NODES}{one}") for one in numbers):
        raise UsageError(f"requested memory nodes are not available - requested {text}")


def with_cpus(limits: StepLimits, count: float) -> StepLimits:
    """Return limits with so many processors.

    Raises:
        UsageError: there are not so many, or other limits of processors.
    """
    if limits.cpu_quota_us or limits.cpu_period_us:
        raise UsageError("--cpus and --cpu-period or --cpu-quota cannot both be set")
    there = os.cpu_count() or 1
    if not 0.01 <= count <= there:
        raise UsageError(
            f"range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )
    return limits._replace(cpu_period_us=_PERIOD_US, cpu_quota_us=int(count * _PERIOD_US))


def exposed_ports(texts: Iterable[str], image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ports that the image and ``--expose`` name, as ``80/tcp`` [CTR-1].

    Raises:
        UsageError: it is no port.
    """
    ports = {str(port): None for port in as_object(image.get("ExposedPorts"))}
    for text in texts:
        numbers, _, protocol = text.partition("/")
        first, dash, last = numbers.partition("-")
        ends = [int(end) if end.isdecimal() else 0 for end in (first, last if dash else first)]
        if (protocol or "tcp") not in ("tcp", "udp", "sctp") or not 0 < ends[0] <= ends[1] < 65536:
            raise UsageError(
                f"invalid range format for --expose: {text}", hints=["--expose 80 or 8000-8010/udp"]
            )
        ports |= {f"{port}/{protocol or 'tcp'}": None for port in range(ends[0], ends[1] + 1)}
    return tuple(sorted(ports))
