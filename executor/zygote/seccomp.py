"""The system call filter of a step: the set that container engines allow by default [SBX-8].

The engines publish a list of some 360 allowed names. Said the other way round it is short: every
call up to the newest one they know, except those below. What is newer, or has no number here, gets
ENOSYS, so that programs fall back to what they know; what is refused gets EPERM.

    clone         without new namespaces only
    clone3        ENOSYS: its flags lie in memory, which a filter cannot read; libraries fall back
    personality   the five values that run Linux programs
    socket        not AF_ALG (38), not AF_VSOCK (40)
    socketcall    of i386: socket and setsockopt, whose arguments lie in memory, too, are answered by
                  `socketcalls` on the builder's network, and ENOSYS on others

Where a step shares the builder's network it could read there what others say, with a password in it.
Then sockets are those of AF_UNIX, AF_NETLINK, and AF_INET and AF_INET6, raw ones only for ICMP; and none
of them may be made to send what claims to come from somebody else.

In a user namespace with one id some calls are answered by the recorder (`recorder.calls`).

The filter is a binary search over ranges of numbers, so a call costs 7 comparisons, not 131.
Narrower than the engines: no x32 calls (ENOSYS), and no 32-bit Arm programs on aarch64.
"""

from __future__ import annotations

import itertools
import struct

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.recorder import calls

_NEWEST = 466  # removexattrat, Linux 6.13: the newest that the engines' list knows

# Refused everywhere; numbers from 424 on are the same on every machine.
_COMMON = (
    *range(425, 434),  # io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    438,  # pidfd_getfd
    440,  # process_madvise
    442,  # mount_setattr
    443,  # quotactl_fd
    450,  # set_mempolicy_home_node
    459,  # lsm_get_self_attr
    460,  # lsm_set_self_attr
    461,  # lsm_list_modules
)

# uselib ustat sysfs; vhangup; pivot_root _sysctl; acct settimeofday mount umount2 swapon swapoff
# reboot sethostname setdomainname iopl ioperm create_module init_module delete_module
# get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security;
# lookup_dcookie; clock_settime; vserver mbind set_mempolicy get_mempolicy; kexec_load; add_key
# request_key keyctl; migrate_pages; unshare; move_pages; perf_event_open; fanotify_init;
# open_by_handle_at; setns; kcmp finit_module; kexec_file_load bpf; userfaultfd; syslog
_X86_64 = (
    *(103, 134, 136, 139, 153, 155, 156, *range(163, 186), 212, 227, *range(236, 240), 246),
    *(248, 249, 250, 256, 272, 279, 298, 300, 304, 308, 312, 313, 320, 321, 323),
)

# The same by their i386 numbers, and what only i386 ever had: break oldstat stime oldfstat stty
# gtty nice ftime prof signal lock mpx ulimit oldolduname sigaction sgetmask ssetmask sigsuspend
# sigpending oldlstat readdir profil olduname idle vm86old bdflush vm86. A few of them (nice,
# signal, sigaction, sigsuspend, sigpending, readdir) are refused by the engines as well.
_I386 = (
    *(17, 18, 21, 22, 25, 28, 31, 32, 34, 35, 44, 48, 51, 52, 53, 56, 58, 59, 62, 67, 68, 69),
    *(72, 73, 74, 79, 84, 86, 87, 88, 89, 98, 101, 103, 109, 110, 111, 112, 113, 115, 121),
    *(127, 128, 129, 130, 131, 134, 135, 137, 149, 166, 167, 169, 188, 189, 217, 253, 264),
    *(273, 274, 275, 276, 283, 286, 287, 288, 294, 310, 317, 336, 338, 342, 346, 349, 350),
    *(357, 374, 404),
)

_AARCH64 = (
    *(18, 39, 40, 41, 42, 58, 60, 89, 97, 104, 105, 106, 112, 116, 142, 161, 162, 170),
    *(217, 218, 219, 224, 225, 235, 236, 237, 238, 239, 241, 244, 262, 265, 268, 272, 273),
    *(280, 282, 294),
)

