"""The rung of isolation that this machine allows, found out by climbing it once per zygote.

    root           real root: a private mount namespace is all that is needed
    userns         a user namespace with the range of sub-ids that the system granted, or that we were
                   started in
    userns-single  a user namespace that has one id: files can belong to nobody else, so owners are
                   recorded (`recorder`)
    chroot         root in a container that may neither mount nor make namespaces: snapshots are
                   copied, and a step's root is changed by chroot(2) (`chroot`)

The zygote enters its rung before it serves anybody; every child finds it here.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import procstatus, syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False  # typing takes 16 ms to import, and checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = "root"
USERNS = "userns"
USERNS_SINGLE = "userns-single"
CHROOT = "chroot"

_rung = ""

# What chroot needs: to make files that belong to anybody, and to become anybody.
CHROOT_CAPS = {
    0: "CHOWN",
    1: "DAC_OVERRIDE",
    3: "FOWNER",
    6: "SETGID",
    7: "SETUID",
    18: "SYS_CHROOT",
}
_HELPER_SECONDS = 10

_CONTAINER_HINT = (
    "in a container: start it with --privileged, or with --cap-add SYS_ADMIN and "
    "--security-opt seccomp=unconfined"
)
_USERNS_HINT = (
    "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, or "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container: "
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)


SUB_ID_HINTS = (
    "install newuidmap and newgidmap (package uidmap) and give the user a range in "
    + "/etc/subuid and /etc/subgid",
    "or run as root",
)


def rung() -> str:
    """Return the rung of this process, which must be a zygote or its child."""
    if not _rung:
        raise RuntimeError("not inside a zygote")
    return _rung


def in_zygote() -> bool:
    """Whether this process is a zygote or its child, and so has a rung."""
    return bool(_rung)


def mounts() -> bool:
    """Whether this rung has a mount namespace of its own, and what goes with it."""
    return rung() != CHROOT


def uses_userxattr() -> bool:
    """Whether overlay keeps its marks in ``user.overlay.*``, as it must without CAP_SYS_ADMIN."""
    return rung() != ROOT


def records() -> bool:
    """Whether owners are noted beside the files, because the file system cannot be told."""
    return rung() == USERNS_SINGLE


def unmapped_id(doing: str) -> Fault:
    """Return the fault for an owner that the build's user namespace does not have (EINVAL)."""
    if rung() == USERNS_SINGLE:
        return Fault(
            ENVIRONMENT,
            f"{doing}: this rootless build has only one user id",
            SUB_ID_HINTS,
        )
    return Fault(
        ENVIRONMENT,
        f"{doing}: the id is outside the range that /etc/subuid and /etc/subgid grant",
        ("grant a larger range there",),
    )


def enter(rootless: bool | None, beside: int = 0) -> tuple[str, str]:
    """Enter the best rung, with a private mount namespace; return its name and why not a better.

    Args:
        rootless: True asks for a user namespace even as root; False forbids it; None decides.
        beside: a process whose user namespace is entered, where one is needed and it lives.

    Raises:
        Fault: environment; with what the user can do about it.
    """
    global _rung
    may_administer = procstatus.may_administer()
    is_root = may_administer and procstatus.is_initial()
    is_nested = may_administer and not is_root
    if rootless is False and not is_root:
        raise Fault(
            ENVIRONMENT,
            "building without a user namespace needs root with CAP_SYS_ADMIN",
            ("run as root", "or allow rootless builds"),
        )
    detail = ""
    if is_root and not rootless:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            _keep_mounts_private()
            _rung = ROOT
        except OSError as error:
            problem = f"cannot make a mount namespace: {error.strerror}"
            hint = _CONTAINER_HINT
            if error.errno == errno.EINVAL:
                problem = "the root directory is a chroot and no mount point"
                hint = "enter it after: mount --bind DIR DIR"
            if rootless is False or not _may_chroot():
                raise Fault(ENVIRONMENT, problem, (hint,)) from error
            _rung, detail = CHROOT, problem
    elif is_nested and _has_range() and not _try_own_proc():
        # As good as one that we would make, which could hold no more ids than this one.
        syscalls.unshare(syscalls.CLONE_NEWNS)
        _keep_mounts_private()
        _rung, detail = USERNS, "the one that pybuild was started in"
    elif rootless is None and _may_chroot() and (problem := _try_user_namespace()):
        _rung, detail = CHROOT, problem
    else:
        _rung, detail = _join_user_namespace(beside) or _enter_user_namespace()
        _keep_mounts_private()
    if not mounts():
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    return _rung, detail


