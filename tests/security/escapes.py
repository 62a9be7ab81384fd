"""Ways out of a step that have worked somewhere, as a table, and what runs them.

It imports nothing but the package and the standard library, because it also runs as a plain user
in a copy of both. Each escape is shell or Python in a step; it must show that it was tried and
refused, must not print the canary of the host, and must leave the canary's directory as it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybuild.executor.steps.spec import StepMount, StepMountType, StepSpec
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote import scope
from pybuild.model.errors import PybuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.security.rawcalls import Call

CANARY = "canary-of-the-host-81c2"
PYTHON = "/usr/bin/python3"
_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Escape:
    """One attempt.

    Attributes:
        script: for ``/bin/sh``, or for Python where *python*; ``@HOST@`` is a directory of the
            host with a file ``canary`` in it; ``@PID@`` the process that builds.
        shows: what its output must match, so that we know that it ran and was refused.
        steps: how the step differs from an ordinary one.
        links: symbolic links in the image, ``path: target``.
        cve: where it has worked before.
    """

    name: str
    script: str
    shows: str
    python: bool = False
    steps: tuple[tuple[str, Any], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    cve: str = ""


# Without namespaces a step has the processes and the network of the container that we are in,
# without mounts it has no /proc, and copies where others have binds.
_NOT_IN_A_CONTAINER = {
    "kill the builder": "the container's processes are the step's, too",
    "kill everybody": "the container's processes are the step's, too",
    "sysrq": "there is no /proc",
    "change the kernel's objects": "there are none",
    "timers of others": "there is no /proc",
    "hosts behind a link": "the file that the link leads to is put there",
    "a part of a cache that is a link to the host": "a directory of the host cannot be bound",
    "out of a cache": "a directory of the host cannot be bound",
    "write to a read-only bind": "it is a copy, writes are lost",
    "change a secret": "it is a file of the step's own",
    "abstract sockets of the host, network none": "no network but the container's",
    "out without network": "no network but the container's",
}
_DENIED = r"denied|not permitted|read-only|invalid argument|no such|not found|busy|can't"

_NO_MOUNTS = "needs mounts|/proc"
_NODES = " ".join(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
_CHANGE = (
    "chmod 0 $f; chown 1:1 $f; touch $f; ln $f /linked; mv $f $f.moved; rm -f $f;"
    " mknod $f c 1 5; mount --bind /etc/passwd $f; (: > $f)"
)
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
"""Programs of `rawcalls` that are in /bin, where the machine can make them."""

VICTIM = "/dev/pybuild-victim"
"""A device of the host, where a test has made one."""
_VICTIM_IN_DEV, _VICTIM_ELSEWHERE = (
    (StepMount(type=StepMountType.DEVICE, source=VICTIM, target=target),)
    for target in ("/dev/mine", "/m/mine")
)

_ABSTRACT = r"""
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("\0own"); s.listen(); socket.socket(socket.AF_UNIX).connect("\0own")
s = socket.socket(socket.AF_UNIX)
try: s.connect("\0" + "@SOCKET@"); print("ESCAPED" if @SCOPES@ else "nothing can be done")
except OSError as error: print(error.strerror)
"""
_SCOPED = "not permitted" if scope.possible() else "nothing can be done|not permitted"

ESCAPES = (
    # --- mounts -----------------------------------------------------------------------------------
    Escape(name="mount a tmpfs", script="mount -t tmpfs x /tmp", shows="not permitted|denied"),
    Escape(name="bind the host's root", script="mount --bind /proc/1/root /mnt", shows=_DENIED),
    Escape(name="unmount a mask", script="umount /proc/timer_list", shows=_DENIED),
    Escape(name="unmount /proc/sys", script="umount /proc/sys", shows=_DENIED),
    Escape(name="unmount /etc/hosts", script="umount /etc/hosts", shows=_DENIED),
    Escape(
        name="make /proc/sys writable", script="mount -o remount,rw,bind /proc/sys", shows=_DENIED
    ),
    Escape(name="make /sys writable", script="mount -o remount,rw /sys", shows=_DENIED),
    Escape(name="make the root take devices", script="mount -o remount,bind,dev /", shows=_DENIED),
    Escape(
        name="mount cgroups for a release agent",
        script="mkdir /c; mount -t cgroup -o memory x /c; mount -t cgroup2 x /c",
        shows=_DENIED,
        cve="CVE-2022-0492",
    ),
    Escape(
        name="write a release agent that is there",
        script="find /sys/fs/cgroup -name release_agent | while read f; do echo /x > $f; done;"
        " mkdir /sys/fs/cgroup/x",
        shows=_DENIED,
        cve="CVE-2022-0492",
    ),
    Escape(name="pivot_root", script="mkdir /n; pivot_root /n /n", shows=_DENIED),
    # --- namespaces and other processes -----------------------------------------------------------
    Escape(name="a user namespace of its own", script="unshare -r true", shows=_DENIED),
    Escape(name="a mount namespace of its own", script="unshare -m true", shows=_DENIED),
    Escape(
        name="enter the host's mounts", script="nsenter -t 1 -m cat @HOST@/canary", shows=_DENIED
    ),
    Escape(name="see the builder", script="ls /proc/@PID@/root", shows="No such file"),
    Escape(name="kill the builder", script="kill -9 @PID@", shows="no such process"),
    Escape(name="kill everybody", script="kill -9 -1; echo lives", shows="lives|^$"),
    Escape(
        name="the root of the first process", script="cat /proc/1/root@HOST@/canary", shows=_DENIED
    ),
    Escape(
        name="the directory of the first process",
        script="cat /proc/1/cwd/@HOST@/canary",
        shows=_DENIED,
    ),
    Escape(
        name="the environment of the builder",
        script="cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c CANARY_VARIABLE",
        shows="^0$",
    ),
    Escape(
        name="chroot and walk up",
        python=True,
        script="""