_ARCHITECTURES = {
    # machine: ((audit arch, refused, numbers never given out, clone, personality, socket,
    # setsockopt), ...)
    "x86_64": (
        (0xC000003E, _X86_64, ((336, 424),), 56, 135, 41, 54),
        (0x40000003, _I386, (), 120, 136, 359, 366),
    ),
    "aarch64": ((0xC00000B7, _AARCH64, ((295, 424),), 220, 92, 198, 208),),
}
I386_SOCKETCALL = 102
SYS_SOCKET, _SYS_SETSOCKOPT = 1, 14

_SYS_ADMIN = 21
# By number of the capability, what the engines allow who has it: of x86_64, of aarch64, of both.
_BY_CAPABILITY: dict[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    2: ((304,), (265,), ()),  # DAC_READ_SEARCH: open_by_handle_at
    16: ((175, 176, 313), (105, 106, 273), ()),  # SYS_MODULE: (f)init_module, delete_module
    17: ((172, 173), (), ()),  # SYS_RAWIO: iopl, ioperm
    19: ((312,), (272,), (438, 440)),  # SYS_PTRACE: kcmp, pidfd_getfd, process_madvise
    20: ((163,), (89,), ()),  # SYS_PACCT: acct
    # SYS_ADMIN: mounts, namespaces, names, quotas, and what came to be of its own below
    _SYS_ADMIN: (
        (165, 166, 170, 171, 179, 212, 272, 298, 300, 308, 321, 103),
        (39, 40, 60, 18, 97, 116, 161, 162, 241, 262, 268, 280),
        (428, 429, 430, 431, 432, 433, 442, 443),
    ),
    22: ((169,), (142,), ()),  # SYS_BOOT: reboot
    23: ((237, 238, 239), (235, 236, 237), (450,)),  # SYS_NICE: mbind, (set|get)_mempolicy
    25: ((164, 227), (112, 170), ()),  # SYS_TIME: settimeofday, clock_settime
    26: ((153,), (58,), ()),  # SYS_TTY_CONFIG: vhangup
    34: ((103,), (116,), ()),  # SYSLOG: syslog
    38: ((298,), (241,), ()),  # PERFMON: perf_event_open
    39: ((321,), (280,), ()),  # BPF: bpf
}

NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWCGROUP
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
)
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# Of `socket`, what is allowed on a network that is shared.
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
FAMILIES = (_UNIX, _INET, _INET6, _NETLINK)
INTERNET = (_INET, _INET6)
TYPE_MASK, RAW, PACKET = 0xF, 3, 10
RAW_PROTOCOLS = (1, 58)
"""ICMP and ICMPv6, for ping."""
FORGING = ((0, (3, 19)), (41, (36, 75)), (1, (36,)))
"""By level, the options that need CAP_NET_RAW: HDRINCL and TRANSPARENT of both kinds, SO_MARK."""
_EPERM, _ENOSYS = 1, 38
_CLONE3 = 435

_ALLOW = 0x7FFF0000
_NOTIFY = 0x7FC00000
_ERRNO = 0x00050000
_LD_ABS, _JA, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_OFFSET_NR, _OFFSET_ARCH, _OFFSET_ARG0 = 0, 4, 16

Code = list[tuple[int, int, int, int]]


