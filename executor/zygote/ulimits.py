"""A step's resource limits [SBX-12]."""

from __future__ import annotations

import resource

from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Ulimit = tuple[str, int, int]

# In the order of their numbers in the asm-generic table, which x86_64 and aarch64 use.
_LIMITS = (
    *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks"),
    *("sigpending", "msgqueue", "nice", "rtprio", "rttime"),
)
_UNLIMITED = -1
_MOST = (1 << 63) - 1


def problem(name: str, soft: int, hard: int) -> str:
    """Return the fault of a limit that is wrong on any machine, "" if there is none."""
    if name not in _LIMITS:
        return f'ulimit "{name}" is not one of {", ".join(sorted(_LIMITS))}'
    if not all(_UNLIMITED <= value <= _MOST for value in (soft, hard)):
        return f"ulimit {name}={soft}:{hard}: a limit is a number up to {_MOST}, or -1 for none"
    if _above(soft, hard):
        return f"ulimit {name}={soft}:{hard}: soft limit is above the hard limit"
    return ""


def apply(limits: Sequence[Ulimit]) -> list[str]:
    """Set limits as asked, -1 is unlimited; return a sentence for each that had to be less.

    A limit that the builder itself does not have cannot be had by its steps. A build seldom needs
    what it asks for, so it goes on with what is possible.

    Raises:
        Fault: user; see `problem`.
    """
    warnings: list[str] = []
    for name, soft, hard in limits:
        if wrong := problem(name, soft, hard):
            raise Fault(USER, wrong)
        number = _LIMITS.index(name)
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError):
            own = resource.getrlimit(number)[1]
            clamped = (own if _above(soft, own) else soft, own if _above(hard, own) else hard)
            resource.setrlimit(number, clamped)
            warnings.append(
                f"ulimit {name}={_text(soft)}:{_text(hard)} is more than the builder's own hard "
                f"limit: {_text(clamped[0])}:{_text(clamped[1])} is used"
            )
    return warnings


def current(limits: Sequence[Ulimit]) -> list[Ulimit]:
    """Return those limits as they are now."""
    names = dict.fromkeys(name for name, _, _ in limits)
    return [(name, *resource.getrlimit(_LIMITS.index(name))) for name in names]


def raise_file_limit() -> None:
    """Let this process hold as many files open as it may: a walk of a tree holds some at each level."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass


def bound_processes(count: int) -> None:
    """Bound the processes of each user of the step where no cgroup does it; best effort."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    try:
        bound = (count if _above(soft, count) else soft, count if _above(hard, count) else hard)
        resource.setrlimit(resource.RLIMIT_NPROC, bound)
    except (ValueError, OSError):
        pass


def _above(value: int, bound: int) -> bool:
    return bound != _UNLIMITED and (value == _UNLIMITED or value > bound)


def _text(value: int) -> str:
    return "unlimited" if value == _UNLIMITED else str(value)
