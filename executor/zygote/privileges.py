"""What a step's process may do: limits, capabilities, ids, the system call filter [SBX-2, 8, 12]."""

from __future__ import annotations

import errno
import os
import resource

from pybuild.executor.zygote import isolation, seccomp, syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
# MKNOD AUDIT_WRITE SETFCAP
_DEFAULT_CAPS = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_ALL_CAPS = (1 << 64) - 1

# In the order of their numbers in the asm-generic table, which x86_64 and aarch64 use.
_LIMITS = (
    *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks"),
    *("sigpending", "msgqueue", "nice", "rtprio", "rttime"),
)


def _read_caps() -> tuple[int, list[int]]:
    """Return the permitted set and the numbers in the bounding set of this process."""
    permitted = 0
    bounding = 0
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapPrm:"):
                permitted = int(line.split()[1], 16)
            elif line.startswith(b"CapBnd:"):
                bounding = int(line.split()[1], 16)
    return permitted, [n for n in range(64) if bounding >> n & 1]


# Both are the same for every step, so the zygote works them out once, at import.
_FILTER = seccomp.program()
_PERMITTED, _BOUNDING = _read_caps()


def set_limits(ulimits: list[tuple[str, int, int]]) -> None:
    """Set resource limits as asked; -1 is unlimited.

    Raises:
        Fault: user, an unknown name; environment, above what the builder itself may use.
    """
    for name, soft, hard in ulimits:
        if name not in _LIMITS:
            raise Fault(USER, f'ulimit "{name}" is not one of {", ".join(sorted(_LIMITS))}')
        if hard != -1 and (soft == -1 or soft > hard):
            raise Fault(USER, f"ulimit {name}={soft}:{hard}: soft limit is above the hard limit")
        number = _LIMITS.index(name)
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError as error:
            own = resource.getrlimit(number)[1]
            raise Fault(
                ENVIRONMENT,
                f"ulimit {name}={soft}:{hard}: {error}",
                (f"the builder's own hard limit is {own}; ask for no more, or raise it",),
            ) from error


def confine(uid: int, gid: int, groups: list[int], *, insecure: bool) -> None:
    """Give up everything that a step must not have. Only the exec comes after it.

    The filter goes in while CAP_SYS_ADMIN is there, which leaves no_new_privs off: set-user-id
    programs such as sudo must work.
    """
    if not insecure:
        syscalls.seccomp_filter(_FILTER)
    keep = _ALL_CAPS if insecure else _DEFAULT_CAPS
    for number in _BOUNDING:
        if not keep >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    try:
        # A user namespace with one id allows no setgroups; what groups we have cannot be lost.
        if isolation.rung() != isolation.USERNS_SINGLE:
            os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise isolation.unmapped_id(f"cannot run as {uid}:{gid}") from error
        raise
    caps = 0 if uid else keep & _PERMITTED
    syscalls.capset(caps, caps, 0)
