"""The kernel's permissions for this user, tried out in processes that end at once.

Run in an interpreter of its own: ``python -I -S -c … DIR`` prints one JSON object, from each name
in `TRIES` to "" or to what went wrong. DIR is a directory that the tries may mount on and write to.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote import overlay, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main(directory: str) -> None:
    """Print what `TRIES` give; each in a child, because what they enter is not left again."""
    import json

    print(json.dumps({name: _in_child(name, do, directory) for name, do in TRIES.items()}))


def _in_child(name: str, do: Callable[[str], None], directory: str) -> str:
    place = f"{directory}/{name.replace(' ', '-')}"
    os.mkdir(place)
    os.chmod(place, 0o777)
    return outcome(do, place)


def outcome(do: Callable[[str], None], place: str) -> str:
    """Return the error of a child that does something, or ""."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        problem = ""
        try:
            do(place)
        except OSError as error:
            problem = (error.strerror or str(error)) + (
                f" ({error.filename})" * bool(error.filename)
            )
        except BaseException as error:  # noqa: BLE001 - it is told
            problem = f"{type(error).__name__}: {error}"
        os.write(write_end, problem.encode()[:4000])
        os._exit(0)
    os.close(write_end)
    answer = b""
    while piece := os.read(read_end, 4096):
        answer += piece
    os.close(read_end)
    status = os.waitpid(pid, 0)[1]
    return answer.decode("utf-8", "replace") or (f"ended with status {status}" if status else "")


def _mount_namespace(_place: str) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)


def user_namespace(_place: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"0 {uid} 1"),
        ("/proc/self/gid_map", f"0 {gid} 1"),
    ):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    # A security module may grant the namespace and take away what it is for.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def _overlay(place: str) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    overlay_on(place, userxattr=False)


def _overlay_in_user_namespace(place: str) -> None:
    user_namespace(place)
    overlay_on(place, userxattr=True)


def overlay_on(place: str, *, userxattr: bool) -> None:
    """Mount one at *place*, write to it, and unmount it."""
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(f"{place}/{name}")
    with open(f"{place}/lower/f", "w", encoding="ascii") as file:
        file.write("x")
    overlay.mount_overlay(
        f"{place}/root", [f"{place}/lower"], f"{place}/upper", f"{place}/work", userxattr=userxattr
    )
    try:
        os.remove(f"{place}/root/f")
        os.mkdir(f"{place}/root/d")
    finally:
        syscalls.umount2(f"{place}/root")
        for inside in ("work", "work/incompat", "work/incompat/volatile"):
            if os.path.isdir(f"{place}/work/{inside}"):  # so that whoever is outside can delete it
                os.chmod(f"{place}/work/{inside}", 0o700)


def _proc(place: str) -> None:
    if os.geteuid() != 0:
        user_namespace(place)
    own_proc(place)


def own_proc(place: str) -> None:
    """Mount the /proc of a new pid namespace."""
    syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS)
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("proc", place, "proc", 0)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def _network_namespace(place: str) -> None:
    if os.geteuid() != 0:
        user_namespace(place)
    syscalls.unshare(syscalls.CLONE_NEWNET)


def _tun(_place: str) -> None:
    os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))


TRIES: dict[str, Callable[[str], None]] = {
    "mount namespace": _mount_namespace,
    "user namespace": user_namespace,
    "overlay": _overlay,
    "overlay in user namespace": _overlay_in_user_namespace,
    "proc": _proc,
    "network namespace": _network_namespace,
    "tun": _tun,
}