import os
os.mkdir("/jail"); fd = os.open("/", os.O_RDONLY); os.chroot("/jail"); os.fchdir(fd)
for _ in range(64): os.chdir("..")
os.chroot(".")
print(open("@HOST@/canary").read())
""",
        shows="FileNotFoundError",
    ),
    Escape(
        name="trace the first process",
        python=True,
        script="""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in (os.getppid() or 1, @PID@):
    print("attach", libc.ptrace(16, pid, 0, 0), os.strerror(ctypes.get_errno()))
""",
        shows="attach -1 No such process",
    ),
    Escape(
        name="open by handle",
        python=True,
        script="""
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
root = os.open("/etc/hosts", os.O_RDONLY)
handle = struct.pack("=Ii8s", 8, 1, (2).to_bytes(8, "little"))
print("handle", libc.open_by_handle_at(root, handle, 0), os.strerror(ctypes.get_errno()))
""",
        shows="handle -1 (Operation not permitted|Function not implemented)",
        cve="shocker",
    ),
    # --- descriptors and working directories ------------------------------------------------------
    Escape(
        name="descriptors that were left open",
        script="for n in $(ls /proc/self/fd); do readlink /proc/self/fd/$n; done; echo end;"
        " cat /proc/self/fd/[3-9]/../../../../../../..@HOST@/canary",
        shows="end",
        cve="CVE-2024-21626",
    ),
    *(
        Escape(
            name=f"work in descriptor {number}",
            script="cat ../../../../../../../../..@HOST@/canary; cat @HOST@/canary",
            shows=_DENIED,
            steps=(("cwd", f"/proc/self/fd/{number}"),),
            cve="CVE-2024-21626",
        )
        for number in range(3, 12)
    ),
    Escape(
        name="work behind a link to the host",
        script="cat ./canary; pwd",
        shows=_DENIED,
        steps=(("cwd", "/out"),),
        links=(("out", "@HOST@"),),
    ),
    Escape(
        name="work in the root of the first process",
        script="cat .@HOST@/canary",
        shows=_DENIED,
        steps=(("cwd", "/out"),),
        links=(("out", "/proc/1/root"),),
    ),
    *(
        Escape(
            name=f"take hold of the builder's program {how}",
            script="",
            shows="^tried",
            steps=(
                ("args", args),
                ("env", ("PYTHONHOME=/usr",)),
                ("mounts", "@PROGRAMS@"),
            ),
            links=(("bin/linked", "/proc/self/exe"),),
            cve="CVE-2019-5736",
        )
        for how, args in (
            ("itself", ("/proc/self/exe", "/bin/evil")),
            ("by a script", ("/bin/evil",)),
            ("by a link", ("/bin/linked", "/bin/evil")),
        )
    ),
    # --- the kernel's files -----------------------------------------------------------------------
    Escape(name="core_pattern", script="echo '|/x' > /proc/sys/kernel/core_pattern", shows=_DENIED),
    Escape(name="modprobe", script="echo /x > /proc/sys/kernel/modprobe", shows=_DENIED),
    Escape(name="sysrq", script="echo h > /proc/sysrq-trigger", shows=_DENIED),
    Escape(
        name="binfmt",
        script="echo ':x:M::x::/x:' > /proc/sys/fs/binfmt_misc/register",
        shows=_DENIED,
    ),
    Escape(name="uevent helper", script="echo /x > /sys/kernel/uevent_helper", shows=_DENIED),
    Escape(name="forwarding", script="echo 1 > /proc/sys/net/ipv4/ip_forward", shows=_DENIED),
    Escape(
        name="memory of the kernel", script="head -c 4 /proc/kcore | wc -c", shows="^0$|" + _DENIED
    ),
    Escape(name="keys of others", script="wc -c < /proc/keys", shows="^0$|" + _DENIED),
    Escape(name="timers of others", script="wc -c < /proc/timer_list", shows="^0$"),
    Escape(name="firmware", script="ls /sys/firmware | wc -l", shows="^0$"),
    Escape(name="interrupts", script="echo 1 > /proc/irq/default_smp_affinity", shows=_DENIED),
    Escape(name="buses", script="touch /proc/bus/x; touch /proc/fs/x", shows=_DENIED),
    Escape(
        name="spared by the killer",
        script="echo -1000 > /proc/self/oom_score_adj",
        shows=_DENIED,
    ),
    Escape(name="map other ids", script="echo '0 0 100' > /proc/self/uid_map", shows=_DENIED),
    # --- devices ----------------------------------------------------------------------------------
    *(
        Escape(
            name=f"read {what} through a node in {place}",
            script=f"mknod {place}/n {kind} && head -c 1 {place}/n | wc -c",
            shows=f"^0$|{_DENIED}",
            steps=(("mounts", (StepMount(type=StepMountType.TMPFS, target="/t"),)),),
        )
        for what, kind in (("a disk", "b 254 0"), ("memory", "c 1 1"), ("the log", "c 1 11"))
        for place in ("/tmp", "/dev", "/dev/shm", "/t")
    ),
    Escape(
        name="devices of the host", script="ls /dev/kmsg /dev/mem /dev/fuse /dev/kvm", shows=_DENIED
    ),
    Escape(name="terminals of the host", script="ls /dev/pts | grep -v ptmx | wc -l", shows="^0$"),
    Escape(name="our terminal", script="echo x > /dev/tty", shows=r"no such device|" + _DENIED),
    *(
        Escape(
            name=f"change {what}",
            script=f"for f in {files}; do {_CHANGE}; done; echo tried",
            shows=f"^tried|{_NO_MOUNTS}",
            steps=steps,
        )
        for what, files, steps in (
            ("the nodes of /dev", _NODES, ()),
            ("the nodes of /dev as a privileged step", _NODES, (("security", "insecure"),)),
            ("a device that was given", "/dev/mine", (("mounts", _VICTIM_IN_DEV),)),
            ("a device that was given elsewhere", "/m/mine", (("mounts", _VICTIM_ELSEWHERE),)),
            ("standard streams", "/dev/stdin /proc/self/fd/0 /dev/stdout", ()),
            ("the names of hosts", "/etc/hosts /etc/resolv.conf", ()),
        )
    ),
    Escape(
        name="change the nodes of /dev by descriptor",
        python=True,
        script="""
