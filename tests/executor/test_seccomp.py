"""The system call filter, run instruction by instruction as the kernel would [SBX-8]."""

from __future__ import annotations

import struct

import pytest

from pybuild.executor.zygote import seccomp

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
NOTIFY = 0x7FC00000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000


def verdict(program: bytes, arch: int, number: int, *args: int) -> tuple[int, int]:
    """Return what the filter says and how many instructions it took."""
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    data = struct.pack("=IIQ6Q", number, arch, 0, *args, *(6 - len(args)) * (0,))
    at = accumulator = taken = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        taken += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x05:
                at += k
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x54:
                accumulator &= k
            case 0x06:
                return k, taken
            case _:
                raise AssertionError(f"operation {operation:#x}")


@pytest.mark.parametrize(
    ("arch", "number", "arg0", "expected"),
    [
        (X86_64, 0, 0, ALLOW),  # read
        (X86_64, 59, 0, ALLOW),  # execve
        (X86_64, 161, 0, ALLOW),  # chroot: CAP_SYS_CHROOT is in the default set
        (X86_64, 439, 0, ALLOW),  # faccessat2
        (X86_64, 466, 0, ALLOW),  # removexattrat, the newest
        (X86_64, 467, 0, ENOSYS),
        (X86_64, 2**32 - 1, 0, ENOSYS),
        (X86_64, 400, 0, ENOSYS),  # never given out
        (X86_64, 165, 0, EPERM),  # mount
        (X86_64, 272, 0, EPERM),  # unshare
        (X86_64, 250, 0, EPERM),  # keyctl
        (X86_64, 321, 0, EPERM),  # bpf
        (X86_64, 304, 0, EPERM),  # open_by_handle_at
        (X86_64, 425, 0, EPERM),  # io_uring_setup
        (X86_64, 56, 0x11, ALLOW),  # clone of a process
        (X86_64, 56, 0x10000000, EPERM),  # clone of a user namespace
        (X86_64, 56, 0x00020000, EPERM),  # clone of a mount namespace
        (X86_64, 435, 0, ENOSYS),  # clone3
        (X86_64, 41, 2, ALLOW),  # socket AF_INET
        (X86_64, 41, 38, EPERM),  # AF_ALG
        (X86_64, 41, 39, EPERM),  # AF_IB, which nothing in a build speaks
        (X86_64, 41, 40, EPERM),  # AF_VSOCK
        *((X86_64, 135, value, ALLOW) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
        (X86_64, 135, 0x40000, EPERM),  # personality ADDR_NO_RANDOMIZE
        (X86_64, X32 | 0, 0, ENOSYS),
        (I386, 3, 0, ALLOW),  # read
        (I386, 384, 0, ALLOW),  # arch_prctl
        (I386, 21, 0, EPERM),  # mount
        (I386, 120, 0x10000000, EPERM),  # clone
        (I386, 359, 40, EPERM),  # socket
        (I386, 102, 1, NOTIFY),  # socketcall of socket
        (I386, 102, 3, ALLOW),  # of connect
        (I386, 102, 14, NOTIFY),  # of setsockopt
        (I386, 406, 0, ALLOW),  # clock_getres_time64
        (0x12345678, 0, 0, ENOSYS),  # another machine's
    ],
)
def test_x86_64(arch: int, number: int, arg0: int, expected: int) -> None:
    assert verdict(seccomp.program("x86_64"), arch, number, arg0)[0] == expected


_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_UNIX, _INET, _INET6, _NETLINK, _PACKET, _XDP = 1, 2, 10, 16, 17, 44
_STREAM, _DGRAM, _RAW, _OLD_PACKET = 1, 2, 3, 10


@pytest.mark.parametrize(
    ("socket", "shared", "own"),
    [
        ((_INET, _STREAM, 0), ALLOW, ALLOW),
        ((_INET6, _DGRAM | _CLOEXEC, 17), ALLOW, ALLOW),
        ((_UNIX, _RAW, 0), ALLOW, ALLOW),
        ((_NETLINK, _RAW, 0), ALLOW, ALLOW),
        ((_INET, _RAW, 1), ALLOW, ALLOW),  # ping
        ((_INET, _RAW | _NONBLOCK | _CLOEXEC, 1), ALLOW, ALLOW),
        ((_INET6, _RAW, 58), ALLOW, ALLOW),
        ((_INET, _DGRAM, 1), ALLOW, ALLOW),
        ((_INET, _RAW, 6), EPERM, ALLOW),
        ((_INET, _RAW | _CLOEXEC, 17), EPERM, ALLOW),
        ((_INET6, _RAW, 6), EPERM, ALLOW),
        ((_INET, _RAW, 255), EPERM, ALLOW),
        ((_INET, _RAW, 0), EPERM, ALLOW),
        ((_INET, _RAW, 1 << 32 | 1), ALLOW, ALLOW),  # the kernel looks at 32 bits, too
        ((_INET, _OLD_PACKET, 3), EPERM, ALLOW),  # AF_PACKET by an old name
        ((_PACKET, _RAW, 0x300), EPERM, ALLOW),
        ((_PACKET, _DGRAM, 0x300), EPERM, ALLOW),
        ((1 << 32 | _PACKET, _RAW, 0x300), EPERM, ALLOW),
        ((_XDP, _RAW, 0), EPERM, ALLOW),
        ((31, _RAW, 1), EPERM, ALLOW),  # AF_BLUETOOTH
        ((38, 5, 0), EPERM, EPERM),
        ((1 << 32 | 40, 1, 0), EPERM, EPERM),
    ],
)
def test_sockets_that_read_what_others_say(
    socket: tuple[int, int, int], shared: int, own: int
) -> None:
    """On the builder's network a step hears what is said to it, not what others say there."""
    for shares, expected in ((True, shared), (False, own)):
        for machine, arch, number in (
            ("x86_64", X86_64, 41),
            ("x86_64", I386, 359),
            ("aarch64", AARCH64, 198),
        ):
            code = seccomp.program(machine, shares_network=shares)
            assert verdict(code, arch, number, *socket)[0] == expected


def test_nobody_answers_socketcall_on_a_network_of_its_own() -> None:
    """The process that answers these calls is outside of that network, so it could not open sockets in it."""
    code = seccomp.program("x86_64", shares_network=False)
    assert [verdict(code, I386, 102, call)[0] for call in (1, 3, 14)] == [ENOSYS, ALLOW, ENOSYS]


@pytest.mark.parametrize(
    ("level", "name", "shared"),
    [
        (1, 2, ALLOW),  # SO_REUSEADDR
        (6, 3, ALLOW),  # TCP_CORK
        (0, 3, EPERM),  # IP_HDRINCL
        (0, 19, EPERM),  # IP_TRANSPARENT
        (0, 36, ALLOW),
        (41, 36, EPERM),  # IPV6_HDRINCL
        (41, 75, EPERM),  # IPV6_TRANSPARENT
        (41, 26, ALLOW),  # IPV6_V6ONLY
        (1, 36, EPERM),  # SO_MARK
    ],
)
def test_options_that_claim_to_be_somebody_else(level: int, name: int, shared: int) -> None:
    for shares, expected in ((True, shared), (False, ALLOW)):
        for machine, arch, number in (
            ("x86_64", X86_64, 54),
            ("x86_64", I386, 366),
            ("aarch64", AARCH64, 208),
        ):
            code = seccomp.program(machine, shares_network=shares)
            assert verdict(code, arch, number, 3, level, name)[0] == expected


@pytest.mark.parametrize(
    ("number", "arg0", "expected"),
    [
        (63, 0, ALLOW),  # read
        (264, 0, ALLOW),  # name_to_handle_at
        (40, 0, EPERM),  # mount
        (97, 0, EPERM),  # unshare
        (220, 0x20000000, EPERM),  # clone
        (198, 38, EPERM),  # socket
        (300, 0, ENOSYS),
        (435, 0, ENOSYS),
        (467, 0, ENOSYS),
    ],
)
def test_aarch64(number: int, arg0: int, expected: int) -> None:
    assert verdict(seccomp.program("aarch64"), AARCH64, number, arg0)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_number_gets_a_verdict_within_a_score_of_instructions(machine: str) -> None:
    program = seccomp.program(machine)
    for arch in (X86_64, I386, AARCH64):
        taken = [verdict(program, arch, number)[1] for number in range(600)]
        assert max(taken) <= 20
    assert len(program) // 8 <= 4096


def test_unknown_machine_is_named() -> None:
    with pytest.raises(OSError, match="no system call filter for s390x"):
        seccomp.program("s390x")


@pytest.mark.parametrize(("shares_network", "most"), [(True, 300), (False, 235)])
def test_a_filter_has_few_instructions(shares_network: bool, most: int) -> None:
    """Installing it takes the kernel as long as it has instructions, and each step installs one."""
    assert len(seccomp.program("x86_64", shares_network=shares_network)) // 8 <= most
