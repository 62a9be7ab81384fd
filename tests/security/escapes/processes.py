"""Attempts to enter namespaces, and to see, trace and kill processes that are not the step's."""

from __future__ import annotations

from tests.security.escapes.attempt import DENIED, Escape

PROCESSES = (
    Escape(name="a user namespace of its own", script="unshare -r true", shows=DENIED),
    Escape(name="a mount namespace of its own", script="unshare -m true", shows=DENIED),
    Escape(
        name="enter the host's mounts", script="nsenter -t 1 -m cat @HOST@/canary", shows=DENIED
    ),
    Escape(name="see the builder", script="ls /proc/@PID@/root", shows="No such file"),
    Escape(name="kill the builder", script="kill -9 @PID@", shows="no such process"),
    Escape(name="kill everybody", script="kill -9 -1; echo lives", shows="lives|^$"),
    Escape(
        name="the root of the first process", script="cat /proc/1/root@HOST@/canary", shows=DENIED
    ),
    Escape(
        name="the directory of the first process",
        script="cat /proc/1/cwd/@HOST@/canary",
        shows=DENIED,
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
)