import os
for name in "null zero full random urandom tty stdin".split():
    for flags in (os.O_RDONLY, os.O_PATH):
        try: fd = os.open("/dev/" + name, flags) if name != "stdin" else 0
        except OSError: continue
        for path in (fd, f"/proc/self/fd/{fd}"):
            for change in (
                lambda: os.chmod(path, 0), lambda: os.chown(path, 1, 1), lambda: os.utime(path, (1, 1)),
                lambda: os.setxattr(path, "user.x", b"x"), lambda: os.setxattr(path, "trusted.x", b"x"),
                lambda: os.setxattr(path, "security.capability", bytes(20)),
                lambda: os.setxattr(path, "system.posix_acl_access", bytes.fromhex("02000000")),
                lambda: os.truncate(path, 0), lambda: os.link(path, "/tmp/linked"),
            ):
                try: change()
                except (OSError, TypeError): pass  # no link is made of a number
print("tried")
""",
        shows="^tried",
    ),
    Escape(
        name="change standard input by its number",
        script="/bin/change-stdin; echo tried",
        shows="^tried",
    ),
    Escape(
        name="change the kernel's objects",
        script="for f in /sys /sys/kernel /sys/kernel/mm /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs"
        " /proc/sys /proc/sys/kernel/hostname /proc/sysrq-trigger;"
        " do [ -e $f ] && chmod 777 $f && echo ESCAPED; chown 1:1 $f && echo ESCAPED; done",
        shows=_DENIED,
    ),
    Escape(
        name="type into a terminal that is not ours",
        python=True,
        script="""
