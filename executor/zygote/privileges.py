"""The privileges of a step's process: capabilities, ids, the system call filter [SBX-2, SBX-8]."""

from __future__ import annotations

import errno
import itertools
import os

from pybuild.executor.steps.spec import StepPrivileges
from pybuild.executor.zygote import isolation, landlock, procstatus, seccomp, syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.users import StepUser

# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
# MKNOD AUDIT_WRITE SETFCAP
DEFAULT_CAPS = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_NOTHING_GIVEN = StepPrivileges()
_SETPCAP, _NET_RAW, _SYS_CHROOT = 8, 13, 18
_ALL_CAPS = (1 << 64) - 1


def _numbers(mask: int) -> list[int]:
    return [number for number in range(64) if mask >> number & 1]


# They are the same for every step, so the zygote works them out once, at import.
_FILTERS = {shared: seccomp.program(shares_network=shared) for shared in (True, False)}
PERMITTED = procstatus.number("CapPrm")
_bounding = _numbers(procstatus.number("CapBnd"))


_listening: dict[tuple[bool, bool, bool], bytes] = {}


def prepare_listening() -> None:
    """Work the filters of `listen` out, once for all children."""
    if not _listening:
        for insecure, moves, shared in itertools.product((False, True), repeat=3):
            _listening[insecure, moves, shared] = seccomp.program(
                recorded=True, moves=moves, insecure=insecure, shares_network=shared
            )


def listen(*, insecure: bool, moves: bool, shares_network: bool) -> int:
    """Install the filter of a step whose ids and owners are recorded; return its listener.

    Raises:
        Fault: environment; the kernel has no such thing, or somebody listens already.
    """
    prepare_listening()
    try:
        return _install(_listening[insecure, moves, shares_network])
    except OSError as error:
        raise Fault(
            ENVIRONMENT,
            f"cannot record the owners of files: seccomp: {(error.strerror or '').lower()}",
            isolation.SUB_ID_HINTS,
        ) from error


def _install(program: bytes) -> int:
    """Install a filter and return its listener."""
    listener = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
    try:
        # Else a signal restarts a call that was half answered; since Linux 5.19.
        killable = syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        return syscalls.seccomp_filter(program, listener | killable)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscalls.seccomp_filter(program, listener)


def _filter(shares_network: bool, granted: int) -> int:
    """Install the filter of a step; return its listener, -1 where none is of use."""
    program = _FILTERS[shares_network]
    if granted:
        program = seccomp.program(shares_network=shares_network, granted=granted)
    if shares_network and syscalls.MACHINE == "x86_64":
        try:
            return _install(program)
        except OSError:
            pass  # An outer sandbox listens already: sockets of 32-bit programs are refused.
    syscalls.seccomp_filter(program)
    return -1


def confine(
    user: StepUser,
    *,
    insecure: bool,
    shares_network: bool,
    given: StepPrivileges = _NOTHING_GIVEN,
) -> int:
    """Give up everything that a step must not have. Only the exec comes after it.

    Returns a listener for `socketcalls`, or -1.

    The filter goes in while CAP_SYS_ADMIN is there, which leaves no_new_privs off: set-user-id
    programs such as sudo must work. Without that capability there is only the filter that we are
    under ourselves.
    """
    recorded = isolation.rung() == isolation.USERNS_SINGLE
    listener = -1
    if not insecure and given.filtered and not recorded and isolation.mounts():
        listener = _filter(shares_network, given.add)
    keep = _kept(insecure=insecure, given=given)
    if not bound(keep):
        # A program that root executes would have all of the bounding set again, and chroot(2) with it.
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        # Who needs no privilege for it has no place left to meet another step in.
        landlock.leave_abstract_sockets()
    if recorded:
        # There is no other id to change to: the step is told that it has it. Its capabilities stay,
        # as a set-user-id program could not get them back.
        caps = keep & PERMITTED
    else:
        _change_ids(user)
        caps = 0 if user.uid else keep & PERMITTED
    if given.no_new:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.capset(caps, caps, 0)
    return listener


def bound(keep: int = DEFAULT_CAPS) -> bool:
    """Let no program give this process a capability that is not in *keep*; of those it has, none goes.

    Returns False where we may not (a container without CAP_SETPCAP).
    """
    global _bounding
    if not (PERMITTED >> _SETPCAP & 1 or isolation.mounts()):
        return all(keep >> number & 1 for number in _bounding)
    for number in _bounding:
        if not keep >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    _bounding = [number for number in _bounding if keep >> number & 1]
    return True


def _kept(*, insecure: bool, given: StepPrivileges) -> int:
    keep = _ALL_CAPS if insecure else DEFAULT_CAPS & ~given.drop | given.add
    if not isolation.mounts():
        # A root of chroot(2) is left by another chroot(2). What the builder can do and the step
        # cannot keeps the step from tracing the builder, too. And there is no filter of ours that
        # would keep it from reading what the builder says on the network that they share.
        keep &= ~(1 << _SYS_CHROOT | 1 << _NET_RAW)
    return keep


def _change_ids(user: StepUser) -> None:
    uid, gid = user.uid, user.gid
    try:
        os.setgroups(user.groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise isolation.unmapped_id(f"cannot run as {uid}:{gid}") from error
        raise
