"""Ownership of paths: could another user exchange the files that we use?

Trusted are root, the user who runs us, and who called us through sudo: that one may do what root may.
A directory that another user owns or may write to is doubtful, since the names in it are that user's
to change; under a sticky bit only the names are that the user owns. Lean: the fully cached path asks
here before it believes a store.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK, S_ISREG, S_ISVTX

OTHERS = 0o022
_MOST_LINKS = 40


class Doubt:
    """A reason not to believe a path, or none.

    Attributes:
        text: names the directory and who can change it; empty for none.
        planted: a link of that user was followed, so it was done already.
    """

    __slots__ = ("planted", "text")

    def __init__(self, text: str = "", planted: bool = False) -> None:
        self.text = text
        self.planted = planted

    def __bool__(self) -> bool:
        return bool(self.text)


def doubt(path: str) -> Doubt:
    """Return the first reason why what *path* leads to could be changed by somebody else.

    The last component itself counts only as far as it is a link. What does not exist is no reason.

    Raises:
        OSError: a component cannot be looked at, or is no directory.
    """
    done, reason, links = "/", Doubt(), 0
    waiting = os.path.abspath(path).split("/")[:0:-1]
    above = os.lstat(done)
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)
            above = os.lstat(done)
            continue
        reason = reason or _of_directory(done, above)
        at = os.path.join(done, name)
        try:
            status = os.lstat(at)
        except FileNotFoundError:
            break
        if not S_ISLNK(status.st_mode):
            done, above = at, status
            continue
        if not is_trusted(status.st_uid):
            return Doubt(f"{at} is a link of {owner(status.st_uid)}", planted=True)
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(at)
        if target.startswith("/"):
            done = "/"
            above = os.lstat(done)
        waiting += target.split("/")[::-1]
    return reason


def is_private(root: str) -> bool:
    """Return whether the store at *root* and its memos are ours alone, and nobody else's to exchange."""
    try:
        status, memos = os.stat(root), os.lstat(os.path.join(root, "memo"))
        return (
            status.st_uid == memos.st_uid == os.geteuid()
            and S_ISDIR(memos.st_mode)
            and not status.st_mode & 0o077
            and not refuses(doubt(root))
        )
    except OSError:
        return False


def doubt_of_file(path: str) -> str:
    """Return why somebody else may have written what the file at *path* says; empty for no reason.

    Raises:
        OSError: it cannot be looked at.
    """
    reason = doubt(path)
    if refuses(reason):
        return reason.text
    status = os.stat(path)
    if not S_ISREG(status.st_mode):
        return ""  # a pipe of a shell's
    # Who mounts a file in its place, as for a container, says whose it may be.
    if not is_trusted(status.st_uid) and not os.path.ismount(path):
        return f"{path} belongs to {owner(status.st_uid)}"
    return f"{path} can be changed by others" if _lets_others_write(path, status) else ""


def warning_of_key(path: str) -> str:
    """Return a warning where others can read a secret file; empty where not, or it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if S_ISREG(status.st_mode) and status.st_mode & 0o004:
        return f"everybody on this machine can read the key {path}: chmod o-r {path}"
    return ""


def refuses(reason: Doubt) -> bool:
    """Return whether that is too much: root has most to lose, others may have no better place."""
    return reason.planted or (bool(reason) and os.geteuid() == 0)


def is_trusted(uid: int) -> bool:
    """Return whether the user may change what we use."""
    euid = os.geteuid()
    if uid in (0, euid):
        return True
    return (euid == 0 and str(uid) == os.environ.get("SUDO_UID")) or _is_unmapped(uid)


def owner(uid: int) -> str:
    """Return ``uid 1000 (alice)``."""
    import pwd

    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"


def others_write(status: os.stat_result) -> bool:
    """Return whether untrusted users may change the file or directory."""
    if not status.st_mode & OTHERS:
        return False
    return bool(status.st_mode & 0o002) or not _is_our_group(status.st_gid)


def _of_directory(path: str, status: os.stat_result) -> Doubt:
    if not is_trusted(status.st_uid):
        return Doubt(f"{path} belongs to {owner(status.st_uid)}")
    # Under a sticky bit, who owns what is in it is looked at with that.
    if status.st_mode & S_ISVTX or not _lets_others_write(path, status) or _is_read_only(path):
        return Doubt()
    who = "everybody" if status.st_mode & 0o002 else f"group {status.st_gid}"
    if not others_write(status):
        who = "who is on its access control list"
    return Doubt(f"{path} can be changed by {who}")


def _is_read_only(path: str) -> bool:
    """Return whether nobody can change it: a volume of a cluster's configuration is so mounted."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _is_our_group(gid: int) -> bool:
    """Return whether only trusted users are in the group, as where each user has one of its own."""
    if gid == 0:
        return True
    import grp
    import pwd

    try:
        names = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        names = set[str]()
    users = [user for user in pwd.getpwall() if user.pw_gid == gid or user.pw_name in names]
    return all(is_trusted(user.pw_uid) for user in users)


def _is_unmapped(uid: int) -> bool:
    """Return whether a user namespace shows us *uid* for all users it does not know, root among them."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            if int(file.read()) != uid:
                return False
        with open("/proc/self/uid_map", encoding="ascii") as file:
            ranges = [[int(word) for word in line.split()] for line in file]
    except (OSError, ValueError):
        return False
    # Where it is an id like others, as in containers with many, it is that of services, too, unless
    # the machine's own root directory is what we see.
    is_known = any(first <= uid < first + count for first, _, count in ranges)
    return not is_known or os.stat("/").st_uid == uid


def _lets_others_write(path: str, status: os.stat_result) -> bool:
    """Return whether untrusted users may change what is at *path*, by its mode or a list of users."""
    if others_write(status):
        return True
    # The group's bits are those of all on the list.
    return bool(status.st_mode & 0o020) and _has_list(path)


def _has_list(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False
