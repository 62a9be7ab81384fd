"""A step that an OCI runtime starts, in place of our own sandbox.

The step's process stays here as the first of a pid namespace around the runtime and what that
starts. It makes the tree, its mounts, /dev and /sys as for our own sandbox, writes the bundle, has
the runtime start the container and waits for the container's end. When it is killed, so is all of
that: no runtime has to be asked to clean up, and its state lies on a tmpfs that is gone, too.

Control groups are the step's own ones already. The runtime gets to see them read-only, because it
would make others and leave them behind.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import (
    confined,
    kernelfs,
    landlock,
    mounts,
    overlay,
    privileges,
    procstatus,
    rootfs,
    sealing,
    setup,
    syscalls,
    ulimits,
    users,
    wire,
)
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _socket import socket as RawSocket
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from pybuild.executor.steps.spec import OciOrder, StepSpec
    from pybuild.executor.zygote import cgroups
else:
    import _signal as signal

_SIGTERM, _SIGKILL, _SIGINT = 15, 9, 2
_ID = "step"
_CGROUPS = "/sys/fs/cgroup"
_SAID_BYTES = 4000
# What a runtime says (on the step's stderr, too) when the program cannot be executed, and the
# status that a shell would have.
_CANNOT_EXECUTE = (
    ("not found in $path", 127),
    ("no such file or directory", 127),
    ("permission denied", 126),
    ("exec format error", 126),
    ("open executable: operation not permitted", 126),
)


def supervise(
    channel: RawSocket, fds: list[int], spec: StepSpec, oci: OciOrder, leaf: cgroups.Leaf
) -> NoReturn:
    """Have the runtime run the step, then end as its program has ended.

    Raises:
        Fault: it cannot be set up, or the runtime refuses; else it does not return.
    """
    place = spec.work + "/oci"
    bundle, warned, trees = _prepare(spec, oci, place)
    if not leaf.has_pids:
        ulimits.bound_processes(leaf.pids)
    for warning in (*leaf.warnings, *warned):
        channel.sendall(wire.frame(("warning", warning)))
    container = _Container(place)
    # Only now: whoever is cancelled before there is a container just ends.
    signal.signal(_SIGTERM, container.on_term)
    status = _never_executed(oci, fds[1])
    if status is None:
        status = container.start(oci, bundle, fds, spec)
    if status is None:
        status = container.wait()
    setup.say_ready(channel, -1, trees)
    os._exit(status)


# --- what the runtime is given --------------------------------------------------------------------


def _prepare(spec: StepSpec, oci: OciOrder, place: str) -> tuple[str, list[str], list[int]]:
    """Make the tree and the bundle; return its directory, what cannot be had, and what is to be sealed."""
    os.setsid()
    if spec.own_network:
        setup.loopback_up()
    layout = rootfs.Layout(spec.work)
    prepared = mounts.prepare(spec, layout, mounts.EngineFiles(layout.root))
    targets = [(path, True) for path in ("/proc", "/dev", "/sys")]
    targets += [(p.target, p.directory) for p in prepared if not setup.is_kernels(p.target)]
    root_fd = rootfs.mount_root(layout, spec.lowers, spec.upper, targets, insecure=spec.insecure)
    kernelfs.refuse_links(root_fd)
    user = users.resolve(root_fd, spec.user)
    os.mkdir(place)
    tmpfs = overlay.tmpfs(mode=0o700, attributes=syscalls.MOUNT_ATTR_NOSUID)
    kernelfs.attach(tmpfs, syscalls.AT_FDCWD, place)
    for name in ("/proc", "/dev", "/sys", "/bundle", "/state"):
        os.mkdir(place + name)
    kernel_fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kernelfs.mount_all(
        kernel_fd,
        own_network=spec.own_network,
        insecure=spec.insecure,
        shm_bytes=spec.shm_size_bytes,
    )
    trees = sealing.trees_of(spec, root_fd, prepared)
    for mount in prepared:
        _attach(root_fd, kernel_fd, mount)
    process = oci.config["process"]
    process["cwd"] = _working_directory(root_fd, spec.cwd, user)
    process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups}
    process["capabilities"] = _capabilities(oci.capabilities, is_root=user.uid == 0)
    if not any(entry.startswith("HOME=") for entry in process["env"]):
        process["env"].append("HOME=" + (user.home or "/"))
    process["rlimits"], warnings = _limits(spec.ulimits)
    _write(place + "/bundle/config.json", oci.config)
    syscalls.close_quietly(kernel_fd, root_fd)
    _show_our_processes()
    _protect_cgroups()
    return place + "/bundle", warnings, trees


def _attach(root_fd: int, kernel_fd: int, mount: mounts.DetachedMount) -> None:
    """Put a mount in its place; one that is in /dev or /sys, also behind a link, in ours."""
    try:
        real, _ = confined.locate(root_fd, mount.target)
    except OSError:
        real = []  # The error is told where the same is tried once more.
    target = "/" + "/".join(real)
    if not setup.is_kernels(target):
        mounts.attach(root_fd, mount)
        return
    if target.startswith("/proc/"):
        raise Fault(USER, f'mount target "{mount.target}": not possible with an OCI runtime')
    mount.target = target
    mounts.attach(kernel_fd, mount)


def _working_directory(root_fd: int, cwd: str, user: users.StepUser) -> str:
    """Return it, made where it is missing; what lies in /proc or /dev is the runtime's to find."""
    if setup.is_kernels(os.path.normpath(cwd) + "/"):
        return cwd
    return setup.make_cwd(root_fd, cwd, user)


