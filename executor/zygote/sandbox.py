"""A step's own process, from the clone to the exec [SBX].

It is the first process of new pid, mount, ipc, uts and cgroup namespaces (and a network namespace
when it gets no network), set up in one fixed order: whatever needs the host's view comes before
pivot_root, whatever needs privileges before they are given up.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct

from pybuild.executor.zygote import (
    cgroups,
    confined,
    isolation,
    kernelfs,
    mounts,
    nodes,
    privileges,
    rootfs,
    scope,
    spare,
    stage,
    syscalls,
    ulimits,
    usernet,
    users,
    wire,
    worker,
)
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image import recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _socket import socket as RawSocket
    from typing import Any, NoReturn
else:
    import _signal as signal

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIOCSCTTY = 0x540E  # termios has it, but importing that costs more than this line
OWN_NETWORK = ("none", "isolated")
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # what a shell says, and container engines after it


def namespaces(network: str) -> int:
    """Return the clone flags for a step with this network mode."""
    flags = (
        syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    )
    return flags | (syscalls.CLONE_NEWNET if network in OWN_NETWORK else 0)


def shares_network(spec: dict[str, Any]) -> bool:
    """Whether a step has the network of the builder."""
    return spec["network"] not in OWN_NETWORK


def become_step(
    channel: RawSocket,
    fds: list[int],
    leaf: cgroups.Leaf,
    recorder: RawSocket | None,
    net: usernet.Usernet,
    staged: stage.Stage | None = None,
) -> NoReturn:
    """Become the program of the step that *channel* asks for; *fds* are its stdout and stderr,
    and its stdin if there is a third; *leaf* has its cgroups.

    A fault is said on the channel, or that all is ready; then it closes by itself.

    Args:
        staged: made ahead, by a process that has begun a session already.
    """
    try:
        if staged is None:
            enter_cgroups(leaf)
        spec = wire.receive_one(channel)
        # Asked here because these paths lead nowhere once the root is another.
        lists = (lower + recorded.LIST_SUFFIX for lower in spec["lowers"])
        spec["has_lists"] = recorder is not None and any(map(os.path.exists, lists))
        check(spec)
        net.wait()
        if spec["runtime"]:
            from pybuild.executor.zygote import runtime

            runtime.supervise(channel, fds, spec, leaf)
        uid, gid, groups = _build_root(spec, staged)
        environment = environment_of(spec)
        warnings = [*leaf.warnings, *ulimits.apply(spec["ulimits"])]
        if not leaf.has_pids:
            ulimits.bound_processes(leaf.pids)
        for warning in warnings:
            channel.sendall(wire.frame(("warning", warning)))
        reset_signals()
        take_streams(fds)
        take_terminal()
        insecure = spec["security"] == "insecure"
        if recorder is not None:
            _have_recorded(recorder, spec, (uid, gid, groups), insecure=insecure)
        if spec["network"] == "default":
            scope.leave_abstract_sockets()
        listener = privileges.confine(
            uid, gid, groups, insecure=insecure, shares_network=shares_network(spec)
        )
        # A change of credentials has made the kernel forget it.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
        say_ready(channel, listener)
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        channel.sendall(wire.frame(worker.fault_message(error)))
        os._exit(1)
    execute(list(spec["args"]), environment)


def enter_cgroups(leaf: cgroups.Leaf) -> None:
    leaf.join()
    # Only now, because a cgroup namespace shows as its root where it was made.
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)


def stand_by(made: spare.Spare) -> NoReturn:
    """Do what is the same for each step, then wait for one, and become its program."""
    enter_cgroups(made.leaf)
    begin_session(made.details["hostname"])
    privileges.bound()
    staged = stage.Stage(made.details, made.store_fd)
    try:
        fds = made.receive()
    except EOFError:
        os._exit(0)
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fds.pop(0))
    channel.setblocking(True)
    become_step(channel, fds, made.leaf, None, usernet.Usernet(False), staged)


def _have_recorded(
    recorder: RawSocket, spec: dict[str, Any], ids: tuple[int, int, list[int]], *, insecure: bool
) -> None:
    """Put ids and owners into the recorder's hands; from here on it answers for this process."""
    from pybuild.executor.zygote.recorder import loop

    lowers: list[str] = list(spec["lowers"]) if spec["has_lists"] else []
    uppers: list[str] = [spec["upper"]]
    for mount in spec["mounts"]:
        lowers += mount["lowers"]
        uppers += [mount["upper"]] if mount["upper"] else []
    # No path leads back to the host's files from here, but the descriptors are the recorder's own.
    listener = privileges.listen(
        insecure=insecure, moves=spec["has_lists"], shares_network=shares_network(spec)
    )
    loop.send(recorder, listener, ids=ids, lowers=lowers, uppers=uppers)


