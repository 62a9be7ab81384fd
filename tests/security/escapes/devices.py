"""Attempts to reach devices of the machine, and to change those that a step is given."""

from __future__ import annotations

from pybuild.executor.steps.spec import StepMount, StepMountType
from tests.security.escapes.attempt import DENIED, NODES, VICTIM, Escape

_NO_MOUNTS = "needs mounts|/proc"
_CHANGE = (
    "chmod 0 $f; chown 1:1 $f; touch $f; ln $f /linked; mv $f $f.moved; rm -f $f;"
    " mknod $f c 1 5; mount --bind /etc/passwd $f; (: > $f)"
)
_VICTIM_IN_DEV, _VICTIM_ELSEWHERE = (
    (StepMount(type=StepMountType.DEVICE, source=VICTIM, target=target),)
    for target in ("/dev/mine", "/m/mine")
)

DEVICES = (
    *(
        Escape(
            name=f"read {what} through a node in {place}",
            script=f"mknod {place}/n {kind} && head -c 1 {place}/n | wc -c",
            shows=f"^0$|{DENIED}",
            steps=(("mounts", (StepMount(type=StepMountType.TMPFS, target="/t"),)),),
        )
        for what, kind in (("a disk", "b 254 0"), ("memory", "c 1 1"), ("the log", "c 1 11"))
        for place in ("/tmp", "/dev", "/dev/shm", "/t")
    ),
    Escape(
        name="devices of the host", script="ls /dev/kmsg /dev/mem /dev/fuse /dev/kvm", shows=DENIED
    ),
    Escape(name="terminals of the host", script="ls /dev/pts | grep -v ptmx | wc -l", shows="^0$"),
    Escape(name="our terminal", script="echo x > /dev/tty", shows=r"no such device|" + DENIED),
    *(
        Escape(
            name=f"change {what}",
            script=f"for f in {files}; do {_CHANGE}; done; echo tried",
            shows=f"^tried|{_NO_MOUNTS}",
            steps=steps,
        )
        for what, files, steps in (
            ("the nodes of /dev", NODES, ()),
            ("the nodes of /dev as a privileged step", NODES, (("security", "insecure"),)),
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
        shows=DENIED,
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
)