def _keep_mounts_private() -> None:
    """Let nothing that is mounted from here on be seen outside; EINVAL in a plain chroot."""
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def ids_here() -> int:
    """Return how many users the user namespace of this process has, or groups if those are fewer."""
    counts: list[int] = []
    for path in ("/proc/self/uid_map", "/proc/self/gid_map"):
        with open(path, "rb") as lines:
            counts.append(sum(int(line.split()[2]) for line in lines))
    return min(counts)


def _has_range() -> bool:
    with open("/proc/self/setgroups", "rb") as setgroups:
        return setgroups.read().strip() == b"allow" and ids_here() > 1


def _may_chroot() -> bool:
    held = procstatus.number("CapEff")
    return os.geteuid() == 0 and all(held >> number & 1 for number in CHROOT_CAPS)


def _other_way() -> str:
    """Return the hint for who may have no user namespace: what another rung needs."""
    if os.geteuid():
        return "or run as root"
    held = procstatus.number("CapEff")
    missing = [name for number, name in CHROOT_CAPS.items() if not held >> number & 1]
    return f"or let the container keep the capabilities {', '.join(missing)}"


def _try_own_proc() -> str:
    """Return why steps cannot have a /proc in the user namespace that we are in, "" if they can."""
    from pybuild.executor.zygote import tries

    def enter(place: str) -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        _keep_mounts_private()
        tries.own_proc(place)

    return tries.outcome(enter, "/proc")


def _try_user_namespace() -> str:
    """Return why steps cannot have a user namespace, "" if they can.

    In a child, because one that is entered and of no use cannot be left again: a security module may
    grant the namespace and refuse its mounts, and a container's own /proc may forbid another.
    """
    from pybuild.executor.zygote import tries

    def enter(place: str) -> None:
        tries.user_namespace(place)
        tries.own_proc(place)

    problem = tries.outcome(enter, "/proc")
    return f"no user namespace with a /proc of its own: {problem.lower()}" if problem else ""


# --- user namespaces ------------------------------------------------------------------------------


def _join_user_namespace(pid: int) -> tuple[str, str] | None:
    """Enter the user namespace of a process that we started before; None: it is gone, or somebody else's."""
    if not pid:
        return None
    try:
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
        finally:
            os.close(namespace)
        syscalls.unshare(syscalls.CLONE_NEWNS)
    except OSError:
        return None
    if ids_here() == 1:
        return USERNS_SINGLE, "that of the containers which run"
    _become_root()
    return USERNS, ""


def _enter_user_namespace() -> tuple[str, str]:
    uid, gid = os.geteuid(), os.getegid()
    detail = ""
    if uid == 0 and _may_map_anything():
        # As root every id may be mapped to itself; file owners are the same in and outside.
        helper = _start_map_helper(_map_all)
        _unshare_user()
        problem = helper()
        if problem:
            raise Fault(ENVIRONMENT, f"cannot map the ids of the user namespace: {problem}")
        return USERNS, "asked for by root"
    plan, detail = _sub_id_plan(uid, gid)
    if plan is not None:
        commands = plan
        helper = _start_map_helper(lambda pid: _run_map_tools(pid, commands))
        _unshare_user()
        problem = helper()
        if not problem:
            _become_root()
            return USERNS, ""
        # The namespace is entered and has no map yet, so one id can still be mapped by ourselves.
        detail = problem
    else:
        _unshare_user()
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")
    return USERNS_SINGLE, detail


def _may_map_anything() -> bool:
    """Whether this (initial or nested) namespace holds all ids, so that identity maps work."""
    with open("/proc/self/uid_map", "rb") as uid_map:
        return uid_map.read().split() == [b"0", b"0", b"4294967295"]