def take_streams(fds: list[int], dev: str = "/dev") -> None:
    """Make *fds*, see `become_step`, the standard streams of this process.

    A step may do to what they are whatever it may do to files of its own (``chmod 0 /dev/stdin``), so
    none of them may be a node of the host's /dev.

    Args:
        dev: the step's /dev.
    """
    if len(fds) > 2:
        stdout, stderr, stdin = (nodes.own_stream(fd, dev) for fd in fds)
    else:
        stdout, stderr = fds
        stdin = os.open(dev + "/null", os.O_RDONLY | os.O_CLOEXEC)
    for number, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, number)


def take_terminal() -> None:
    """Make standard input the session's terminal, if it is one; another session's stays its own."""
    try:
        if os.isatty(0):
            fcntl.ioctl(0, _TIOCSCTTY, 0)
    except OSError:
        pass


def check(spec: dict[str, Any]) -> None:
    """Refuse modes that nobody knows.

    Raises:
        Fault: user.
    """
    if spec["network"] not in ("default", "host", *OWN_NETWORK):
        raise Fault(USER, f"invalid network mode: {spec['network']}")
    if spec["security"] not in ("sandbox", "insecure"):
        raise Fault(USER, f'security "{spec["security"]}" is not valid')


def begin_session(hostname: str) -> None:
    os.setsid()
    try:
        syscalls.join_session_keyring("pybuild")
    except OSError:
        pass  # A kernel or an outer sandbox without keyrings has nothing to protect.
    syscalls.sethostname(hostname)


def _build_root(spec: dict[str, Any], staged: stage.Stage | None) -> tuple[int, int, list[int]]:
    if staged is None:
        begin_session(spec["hostname"])
        if spec["network"] in OWN_NETWORK:
            loopback_up()
    if staged is not None and staged.is_away:
        root_fd = staged.mount_root(spec)
    else:
        root_fd = _mount_root(spec, staged)
    uid, gid, groups, home = users.resolve(root_fd, spec["user"])
    spec["home"] = home
    os.fchdir(root_fd)
    os.close(root_fd)
    if staged is not None and staged.is_away:
        os.chroot(".")
    else:
        syscalls.pivot_root(".", ".")
        syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    enter_cwd(spec["cwd"], uid, gid)
    if spec["readonly"]:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, "/", 0)
        syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_RDONLY)
        os.close(tree)
    os.umask(0o022)
    return uid, gid, groups


def _mount_root(spec: dict[str, Any], staged: stage.Stage | None) -> int:
    """Mount the root with all that is in it, and return it."""
    insecure = spec["security"] == "insecure"
    layout = rootfs.Layout(spec["work"], spec["common"])
    if staged is None:
        prepared = mounts.prepare(spec, layout, mounts.Files(layout.root))
    else:
        prepared = staged.files
    targets = [*rootfs.KERNELS]
    targets += [(p.target, p.directory) for p in prepared if not is_kernels(p.target)]
    root_fd = rootfs.mount_root(
        layout, list(spec["lowers"]), spec["upper"], targets, insecure=insecure
    )
    if staged is not None:
        staged.move(root_fd)
    else:
        kernelfs.mount_all(
            root_fd,
            own_network=spec["network"] in OWN_NETWORK,
            insecure=insecure,
            shm_bytes=spec["shm_size_bytes"],
        )
    for mount in prepared:
        mounts.attach(root_fd, mount)
    # What is masked there must be so above the step's own mounts, too.
    if staged is None and not insecure:
        kernelfs.hide(root_fd)
    return root_fd


