"""Pieces of a step's own process that its kinds share: network, streams, directory, environment, exec."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct

from pybuild.executor.steps.spec import NEW_NETWORK, OWN_NETWORK
from pybuild.executor.zygote import confined, isolation, nodes, syscalls, wire
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _socket import socket as RawSocket
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepSpec
    from pybuild.executor.zygote.users import StepUser
else:
    import _signal as signal

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIOCSCTTY = 0x540E  # termios has it, but importing that costs more than this line
_MACHINES = {  # as ELF numbers them
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # what a shell says, and container engines after it


def namespaces(network: str, shared: int = 0) -> int:
    """Return the clone flags for a step with this network mode; *shared* are those of it that it goes without."""
    flags = (
        syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    )
    return (flags | (syscalls.CLONE_NEWNET if network in NEW_NETWORK else 0)) & ~shared


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


def check(spec: StepSpec) -> None:
    """Refuse modes that nobody knows.

    Raises:
        Fault: user.
    """
    if spec.network not in ("default", "host", *OWN_NETWORK):
        raise Fault(USER, f"invalid network mode: {spec.network}")
    if spec.security not in ("sandbox", "insecure"):
        raise Fault(USER, f'security "{spec.security}" is not valid')


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


def free_ports() -> None:
    """Let any user of the network listen on low ports and send pings, as a container's may [CTR-14]."""
    for name, text in (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")):
        try:
            with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError:
            pass  # Not ours to write, or ids that this user namespace does not have.


def go_to(cwd: str) -> None:
    """Change to a working directory that is there.

    Raises:
        Fault: user; it is not.
    """
    _check_absolute(cwd)
    try:
        os.chdir(cwd)
    except OSError as error:
        raise _bad_cwd(cwd, error) from error


def _check_absolute(cwd: str) -> None:
    if not cwd.startswith("/"):
        raise Fault(USER, f'working directory "{cwd}" is not absolute')


def enter_cwd(cwd: str, user: StepUser) -> None:
    """Change to the working directory, see `make_cwd`."""
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(make_cwd(root_fd, cwd, user))
    except OSError as error:
        raise _bad_cwd(cwd, error) from error
    finally:
        os.close(root_fd)


def make_cwd(root_fd: int, cwd: str, user: StepUser) -> str:
    """Return the working directory without links; missing ones are made, 0755, the user's [SBX-16].

    Raises:
        Fault: user; it cannot be.
    """
    _check_absolute(cwd)
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
            _give_directory(root_fd, "/".join(real[: depth + 1]), user)
        os.close(confined.open_in(root_fd, "/".join(real) or ".", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        raise _bad_cwd(cwd, error) from error
    return "/" + "/".join(real)


def _give_directory(root_fd: int, path: str, user: StepUser) -> None:
    uid, gid = user.uid, user.gid
    made = confined.open_in(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, links=False)
    try:
        os.fchmod(made, 0o755)
        if (uid or gid) and isolation.records():
            ownership.write_owner(made, uid, gid)
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


def environment_of(spec: StepSpec, home: str) -> dict[str, str]:
    environment: dict[str, str] = {}
    for entry in spec.env:
        name, _, value = entry.partition("=")
        environment[name] = value
    environment.setdefault("PATH", DEFAULT_PATH)
    environment["HOME"] = environment.get("HOME") or home or "/"
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


def say_ready(channel: RawSocket, listener: int, trees: list[int], terminal: int = -1) -> None:
    """Say that only the exec is left, which closes our descriptors; hand over those there are.

    Args:
        listener: what `privileges.confine` returned; *trees*: those that are to be sealed.
        terminal: the other end of the program's terminal, if it has one of its own.
    """
    handed = [("listener", listener)] if listener >= 0 else []
    handed += [("terminal", terminal)] if terminal >= 0 else []
    handed += [("tree", fd) for fd in trees]
    message = wire.frame(("ready", *(name for name, _ in handed)))
    if not handed:
        channel.sendall(message)
        return
    packed = struct.pack(f"={len(handed)}i", *(fd for _, fd in handed))
    channel.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])


def _misfit(path: str) -> str:
    """Return why the kernel knows no way to run the file, as far as its first bytes say; "" otherwise."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return ""
    if not head:
        return ": the file is empty"
    if head.startswith(b"\x7fELF"):
        is_big = head[5:6] == b"\x02"
        number = int.from_bytes(head[18:20], "big" if is_big else "little")
        machine = _MACHINES.get(number, f"machine {number}")
        return f": a program for {machine}, and this is {os.uname().machine}"
    return "" if head.startswith(b"#!") else ": no program, and no script with a first line #!"


def execute(
    args: tuple[str, ...], environment: dict[str, str], channel: RawSocket | None = None
) -> NoReturn:
    """Replace this process by the program, or end as a shell would and say why.

    Args:
        channel: hears it; where there is none, standard error.
    """
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
            if getattr(error, "errno", 0) == errno.ENOEXEC:
                text += _misfit(candidate)
            break
    if channel is not None:
        channel.sendall(wire.frame(("unexecuted", status, f'exec: "{name}": {text}')))
    else:
        os.write(2, f'exec: "{name}": {text}\n'.encode("utf-8", "surrogateescape"))
    os._exit(status)