def _unshare_user() -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    except OSError as error:
        hints: tuple[str, ...]
        if error.errno in (errno.ENOSPC, errno.EUSERS):
            hints = (
                "raise user.max_user_namespaces (sysctl), it is used up or 0",
                "or run as root",
            )
        elif error.errno == errno.EPERM:
            hints = (
                _USERNS_HINT,
                _other_way(),
            )
        else:
            hints = ("run as root",)
        raise Fault(
            ENVIRONMENT, f"cannot make a user namespace: {error.strerror}", hints
        ) from error


def _become_root() -> None:
    """Take ids 0 of the new namespace: until now we are the mapped caller already, with all caps."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Fault(
            ENVIRONMENT,
            f"cannot set up the user namespace: {path}: {error.strerror}",
            ("run as root",),
        ) from error


def _sub_id_plan(uid: int, gid: int) -> tuple[list[list[str]] | None, str]:
    """Return the newuidmap and newgidmap command lines but for the pid, or why there are none."""
    tools = [_find("newuidmap"), _find("newgidmap")]
    if not all(tools):
        return None, "newuidmap and newgidmap are not installed (package uidmap)"
    names = {str(uid)} | _login_names(uid)
    plan: list[list[str]] = []
    for tool, own, file in zip(tools, (uid, gid), ("/etc/subuid", "/etc/subgid"), strict=True):
        ranges = _sub_ids(file, names)
        if not ranges:
            return None, f"{file} grants uid {uid} no range"
        command = [tool, "", "0", str(own), "1"]
        inside = 1
        for start, count in ranges:
            command += [str(inside), str(start), str(count)]
            inside += count
        plan.append(command)
    return plan, ""


def _find(tool: str) -> str:
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/bin"):
        path = directory + "/" + tool
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


def _login_names(uid: int) -> set[str]:
    try:
        import pwd

        return {pwd.getpwuid(uid).pw_name}
    except (ImportError, KeyError):
        return set()


def _sub_ids(file: str, names: set[str]) -> list[tuple[int, int]]:
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            fields = [line.strip().split(":") for line in lines]
    except OSError:
        return []
    return [
        (int(f[1]), int(f[2]))
        for f in fields
        if len(f) == 3 and f[0] in names and f[1].isdigit() and f[2].isdigit() and int(f[2]) > 0
    ]


def _map_all(pid: int) -> int:
    for name in ("uid_map", "gid_map"):
        _write(f"/proc/{pid}/{name}", "0 0 4294967295")
    return 0


def _run_map_tools(pid: int, commands: list[list[str]]) -> int:
    for command in commands:
        command[1] = str(pid)
        child = os.posix_spawn(command[0], command, os.environ)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            return status
    return 0


def _start_map_helper(map_ids: Callable[[int], int]) -> Callable[[], str]:
    """Fork a child that stays in the old user namespace; return what makes it map our ids.

    Only a process outside the new namespace may write a map of several ids, and only of a process
    that is inside already. The returned function returns what went wrong, or "".
    """
    target = os.getpid()
    go_read, go_write = os.pipe()
    say_read, say_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.close(go_write)
            os.dup2(say_write, 2)
            os.read(go_read, 1)
            status = map_ids(target)
        except (OSError, Fault) as error:
            os.write(2, str(error).encode())
        finally:
            os._exit(1 if status else 0)
    os.close(go_read)
    os.close(say_write)

    def run() -> str:
        import select

        os.write(go_write, b"x")
        os.close(go_write)
        output = b""
        poller = select.poll()
        poller.register(say_read, select.POLLIN)
        while poller.poll(_HELPER_SECONDS * 1000):
            piece = os.read(say_read, 4096)
            if not piece:
                break
            output += piece
        else:
            os.kill(helper, 9)
        os.close(say_read)
        status = os.waitpid(helper, 0)[1]
        if status == 0:
            return ""
        return output.decode("utf-8", "replace").strip() or "newuidmap failed"

    return run
