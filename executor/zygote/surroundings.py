"""A container's settings in the kernel, beside its files: sysctls of its namespaces, its score for memory."""

from __future__ import annotations

import errno

from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.executor.zygote.hierarchies import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepPrivileges


def write_sysctls(given: StepPrivileges) -> None:
    """Set those of the namespaces that this process is in: while /proc is the machine's, and can be written.

    Raises:
        Fault: the kernel has no such thing, or refuses the value.
    """
    for name, value in given.sysctls:
        try:
            write("/proc/sys/" + name.replace(".", "/"), value)
        except OSError as error:
            is_ours = error.errno in (errno.ENOENT, errno.EINVAL, errno.ERANGE)
            raise Fault(
                USER if is_ours else ENVIRONMENT,
                f"cannot set sysctl {name}={value}: {(error.strerror or '').lower()}",
            ) from error


def adjust_oom_score(given: StepPrivileges) -> list[str]:
    """Have this process killed sooner or later for want of memory; return why it is not."""
    if given.oom_score_adj:
        try:
            write("/proc/self/oom_score_adj", str(given.oom_score_adj))
        except OSError as error:
            reason = (error.strerror or "").lower()
            return [f"--oom-score-adj {given.oom_score_adj} is not in force: {reason}"]
    return []
