"""System calls that are refused by the filter or for want of a capability, and programs that make them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.security.rawcalls import Call

_READING = (
    *(
        (17, 3, 0x300),
        (17, 2, 0x300),
        (2, 10, 0x300),
        (44, 3, 0),
        (31, 3, 1),
    ),  # AF_PACKET, AF_XDP, …
    *(
        (family, kind, number)
        for family in (2, 10)
        for kind in (3, 0o2004003)
        for number in (6, 17, 255)
    ),
    *((38, 5, 0), (40, 1, 0)),  # AF_ALG, AF_VSOCK
)
"""Sockets that read what others say, or speak to the kernel and to other machines around it."""
_CALLS_I386: list[Call] = [
    *((21, (0, 0, 0, 0, 0)), (22, (0,)), (52, (0, 2)), (120, (0x10000011, 0, 0, 0, 0))),
    *((128, (0, 0, 0)), (136, (0x40000,)), (217, (0, 0)), (283, (0, 0, 0, 0)), (286, (0,) * 5)),
    *((287, (0,) * 4), (288, (0, -3, 0)), (310, (0x10000000,)), (336, (0, 0, -1, -1, 0))),
    *((342, (0, 0, 0)), (346, (0, 0)), (357, (0, 0, 0)), (374, (0,)), (425, (1, 0)), (435, (0, 0))),
    *((428, (-100, 0, 1)), (429, (0,) * 5), (438, (0, 0, 0)), (442, (-100, 0, 0, 0, 0))),
]
"""Of 32 bits: mount umount umount2 clone init_module personality pivot_root kexec_load add_key
request_key keyctl unshare perf_event_open open_by_handle_at setns bpf userfaultfd io_uring_setup clone3
open_tree move_mount pidfd_getfd mount_setattr."""
PROGRAMS: dict[str, tuple[int, list[Call]]] = {
    # name: (bits, system calls); fchmod, fchown, ftruncate
    "change-stdin": (64, [(91, (0, 0)), (93, (0, 1, 1)), (77, (0, 0))]),
    "sockets64": (64, [(41, socket) for socket in _READING]),
    "sockets32": (32, [(359, socket) for socket in _READING]),
    "socketcalls32": (32, [(102, (1, socket)) for socket in _READING]),
    "sockets-x32": (64, [(0x40000000 | 41, socket) for socket in _READING]),
    "calls32": (32, _CALLS_I386),
}

# number on x86_64, arguments; all of them refused by the filter or for want of a capability.
CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "bpf": (321, (0, 0, 0)),
    "perf_event_open": (298, (0, 0, -1, -1, 0)),
    "userfaultfd": (323, (0,)),
    "kexec_load": (246, (0, 0, 0, 0)),
    "kexec_file_load": (320, (0, 0, 0, 0, 0)),
    "init_module": (175, (0, 0, 0)),
    "finit_module": (313, (0, 0, 0)),
    "delete_module": (176, (0, 0)),
    "add_key": (248, (0, 0, 0, 0, -3)),
    "request_key": (249, (0, 0, 0, 0)),
    "keyctl": (250, (0, -3, 0)),
    "io_uring_setup": (425, (1, 0)),
    "swapon": (167, (0, 0)),
    "reboot": (169, (0xFEE1DEAD, 672274793, 0, 0)),
    "settimeofday": (164, (0, 0)),
    "clock_settime": (227, (0, 0)),
    "acct": (163, (0,)),
    "quotactl": (179, (0, 0, 0, 0)),
    "mount": (165, (0, 0, 0, 0, 0)),
    "umount2": (166, (0, 2)),
    "pivot_root of nothing": (155, (0, 0)),
    "open_tree": (428, (-100, 0, 1)),
    "move_mount": (429, (-100, 0, -100, 0, 0)),
    "fsopen": (430, (0, 0)),
    "fspick": (433, (-100, 0, 0)),
    "mount_setattr": (442, (-100, 0, 0, 0, 0)),
    "setns": (308, (0, 0)),
    "unshare": (272, (0x10000000,)),
    "unshare of time": (272, (0x80,)),
    "clone into a user namespace": (56, (0x10000000 | 17, 0, 0, 0, 0)),
    "clone3": (435, (0, 0)),
    "pidfd_getfd": (438, (0, 0, 0)),
    "process_madvise": (440, (0, 0, 0, 0, 0)),
    "open_by_handle_at": (304, (0, 0, 0)),
    "fanotify_init": (300, (0, 0)),
    "syslog": (103, (3, 0, 0)),
    "iopl": (172, (3,)),
    "ioperm": (173, (0, 1, 1)),
    "sethostname": (170, (0, 0)),
    "setdomainname": (171, (0, 0)),
    "vhangup": (153, ()),
    "kcmp": (312, (1, 1, 0, 0, 0)),
    "lookup_dcookie": (212, (0, 0, 0)),
    "personality that changes addresses": (135, (0x0040000,)),
    "a socket of virtual machines": (41, (40, 1, 0)),
    "a socket of the kernel's ciphers": (41, (38, 5, 0)),
    "a call of x32": (0x40000000 + 39, ()),
    "a call that is newer than the filter": (5000, ()),
}