import fcntl, os
for path in ("/dev/stdin", "/dev/stdout", "/dev/tty", "/dev/pts/0", "/dev/pts/ptmx", "/dev/console"):
    try: fd = os.open(path, os.O_RDWR | os.O_NOCTTY); fcntl.ioctl(fd, 0x5412, b"x"); print("ESCAPED", path)
    except OSError as error: pass
print("tried")
""",
        shows="^tried",
    ),
    # --- files that the builder reads -------------------------------------------------------------
    Escape(
        name="users of the host",
        script="id; echo $HOME",
        shows=r"unable to find user nobody-here|uid=",
        steps=(("user", "nobody-here"),),
        links=(("etc/passwd", "@HOST@/canary"),),
    ),
    Escape(
        name="mount over a file of the host",
        script="cat @HOST@/canary; echo x > /m/over",
        shows=_DENIED,
        steps=(("mounts", (StepMount(type=StepMountType.SECRET, target="/m/over", data=b"s"),)),),
        links=(("m", "@HOST@"),),
        cve="CVE-2024-23652",
    ),
    Escape(
        name="hosts behind a link",
        script="cat @HOST@/canary | head -c 22; echo x > /etc/hosts",
        shows=_DENIED,
        links=(("etc/hosts", "@HOST@/canary"),),
    ),
    Escape(
        name="a part of a cache that is a link to the host",
        script="cat /m",
        shows="not found|no such",
        steps=(
            (
                "mounts",
                (
                    StepMount(
                        type=StepMountType.BIND_PATH,
                        source="@CACHE@",
                        target="/m",
                        selector="/link/canary",
                    ),
                ),
            ),
        ),
        cve="CVE-2024-23651",
    ),
    Escape(
        name="out of a cache",
        script="cat /c/link/canary; cat /c/../../../..@HOST@/canary; cd /c; cat ../..@HOST@/canary",
        shows=_DENIED,
        steps=(
            (
                "mounts",
                (StepMount(type=StepMountType.BIND_PATH, source="@CACHE@", target="/c"),),
            ),
        ),
    ),
    Escape(
        name="write to a read-only bind",
        script="echo x > /c/new; rm -f /c/link; chmod 777 /c; touch /c; mount -o remount,rw /c",
        shows="read-only",
        steps=(
            (
                "mounts",
                (
                    StepMount(
                        type=StepMountType.BIND_PATH,
                        source="@HOST@",
                        target="/c",
                        selector="/open",
                        readonly=True,
                    ),
                ),
            ),
        ),
    ),
    Escape(
        name="change a secret",
        script="echo x > /run/secrets/s; rm /run/secrets/s; chmod 777 /run/secrets/s",
        shows="read-only",
        steps=(
            (
                "mounts",
                (StepMount(type=StepMountType.SECRET, target="/run/secrets/s", data=b"s"),),
            ),
        ),
    ),
    # --- network ----------------------------------------------------------------------------------
    *(
        Escape(
            name=f"abstract sockets of the host, network {network}",
            python=True,
            script=_ABSTRACT,
            shows=shows,
            steps=(("network", network),),
            cve="CVE-2020-15257",
        )
        for network, shows in (("none", "Connection refused"), ("default", _SCOPED))
    ),
    Escape(
        name="out without network",
        python=True,
        script="""