def program(
    machine: str = syscalls.MACHINE,
    *,
    recorded: bool = False,
    moves: bool = False,
    insecure: bool = False,
    shares_network: bool = True,
    granted: int = 0,
) -> bytes:
    """Return the filter for *machine* as BPF.

    Args:
        recorded: hand the calls that `recorder.calls` lists to whoever listens.
        moves: those of `calls.MOVES`, too.
        insecure: allow everything else.
        shares_network: the step has the builder's.
        granted: bits of capabilities that are given beside the default; programs of 32 bits, whose
            numbers are others, gain nothing by them.

    Raises:
        OSError: ENOSYS; there is no table for it.
    """
    if machine not in _ARCHITECTURES:
        raise OSError(_ENOSYS, f"no system call filter for {machine}")
    code: Code = [(_LD_ABS, 0, 0, _OFFSET_ARCH)]
    for arch, refused, unused, clone, personality, socket, setsockopt in _ARCHITECTURES[machine]:
        special = {
            clone: _clone(),
            personality: _personality(),
            socket: _shared_socket() if shares_network else _socket(),
            _CLONE3: _return(_ERRNO | _ENOSYS),
        }
        if shares_network:
            special[setsockopt] = _setsockopt()
        if arch == calls.I386:
            special[I386_SOCKETCALL] = _socketcall(shares_network)
        common: tuple[int, ...] = _COMMON
        if granted and arch != calls.I386:
            refused, common = _less(refused, granted, machine), _less(common, granted, machine)
            if granted >> _SYS_ADMIN & 1:
                del special[clone], special[_CLONE3]
        if insecure:
            special, refused, unused, common = {}, (), (), ()
        if recorded:
            special.update(_handed_over(arch, moves))
        ranges = _ranges((*refused, *common), unused, special, above=_ALLOW if insecure else None)
        body: Code = [(_LD_ABS, 0, 0, _OFFSET_NR), *_search(ranges)]
        code += [(_JEQ, 1, 0, arch), (_JA, 0, 0, len(body)), *body]
    code += _return(_ERRNO | _ENOSYS)
    return b"".join(struct.pack("=HBBI", op, jt, jf, k) for op, jt, jf, k in code)


def _less(refused: tuple[int, ...], granted: int, machine: str) -> tuple[int, ...]:
    """Return the calls of *refused* that the capabilities *granted* do not open."""
    allowed: set[int] = set()
    for number, (x86_64, aarch64, both) in _BY_CAPABILITY.items():
        if granted >> number & 1:
            allowed |= {*(x86_64 if machine == "x86_64" else aarch64), *both}
    return tuple(number for number in refused if number not in allowed)


def _return(action: int) -> Code:
    return [(_RET, 0, 0, action)]


def _clone() -> Code:
    return [
        (_LD_ABS, 0, 0, _OFFSET_ARG0),
        (_JSET, 0, 1, NAMESPACES),
        *_return(_ERRNO | _EPERM),
        *_return(_ALLOW),
    ]


def _personality() -> Code:
    code: Code = [(_LD_ABS, 0, 0, _OFFSET_ARG0)]
    for left, value in zip(range(len(PERSONALITIES), 0, -1), PERSONALITIES, strict=True):
        code.append((_JEQ, left, 0, value))
    return [*code, *_return(_ERRNO | _EPERM), *_return(_ALLOW)]


def _socket() -> Code:
    return [
        (_LD_ABS, 0, 0, _OFFSET_ARG0),
        (_JEQ, 2, 0, 38),
        (_JEQ, 1, 0, 40),
        *_return(_ALLOW),
        *_return(_ERRNO | _EPERM),
    ]


def _shared_socket() -> Code:
    eperm, allow = _return(_ERRNO | _EPERM), _return(_ALLOW)
    protocol = _choose(2, [(n, allow) for n in RAW_PROTOCOLS], eperm)
    kind = _choose(1, [(RAW, protocol), (PACKET, eperm)], allow, mask=TYPE_MASK)
    return _choose(0, [(n, kind if n in INTERNET else allow) for n in FAMILIES], eperm)


def _setsockopt() -> Code:
    eperm, allow = _return(_ERRNO | _EPERM), _return(_ALLOW)
    levels = [(level, _choose(2, [(n, eperm) for n in names], allow)) for level, names in FORGING]
    return _choose(1, levels, allow)


def _socketcall(shares_network: bool) -> Code:
    """Hand over what `socketcalls` answers; where nobody listens that is ENOSYS, too."""
    action = _return(_NOTIFY if shares_network else _ERRNO | _ENOSYS)
    return _choose(0, [(SYS_SOCKET, action), (_SYS_SETSOCKOPT, action)], _return(_ALLOW))


