"""The line from a pod to the outside: slirp4netns, or pasta, which carry its packets by ordinary sockets.

Either needs no privilege beyond the namespace. Others see the containers as this user's processes, and the
containers do not reach what listens on the machine's loopback addresses alone.
"""

from __future__ import annotations

import os
import select
import time

from pybuild.executor.zygote import syscalls, usernet

DEVICE = "tap0"
_TUN = "/dev/net/tun"
_SLIRP, _PASTA = "slirp4netns", "pasta"
_READY_MS, _LOOK_MS = 10_000, 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_SIGKILL = 9
_CUT_OFF = "containers reach nobody outside of this machine, nor its own addresses: "
NO_PROGRAM = "neither slirp4netns nor pasta (package passt) is installed"
_NO_DEVICE = "{} could not connect them (it needs /dev/net/tun: chmod 666 /dev/net/tun, as root)"


def program() -> str:
    """Return the path of the program that is used, "": there is none."""
    return usernet.find(_SLIRP) or usernet.find(_PASTA)


def obstacle() -> str:
    """Return why a pod could not be connected to the outside, "": it could, as far as can be seen."""
    name = os.path.basename(program())
    if not name:
        return NO_PROGRAM
    return "" if os.access(_TUN, os.R_OK | os.W_OK) else _NO_DEVICE.format(name)


class OutsideLine:
    """The line of one pod; it is laid again when the program is killed.

    Attributes:
        warnings: what the user should know.
    """

    def __init__(self, namespace: int) -> None:
        self.warnings: list[str] = []
        self._namespace = namespace
        self._program = program()
        self._pid = 0
        self._pidfd = self._alive = -1
        self._pause_s = _FIRST_PAUSE_S
        self._due = 0.0
        if not self._program:
            self.warnings.append(_CUT_OFF + NO_PROGRAM)
        elif not self._lay():
            self.warnings.append(_CUT_OFF + _NO_DEVICE.format(os.path.basename(self._program)))

    def watch(self, poller: select.poll) -> None:
        """Have *poller* tell when the program has ended."""
        if self._pidfd >= 0:
            poller.register(self._pidfd, select.POLLIN)
            self._poller = poller

    def patience_ms(self) -> float | None:
        """Return how long nothing is to be done; None: nothing is, unless the program ends."""
        return max(0.0, self._due - time.monotonic()) * 1000 if self._due else None

    def has_ended(self) -> None:
        """Note that the program has ended."""
        self._poller.unregister(self._pidfd)
        self._forget()
        self._later()

    def go_on(self) -> None:
        """Lay the line again, if that is due."""
        if self._due and time.monotonic() >= self._due:
            self._due = 0.0
            if not self._lay():
                self._later()

    def end(self) -> None:
        if self._pid:
            _give_up(self._pid)

    def _later(self) -> None:
        self._due = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def _forget(self) -> None:
        syscalls.close_quietly(self._pidfd, self._alive)
        os.waitpid(self._pid, 0)
        self._pid, self._pidfd = 0, -1

    def _lay(self) -> bool:
        """Start the program; False: it has not come to work."""
        is_slirp = os.path.basename(self._program) == _SLIRP
        try:
            ours, theirs = os.pipe()  # it ends when ours is closed, as by our death
            try:
                start = self._start_slirp if is_slirp else self._start_pasta
                self._pid = start(ours, theirs)
            finally:
                os.close(ours)
            if self._pid:
                self._pidfd, self._alive = os.pidfd_open(self._pid), theirs
            else:
                os.close(theirs)
        except OSError:
            return False
        return self._pid > 0

    def _start_slirp(self, end: int, _alive: int) -> int:
        for fd in (self._namespace, end):
            os.set_inheritable(fd, True)
        ours, theirs = os.pipe()
        try:
            target = (f"--exit-fd={end}", "--netns-type=path", f"/proc/self/fd/{self._namespace}")
            pid = usernet.spawn(self._program, target, theirs)
        finally:
            os.close(theirs)
            os.set_inheritable(self._namespace, False)
        poller = select.poll()
        poller.register(ours, select.POLLIN)
        is_ready = bool(poller.poll(_READY_MS)) and os.read(ours, 1) != b""
        os.close(ours)
        return pid if is_ready else _give_up(pid)

    def _start_pasta(self, end: int, alive: int) -> int:
        """Start pasta behind a process that ends it, as it does not see itself that we are gone."""
        command = [self._program, "--foreground", "--config-net", "--quiet", "--no-map-gw"]
        for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
            command += [option, "none"]
        command += ["--dns-forward", usernet.NAME_SERVER, "--ns-ifname", DEVICE]
        command += ["--netns-only", "--netns", f"/proc/{os.getpid()}/fd/{self._namespace}"]
        keeper, pidfd = syscalls.clone3(0)
        if keeper == 0:
            try:
                os.close(alive)
                _keep(command, end)
            finally:
                os._exit(1)
        os.close(pidfd)
        return keeper if self._has_come() else _give_up(keeper)

    def _has_come(self) -> bool:
        """Wait for the device and its route, by a process that goes into the pod to see them."""
        watcher, pidfd = syscalls.clone3(0)
        if watcher == 0:
            try:
                syscalls.setns(self._namespace, syscalls.CLONE_NEWNET)
                for _ in range(_READY_MS // _LOOK_MS):
                    with open("/proc/net/route", encoding="ascii") as routes:
                        if any(line.split()[:2] == [DEVICE, "00000000"] for line in routes):
                            os._exit(0)
                    select.poll().poll(_LOOK_MS)
            finally:
                os._exit(1)
        os.close(pidfd)
        return os.waitpid(watcher, 0)[1] == 0


def _keep(command: list[str], end: int) -> None:
    """Run a program until it ends, or *end* is closed."""
    pid = os.posix_spawn(command[0], command, {"PATH": "/usr/sbin:/usr/bin"})
    poller = select.poll()
    poller.register(end, select.POLLIN)
    poller.register(os.pidfd_open(pid), select.POLLIN)
    poller.poll()
    os.kill(pid, _SIGKILL)
    os.waitpid(pid, 0)


def _give_up(pid: int) -> int:
    os.kill(pid, _SIGKILL)
    os.waitpid(pid, 0)
    return 0