def _capabilities(numbered: Sequence[tuple[str, int]], *, is_root: bool) -> dict[str, list[str]]:
    """Return the sets of those that there are to be had."""
    had = [name for name, number in numbered if privileges.PERMITTED >> number & 1]
    return dict.fromkeys(("bounding", "effective", "permitted") if is_root else ("bounding",), had)


def _limits(limits: Sequence[ulimits.Ulimit]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return ``process.rlimits`` and a sentence for each limit that had to be less.

    They are set in a child, to see what is granted, because the runtime must not suffer them.
    """
    import marshal

    if not limits:
        return [], []
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer: tuple[Any, ...] = ("set", ulimits.apply(limits), ulimits.current(limits))
        except Fault as fault:
            answer = ("fault", fault.kind, fault.message, list(fault.hints))
        os.write(write_end, marshal.dumps(answer))
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = marshal.loads(pipe.read())
    os.waitpid(pid, 0)
    if answer[0] == "fault":
        raise Fault(*answer[1:])
    return [
        {"type": "RLIMIT_" + name.upper(), "soft": soft, "hard": hard}
        for name, soft, hard in answer[2]
    ], answer[1]


def _write(path: str, config: dict[str, Any]) -> None:
    import json

    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        # As bytes that are no UTF-8 have no other form there.
        json.dump(config, file, ensure_ascii=False)


def _show_our_processes() -> None:
    """Mount the /proc of this pid namespace: the runtime looks its children up there."""
    try:
        kernelfs.attach(
            overlay.filesystem("proc", kernelfs.PLAIN), syscalls.AT_FDCWD, "/proc", links=False
        )
    except OSError as error:
        raise Fault(ENVIRONMENT, f"cannot mount /proc for the runtime: {error.strerror}") from error


def _protect_cgroups() -> None:
    """Show version 2 alone, where the kernel has it: crun refuses to look at both at once."""
    try:
        cgroups = overlay.filesystem("cgroup2", kernelfs.PLAIN | syscalls.MOUNT_ATTR_RDONLY)
        kernelfs.attach(cgroups, syscalls.AT_FDCWD, _CGROUPS)
        return
    except OSError:
        pass
    try:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, _CGROUPS, 0)
    except OSError:
        return  # There are none.
    try:
        syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_RDONLY, recursive=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # no mount, just a directory
            raise
    finally:
        os.close(tree)


# --- the runtime and its container ----------------------------------------------------------------


class _Container:
    """The runtime's child that is the step, and ours once the runtime has ended."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._pid = 0
        self._ended: dict[int, int] = {}  # processes that ended before they were asked for

    def start(self, oci: OciOrder, bundle: str, fds: list[int], spec: StepSpec) -> int | None:
        """Return when the program runs; or the status of one that cannot be executed.

        Raises:
            Fault: environment; the runtime failed, with what it said.
        """
        log, pid_file = self._place + "/bundle/log", self._place + "/pid"
        # The log is named relative to the bundle: crun takes what is before a colon for a kind of log.
        command = [oci.path, "--root", self._place + "/state", "--log", "log"]
        command += ["--log-format", "json", *oci.options]
        create = [*command, "create", "--pid-file", pid_file, "--bundle", bundle, _ID]
        status = self._run(create, fds, spec.network)
        if status == 0:
            with open(pid_file, encoding="ascii") as file:
                self._pid = int(file.read())
            if not spec.insecure:
                self._forbid_devices()
            status = self._run([*command, "start", _ID], fds, spec.network)
        if status:
            return status_of_refusal(last_error(log), oci.name, status, spec.limits.pids)
        syscalls.close_quietly(*fds)
        return None

    def _run(self, command: list[str], fds: list[int], network: str) -> int:
        pid = os.fork()
        if pid == 0:
            _become_runtime(command, self._place, fds, network)
        return self._wait_for(pid)

    def _forbid_devices(self) -> None:
        """Mount the container's root and /dev nodev once more, before its program starts.

        crun drops what it is not told, and there is no word for the root's flags.
        """
        pid = os.fork()
        if pid == 0:
            try:
                namespace = os.open(f"/proc/{self._pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                syscalls.setns(namespace, syscalls.CLONE_NEWNS)
                for path in ("/", "/dev"):
                    tree = syscalls.open_tree(syscalls.AT_FDCWD, path, 0)
                    syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_NODEV)
                os._exit(0)
            finally:
                os._exit(1)
        if self._wait_for(pid):
            raise Fault(ENVIRONMENT, "cannot forbid the use of devices in the runtime's container")

    def wait(self) -> int:
        """Return the program's status as a shell gives it, when it and all its children ended."""
        return self._wait_for(self._pid)

    def on_term(self, _number: int, _frame: object) -> None:
        """Hand the wish to end on; who does not listen for it is killed."""
        if not self._pid:
            os._exit(128 + _SIGTERM)
        try:
            os.kill(self._pid, _SIGTERM if procstatus.catches(self._pid, _SIGTERM) else _SIGKILL)
        except ProcessLookupError:
            pass

    def _wait_for(self, awaited: int) -> int:
        """Reap children, ours and those that lost their parent, until *awaited* has ended."""
        while awaited not in self._ended:
            pid, status = os.waitpid(-1, 0)
            code = os.waitstatus_to_exitcode(status)
            self._ended[pid] = 128 - code if code < 0 else code
        return self._ended[awaited]


def _never_executed(oci: OciOrder, stderr: int) -> int | None:
    """Return the status of a program that no kernel takes; a runtime written in C reads half of it."""
    process = oci.config["process"]
    if not any("\0" in text for text in (*process["args"], *process["env"])):
        return None
    name = process["args"][0] if process["args"] else ""
    os.write(stderr, f'exec: "{name}": embedded null byte\n'.encode("utf-8", "surrogateescape"))
    return 126


def _become_runtime(command: list[str], place: str, fds: list[int], network: str) -> NoReturn:
    try:
        os.chdir(place + "/bundle")
        signal.signal(_SIGTERM, signal.SIG_DFL)
        setup.reset_signals()
        setup.take_streams(fds, place + "/dev")
        if network == "default":
            landlock.leave_abstract_sockets()
        os.execve(command[0], command, {"PATH": setup.DEFAULT_PATH, "HOME": "/"})
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def last_error(log: str) -> str:
    """Return the last error of a runtime's log, "" if there is none."""
    import json

    try:
        with open(log, "rb") as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = ""
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["level"] in ("error", "fatal", "panic"):
                last = str(entry["msg"])
        except (ValueError, KeyError, TypeError):
            last = line
    return last.strip()[:_SAID_BYTES]


def status_of_refusal(message: str, name: str, status: int, pids: int) -> int:
    """Return the status of a program that cannot be executed, if that is what the runtime said."""
    text = message.lower()
    if "exec" in text:
        for part, shell_status in _CANNOT_EXECUTE:
            if part in text:
                return shell_status
    hints: tuple[str, ...] = ("leave --runtime away: steps have a sandbox of ours",)
    if pids:
        hints = (f"{name}'s own threads count among pids={pids}: allow more", *hints)
    raise Fault(
        ENVIRONMENT,
        f"{name} did not start the step: {message or f'status {status}, without a word'}",
        hints,
    )