import socket
for address in ("192.0.2.1", "127.0.0.1"):
    try: socket.create_connection((address, @PORT@), 2); print("ESCAPED")
    except OSError as error: print(error.strerror)
""",
        shows="Network is unreachable\n.*refused",
        steps=(("network", "none"),),
    ),
    *(
        Escape(
            name=f"sockets that read what others say, {name}, network {network}",
            script=f"/bin/{name} | grep -v ^ffffff && echo ESCAPED; echo tried",
            shows="^tried",
            steps=(("network", network),),
        )
        for name in ("sockets64", "sockets32", "socketcalls32", "sockets-x32")
        for network in ("default", "host")
    ),
    Escape(
        name="calls by their numbers of 32 bits",
        script="/bin/calls32 | grep -v -e ffffffff -e ffffffda && echo ESCAPED; echo tried",
        shows="^tried",
    ),
    Escape(
        name="configure the network",
        script="ip link set lo down; ip addr add 192.0.2.9/32 dev lo; ip link add type veth",
        shows="not permitted",
    ),
)

_EVIL = """
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
for attempt in (
    lambda: os.fchmod(fd, 0o4755),
    lambda: os.utime(fd),
    lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"x"),
):
    try: attempt()
    except OSError as error: print(error.strerror)
print("tried")
"""

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
_CALLS = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long] * 7
libc.syscall.restype = ctypes.c_long
found = {}
for name, (number, args) in json.loads(CALLS).items():
    ctypes.set_errno(0)
    done = libc.syscall(number, *args, *[0] * (6 - len(args)))
    if done == 0 and name.startswith("clone into"):
        import os
        os._exit(0)
    found[name] = "ok" if done >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps(found))
"""


def host_programs() -> tuple[StepMount, ...]:
    """Return mounts that let a step run the host's Python."""
    return tuple(
        StepMount(type=StepMountType.BIND_PATH, source=path, target=path, readonly=True)
        for path in ("/usr", "/lib", "/lib64")
        if os.path.isdir(path)
    )


def left_out(rung: str, escape: Escape) -> str:
    """Return why *escape* is not tried on a rung, "" if it is; docs/rootless.md says it to users."""
    if rung != "chroot":
        return ""
    if escape.python or escape.name.startswith("take hold of the builder's program"):
        return "programs of the host cannot be mounted, and copying them all takes too long"
    return _NOT_IN_A_CONTAINER.get(escape.name, "")


def run_all(base: str, place: str, rootless: bool | None, runtime: str = "") -> dict[str, Any]:
    """Try everything and return what each attempt printed, with what became of the canary.

    Args:
        base: a root file system with busybox.
        place: an empty directory of our own.
        runtime: an OCI runtime that runs the steps.
    """
    os.environ["CANARY_VARIABLE"] = CANARY
    workers = Workers(rootless=rootless, runtime=runtime)
    return asyncio.run(_run_all(Path(base), Path(place), workers))


