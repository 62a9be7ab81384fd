"""Runs a program as a container engine runs its root by default: ``python jail.py [--without-setpcap]
PROGRAM ARG…``.

The default capabilities, which lack CAP_SYS_ADMIN, and the default system call filter, which
refuses mounts and namespaces. Both are those that steps with a network of their own get in our
sandbox. It has processes and a /proc of its own, so that what a step does to all processes is done to none but those of the test.
"""

from __future__ import annotations

import os
import sys

WITHOUT_SETPCAP = "--without-setpcap"


def main() -> None:
    from pybuild.executor.zygote import isolation, privileges, syscalls, users

    syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    inside = os.fork()
    if inside:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) & 0xFF)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", 0)
    isolation.enter(None)
    command = sys.argv[1:]
    if command[0] == WITHOUT_SETPCAP:
        command.pop(0)
        privileges.DEFAULT_CAPS &= ~(1 << 8)
    privileges.confine(users.StepUser(0, 0, (), ""), insecure=False, shares_network=False)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
    _be_init(command)


def _be_init(command: list[str]) -> None:
    """Start the program and wait for all that come to have no other parent."""
    pid = os.posix_spawnp(command[0], command, os.environ)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
