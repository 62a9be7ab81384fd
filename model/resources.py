"""Limits of processors and memory for steps [BLD-24, SBX-13]; never part of a key [KEY-1]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from pybuild.model.amounts import parse_binary_size
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.options import LIMITS, StepOption

MIN_MEMORY_BYTES = 4 << 20
ORDINARY_SHARES = 1024
_MOST_PARENT = 1000  # letters
_MOST_PARENTS = 16
_CPU_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The limits of a step's resources; 0 and empty: no limit of its own.

    Attributes:
        memory_bytes: of all its processes.
        memory_swap_bytes: memory and swap together; -1: as much swap as there is.
        cpu_shares: weight among its siblings, 1024 is the ordinary one.
        cpu_quota_us: of processor time in each period of *cpu_period_us*.
        cpuset_cpus, cpuset_mems: ``0-2,4``.
        pids: processes and threads at once; without, the machine's size decides.
        parent: the cgroup that steps' own are made in; relative to the builder's, or absolute.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    parent: str = ""

    def __post_init__(self) -> None:
        """Check what is known without a kernel.

        Raises:
            UsageError: naming the limit as `LIMITS` has it.
        """
        if 0 < self.memory_bytes < MIN_MEMORY_BYTES:
            raise UsageError(f"invalid memory: {self.memory_bytes}: at least 4 MiB are needed")
        for name, option in LIMITS.items():
            value: int | str = getattr(self, option.field)
            if isinstance(value, str):
                if value and not _is_cpu_list(value):
                    raise UsageError(f"invalid {name}: {value}: expected a list such as 0-2,4")
            elif value < (-1 if option.field in ("memory_swap_bytes", "cpu_quota_us") else 0):
                raise UsageError(f"invalid {name}: {value}: must be > 0")
        if self.memory_swap_bytes > 0 and not self.memory_bytes:
            raise UsageError("memory-swap is a limit on memory and swap together: set memory too")
        if 0 < self.memory_swap_bytes < self.memory_bytes:
            raise UsageError(
                f"invalid memory-swap: {self.memory_swap_bytes}: is less than memory, which it "
                f"includes: {self.memory_bytes}"
            )
        parents = self.parent.split("/")
        is_long = len(self.parent) > _MOST_PARENT or len(parents) > _MOST_PARENTS
        if is_long or ".." in parents or not self.parent.isprintable():
            raise UsageError(f"invalid cgroup-parent: {self.parent[:_MOST_PARENT]!r}")

    def within(self, place: str) -> Resources:
        """Return the limits of a step that may not leave the cgroup *place*; empty: it may.

        Whatever parent it names lies below *place* then, and so do the cgroups of steps that want
        more weight than others: they have it among their own kind.
        """
        if not place or not (self.parent or self.cpu_shares > ORDINARY_SHARES):
            return self
        return replace(self, parent=f"{place}/{self.parent.strip('/')}")


def _is_cpu_list(text: str) -> bool:
    if not _CPU_LIST.match(text):
        return False
    pairs = [part.partition("-") for part in text.split(",")]
    return all(not last or int(first) <= int(last) for first, _, last in pairs)


def parse_resources(
    given: Mapping[str, str], *, parent: str = "", with_units: bool = False
) -> Resources:
    """Read limits by the names of `LIMITS`; empty values are as if they were not there.

    Args:
        with_units: numbers of bytes may be such as ``64m``.

    Raises:
        UsageError: an unknown name, no number, or one out of range.
    """
    values: dict[str, int | str] = {}
    for name, text in given.items():
        option = LIMITS.get(name)
        if option is None:
            raise UsageError(f'unknown resource "{name}": one of {", ".join(LIMITS)}')
        if option.form == "list":
            values[option.field] = text
        elif text:
            values[option.field] = _number(option, text, with_units=with_units)
    return Resources(parent=parent, **values)  # type: ignore[arg-type]


def read_limit(name: str, text: str) -> int:
    """Read one number of `LIMITS` as people write it.

    Raises:
        UsageError: it is none, or out of range.
    """
    return _number(LIMITS[name], text, with_units=True)


def _number(option: StepOption, text: str, *, with_units: bool) -> int:
    if with_units and option.form == "bytes" and text != "-1":
        value = parse_binary_size(text, option.name)
    else:
        try:
            value = int(text)
        except ValueError:
            raise UsageError(f"invalid {option.name} value: {text}") from None
    # As docker has it, 0 is no limit; but there are no steps without processes.
    if value < option.least and (value or option.field == "pids"):
        kind = "must be -1 (unlimited) or > 0" if option.least < 0 else "must be > 0"
        raise UsageError(f"invalid {option.name} value: {text}: {kind}")
    return value