async def _run_all(base: Path, place: Path, workers: Workers) -> dict[str, Any]:
    import socket

    host, cache = place / "host", place / "cache"
    (host / "open").mkdir(parents=True)
    (host / "canary").write_text(CANARY + "\n")
    cache.mkdir()
    (cache / "link").symlink_to(host)
    name = f"pybuild-escape-{os.getpid()}"
    found: dict[str, Any] = {}
    with socket.socket(socket.AF_UNIX) as listening, socket.create_server(("127.0.0.1", 0)) as tcp:
        listening.bind("\0" + name)
        listening.listen()
        words = {
            "@HOST@": str(host),
            "@CACHE@": str(cache),
            "@PID@": str(os.getpid()),
            "@SOCKET@": name,
            "@SCOPES@": str(scope.possible()),
            "@PORT@": str(tcp.getsockname()[1]),
        }
        try:
            found["rung"] = rung = await workers.isolation()
            before = _look(host)
            for number, escape in enumerate(ESCAPES):
                if left_out(rung, escape):
                    continue
                found[escape.name] = done = await _attempt(
                    workers, escape, base, place / str(number), words
                )
                done["host"] = "unchanged" if _look(host) == before else "changed"
            if rung == "chroot":
                return found  # the filter is the container's own
            script = _CALLS.replace("CALLS", repr(json.dumps(CALLS)), 1)
            calls = Escape(name="calls", script=script, shows="", python=True)
            done = await _attempt(workers, calls, base, place / "calls", words)
            found["calls"] = json.loads(done["out"] or "{}") or done
        finally:
            await workers.close()
    return found


def _look(host: Path) -> list[tuple[str, int, int, str]]:
    """Return what must not change: the canary with all around it, and our own program."""
    program = os.stat(sys.executable)
    nodes = [Path(VICTIM), *map(Path, _NODES.split())]
    return [
        (sys.executable, program.st_mode, program.st_ctime_ns, str(program.st_size)),
        *((str(p), p.stat().st_mode, p.stat().st_ctime_ns, "") for p in nodes),
        *(
            (str(p), p.lstat().st_mode, p.lstat().st_ctime_ns, p.read_text() if p.is_file() else "")
            for p in (host, *sorted(host.rglob("*")))
        ),
    ]


async def _attempt(
    workers: Workers, escape: Escape, base: Path, place: Path, words: dict[str, str]
) -> dict[str, Any]:
    def said(value: Any) -> Any:
        match value:
            case "@PROGRAMS@":
                return host_programs()
            case str():
                for word, text in words.items():
                    value = value.replace(word, text)
                return value
            case tuple():
                return tuple(map(said, value))  # pyright: ignore[reportUnknownArgumentType]
            case StepMount(source=source):
                from dataclasses import replace

                return replace(value, source=said(source))
            case _:
                return value

    for part in ("upper", "work", "image/etc", "image/bin", "image/tmp", "image/mnt"):
        (place / part).mkdir(parents=True)
    evil = place / "image/bin/evil"
    evil.write_text(f"#!/proc/self/exe\n{_EVIL}")
    evil.chmod(0o755)
    for path, target in escape.links:
        (place / "image" / path).symlink_to(said(target))
    script = said(escape.script)
    args = (PYTHON, "-I", "-S", "-c", script) if escape.python else ("/bin/sh", "-c", script)
    changes: dict[str, Any] = {name: said(value) for name, value in escape.steps}
    if escape.python:
        changes["mounts"] = (*host_programs(), *changes.get("mounts", ()))
    known: dict[str, Any] = {
        "lowers": (str(base), str(place / "image")),
        "upper": str(place / "upper"),
        "work": str(place / "work"),
        "args": args,
        "hosts": b"127.0.0.1 localhost\n",
    }
    output = {"stdout": b"", "stderr": b""}

    def on_output(stream: str, data: bytes) -> None:
        output[stream] += data

    try:
        async with asyncio.timeout(_SECONDS):
            ended = await workers.run_step(StepSpec(**(known | changes)), on_output)
        status = ended.status
    except PybuildError as error:
        status, output["stderr"] = -1, error.message.encode()
    except TimeoutError:
        status, output["stderr"] = -2, b"hangs"
    texts = {name[3:]: data.decode(errors="replace") for name, data in output.items()}
    return {"status": status, **texts}


if __name__ == "__main__":
    rootless = True if "rootless" in sys.argv[3:] else None
    runtime = "".join(name for name in sys.argv[3:] if name != "rootless")
    print(json.dumps(run_all(sys.argv[1], sys.argv[2], rootless, runtime)))