def _choose(argument: int, cases: list[tuple[int, Code]], otherwise: Code, mask: int = 0) -> Code:
    """Return code that does what *cases* have for the value of an argument; each of them returns."""
    tests: Code = [(_LD_ABS, 0, 0, _OFFSET_ARG0 + 8 * argument)]
    if mask:
        tests.append((_AND, 0, 0, mask))
    bodies = list(otherwise)
    known: list[tuple[Code, int]] = [(otherwise, 0)]
    left = len(cases)
    for value, body in cases:
        at = next((at for one, at in known if one == body), -1)
        if at < 0:
            at = len(bodies)
            known.append((body, at))
            bodies += body
        left -= 1
        tests.append((_JEQ, left + at, 0, value))
    return [*tests, *bodies]


def _handed_over(arch: int, moves: bool) -> dict[int, Code]:
    """Return the filter code of the calls that somebody else answers."""
    notify, enosys = _return(_NOTIFY), _return(_ERRNO | _ENOSYS)
    special = dict.fromkeys(calls.NUMBERS[arch], notify)
    if moves:
        special.update(dict.fromkeys(calls.MOVES[arch], notify))
    for number, argument in calls.FLAGS_ARGUMENT[arch].items():
        special[number] = [
            (_LD_ABS, 0, 0, _OFFSET_ARG0 + 8 * argument),
            (_JSET, 0, 1, calls.CREATES),
            *notify,
            *_return(_ALLOW),
        ]
    special[calls.PRCTL[arch]] = [
        (_LD_ABS, 0, 0, _OFFSET_ARG0),
        (_JEQ, 1, 0, calls.PR_SET_KEEPCAPS),
        (_JEQ, 0, 1, calls.PR_SET_SECUREBITS),
        *notify,
        *_return(_ALLOW),
    ]
    for number in (*calls.ENOSYS_EVERYWHERE, *calls.NARROW.get(arch, ())):
        special[number] = enosys
    return special


def _ranges(
    refused: tuple[int, ...],
    unused: tuple[tuple[int, int], ...],
    special: dict[int, Code],
    *,
    above: int | None = None,
) -> list[tuple[int, Code]]:
    """Return ``(first number, what to do)`` of each range, ascending; the first starts at 0.

    Args:
        above: what to do with numbers that nobody knows yet, if not ENOSYS.
    """
    eperm, enosys, allow = _return(_ERRNO | _EPERM), _return(_ERRNO | _ENOSYS), _return(_ALLOW)
    decide: list[Code] = [allow] * (_NEWEST + 1)
    for number in refused:
        decide[number] = eperm
    for first, end in unused:
        decide[first:end] = [enosys] * (end - first)
    for number, code in special.items():
        decide[number] = code
    ranges: list[tuple[int, Code]] = []
    for number, code in enumerate(decide):
        if not ranges or ranges[-1][1] is not code:
            ranges.append((number, code))
    return [*ranges, (_NEWEST + 1, enosys if above is None else _return(above))]


def _search(ranges: list[tuple[int, Code]]) -> Code:
    """Return code that finds the range of the number in the accumulator, and does what is to be done.

    Each different thing is there once: installing a filter takes the kernel as long as it has
    instructions, in every step.
    """
    actions: list[Code] = []
    tests: list[tuple[int, int, int]] = []  # a number; where to go from it on, and below it

    def place(ranges: list[tuple[int, Code]]) -> int:
        """Add the tests for *ranges*; return the first one's place, or ``~n`` for the action n."""
        if len(ranges) == 1:
            action = ranges[0][1]
            if action not in actions:
                actions.append(action)
            return ~actions.index(action)
        middle, at = len(ranges) // 2, len(tests)
        tests.append((0, 0, 0))  # until it is known how many come in between
        below, above = place(ranges[:middle]), place(ranges[middle:])
        tests[at] = (ranges[middle][0], above, below)
        return at

    place(ranges)
    starts = list(itertools.accumulate(map(len, actions), initial=len(tests)))

    def jump(at: int, to: int) -> int:
        return (to if to >= 0 else starts[~to]) - at - 1

    code: Code = [
        (_JGE, jump(at, above), jump(at, below), number)
        for at, (number, above, below) in enumerate(tests)
    ]
    return [*code, *itertools.chain.from_iterable(actions)]
