"""The system call filter of a step by names, as an OCI runtime wants it [SBX-8].

It says what `executor.zygote.seccomp` says by numbers, and a test holds them together. A name that
this machine's architecture or the runtime's library does not know is passed over by the runtime,
and what nobody names gets ENOSYS, so that programs fall back to what they know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pybuild.executor.zygote.seccomp import (
    FAMILIES,
    FORGING,
    INTERNET,
    NAMESPACES,
    PACKET,
    PERSONALITIES,
    RAW,
    RAW_PROTOCOLS,
    TYPE_MASK,
)

_ALLOWED = """
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget
    capset chdir chmod chown chown32 chroot clock_adjtime clock_adjtime64 clock_getres
    clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
    fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd
    getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr
    link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev
    pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat
    readv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd
    signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname
    unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid
    write writev
"""

_REFUSED = """
    acct add_key bdflush bpf clock_settime clock_settime64 delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick get_mempolicy init_module io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
    lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind migrate_pages
    mount mount_setattr move_mount move_pages nfsservctl nice oldfstat oldlstat oldolduname
    oldstat olduname open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
    process_madvise quotactl quotactl_fd readdir reboot request_key set_mempolicy
    set_mempolicy_home_node setdomainname sethostname setns settimeofday sgetmask sigaction
    signal sigpending sigsuspend ssetmask stime swapoff swapon sysfs syslog umount umount2
    unshare uselib userfaultfd ustat vhangup vm86 vm86old
"""
ALLOWED, REFUSED = tuple(_ALLOWED.split()), tuple(_REFUSED.split())

_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_EPERM, _ENOSYS = 1, 38
_NAMESPACE_FLAGS = tuple(1 << bit for bit in range(32) if NAMESPACES >> bit & 1)
# All values of a C int, whatever the rest of the register holds: the kernel does not look at that, and
# a comparison of whole registers would take it for another value.
_INT = 0xFFFFFFFF
_HOSTS_OWN = (38, 40)  # AF_ALG, AF_VSOCK
_REFUSED_FAMILIES = (17, *_HOSTS_OWN, 44)  # AF_PACKET, AF_XDP; the others get ENOSYS
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64"],
}


def profile(machine: str, *, shares_network: bool) -> dict[str, Any]:
    """Return ``linux.seccomp`` of a runtime configuration."""
    rules = [
        # Before those that the library makes of the ones for socket, which cannot see its arguments.
        _rule(("socketcall",), errno=_EPERM),
        _rule(ALLOWED),
        _rule(REFUSED, errno=_EPERM),
        _rule(("clone",), _arg(0, "SCMP_CMP_MASKED_EQ", NAMESPACES, 0)),
        *(
            _rule(("clone",), _arg(0, "SCMP_CMP_MASKED_EQ", flag, flag), errno=_EPERM)
            for flag in _NAMESPACE_FLAGS
        ),
        *(_rule(("personality",), _arg(0, "SCMP_CMP_EQ", value)) for value in PERSONALITIES),
        *(_shared_sockets() if shares_network else _own_sockets()),
    ]
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": _ENOSYS,
        "architectures": _ARCHITECTURES.get(machine, []),
        "syscalls": rules,
    }


def _own_sockets() -> list[dict[str, Any]]:
    return [
        _rule(("setsockopt",)),
        *(_rule(("socket",), _is(0, value, mask)) for mask, value in _but_for(_HOSTS_OWN, 6)),
        *(_rule(("socket",), _is(0, family), errno=_EPERM) for family in _HOSTS_OWN),
    ]


def _shared_sockets() -> list[dict[str, Any]]:
    kinds = [kind for kind in range(TYPE_MASK + 1) if kind not in (RAW, PACKET)]
    return [
        *(_rule(("socket",), _is(0, family)) for family in FAMILIES if family not in INTERNET),
        *(
            _rule(("socket",), _is(0, family), _is(1, kind, TYPE_MASK))
            for family in INTERNET
            for kind in kinds
        ),
        *(
            _rule(("socket",), _is(0, family), _is(1, RAW, TYPE_MASK), _is(2, protocol))
            for family in INTERNET
            for protocol in RAW_PROTOCOLS
        ),
        *(_rule(("socket",), _is(0, family), errno=_EPERM) for family in _REFUSED_FAMILIES),
        *_options(),
    ]


def _options() -> list[dict[str, Any]]:
    """Return rules for setsockopt without the options of `FORGING`."""
    levels = {level: names for level, names in FORGING}
    return [
        *(_rule(("setsockopt",), _is(1, value, mask)) for mask, value in _but_for(levels, 9)),
        *(
            _rule(("setsockopt",), _is(1, level), _is(2, value, mask))
            for level, names in levels.items()
            for mask, value in _but_for(names, 8)
        ),
        *(
            _rule(("setsockopt",), _is(1, level), _is(2, name), errno=_EPERM)
            for level, names in levels.items()
            for name in names
        ),
    ]


def _but_for(values: Collection[int], bits: int) -> list[tuple[int, int]]:
    """Return masks, and what is left of a number behind them, that together mean all numbers of
    so many *bits* but for *values*.
    """
    blocks: list[tuple[int, int]] = []
    todo = [(0, bits)]
    while todo:
        first, size = todo.pop()
        if not any(value >> size == first >> size for value in values):
            blocks.append((_INT - (1 << size) + 1, first))
        elif size:
            todo += [(first, size - 1), (first + (1 << size - 1), size - 1)]
    return sorted(blocks)


def _is(index: int, value: int, mask: int = _INT) -> dict[str, Any]:
    return _arg(index, "SCMP_CMP_MASKED_EQ", mask, value)


def _rule(names: tuple[str, ...], *args: dict[str, Any], errno: int = 0) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": _ERRNO if errno else _ALLOW}
    if errno:
        rule["errnoRet"] = errno
    if args:
        rule["args"] = list(args)
    return rule


def _arg(index: int, comparison: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": comparison, "value": value, "valueTwo": second}