def is_kernels(target: str) -> bool:
    """Whether a mount point lies inside what `kernelfs` mounts, where it can simply be made."""
    return target.startswith(("/proc/", "/dev/", "/sys/"))


def loopback_up() -> None:
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(probe.fileno(), siocgifflags, request), 16)
        request = struct.pack("16sH22x", b"lo", flags | iff_up)
        fcntl.ioctl(probe.fileno(), siocsifflags, request)
    finally:
        probe.close()


def enter_cwd(cwd: str, uid: int, gid: int) -> None:
    """Change to the working directory, see `make_cwd`."""
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(make_cwd(root_fd, cwd, uid, gid))
    except OSError as error:
        raise _bad_cwd(cwd, error) from error
    finally:
        os.close(root_fd)


def make_cwd(root_fd: int, cwd: str, uid: int, gid: int) -> str:
    """Return the working directory without links; missing ones are made, 0755, the user's [SBX-16].

    Raises:
        Fault: user; it cannot be.
    """
    if not cwd.startswith("/"):
        raise Fault(USER, f'working directory "{cwd}" is not absolute')
    try:
        real, missing = confined.locate(root_fd, cwd)
        if missing and real[0] == "proc":
            # Nothing can be made there; and descriptors come and go while we look.
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for depth in range(len(real) - missing, len(real)):
            above = confined.open_in(root_fd, "/".join(real[:depth]) or ".", links=False)
            try:
                os.mkdir(real[depth], 0o755, dir_fd=above)
            finally:
                os.close(above)
            _give_directory(root_fd, "/".join(real[: depth + 1]), uid, gid)
        os.close(confined.open_in(root_fd, "/".join(real) or ".", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        raise _bad_cwd(cwd, error) from error
    return "/" + "/".join(real)


def _give_directory(root_fd: int, path: str, uid: int, gid: int) -> None:
    made = confined.open_in(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, links=False)
    try:
        os.fchmod(made, 0o755)
        if (uid or gid) and isolation.records():
            recorded.write_owner(made, uid, gid)
        elif uid or gid:
            os.fchown(made, uid, gid)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise isolation.unmapped_id(f"cannot run as {uid}:{gid}") from error
        raise
    finally:
        os.close(made)


def _bad_cwd(cwd: str, error: OSError) -> Fault:
    return Fault(USER, f'working directory "{cwd}": {(error.strerror or "").lower()}')


def environment_of(spec: dict[str, Any]) -> dict[str, str]:
    environment: dict[str, str] = {}
    for entry in spec["env"]:
        name, _, value = entry.partition("=")
        environment[name] = value
    environment.setdefault("PATH", DEFAULT_PATH)
    environment.setdefault("HOME", spec["home"] or "/")
    return environment


def reset_signals() -> None:
    """Undo what Python set for itself: a step that ignored SIGPIPE would never end a pipeline."""
    for number in range(1, 65):
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def say_ready(channel: RawSocket, listener: int) -> None:
    """Say that only the exec is left, which closes what `privileges.confine` returned, and hand that over."""
    message = wire.frame(("ready",))
    if listener < 0:
        channel.sendall(message)
        return
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", listener))
    channel.sendmsg([message], [rights])


def execute(args: list[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process by the program, or end as a shell would and say why on stderr."""
    name = args[0] if args else ""
    if "/" in name:
        candidates = [name]
    else:
        path = environment.get("PATH", "")
        candidates = [d.rstrip("/") + "/" + name for d in path.split(":") if d and name]
    status, text = _NOT_FOUND, "executable file not found in $PATH"
    for candidate in candidates:
        try:
            os.execve(candidate, args, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            if "/" in name:
                text = (error.strerror or "").lower()
        except PermissionError:
            status, text = _NOT_EXECUTABLE, "permission denied"
        except (OSError, ValueError) as error:
            status = _NOT_EXECUTABLE
            text = str(getattr(error, "strerror", None) or error).lower()
            break
    os.write(2, f'exec: "{name}": {text}\n'.encode("utf-8", "surrogateescape"))
    os._exit(status)
