"""The ids that a task of the step believes it has.

The kernel knows one id. What a task claims is kept in a table here, and the task carries its row's
number as its timer slack, in nanoseconds above the usual value: that is per thread, inherited by
what it forks and kept over exec, so no fork needs to be seen and no task needs to be followed. A
step that changes its slack only confuses itself: it may claim anyway what it likes.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

KEEP = 0xFFFFFFFF  # -1 as an id: leave it as it is
MAX_ROWS = 4096


Four = tuple[int, int, int, int]


class Claim:
    """Credentials as the kernel would have them; never changed, shared by tasks."""

    __slots__ = ("gid", "groups", "keep", "kept", "uid")

    def __init__(
        self,
        uid: Four,
        gid: Four,
        groups: tuple[int, ...],
        *,
        keep: bool = False,
        kept: bool = False,
    ) -> None:
        """Args:
        uid, gid: real, effective, saved and file system ids.
        groups: supplementary ones, sorted.
        keep: capabilities shall survive when it stops being root (PR_SET_KEEPCAPS).
        kept: they did.
        """
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.keep = keep
        self.kept = kept

    @classmethod
    def of(cls, uid: int, gid: int, groups: Sequence[int]) -> Claim:
        return cls((uid, uid, uid, uid), (gid, gid, gid, gid), tuple(sorted(groups)))

    @property
    def is_root(self) -> bool:
        """Whether it may do what needs CAP_SETUID, CAP_SETGID or CAP_CHOWN."""
        return self.uid[1] == 0 or self.kept

    def in_group(self, gid: int) -> bool:
        return gid == self.gid[3] or gid in self.groups

    def may_give(self, owner: tuple[int, int], uid: int, gid: int) -> bool:
        """Return whether chown(2) lets it give what *owner* has to *uid* and *gid*."""
        if self.is_root or uid == gid == KEEP:
            return True
        if uid not in (KEEP, owner[0]) or self.uid[3] != owner[0]:
            return False
        return gid == KEEP or gid == owner[1] or self.in_group(gid)

    def owner_below(self, mode: int, owner: tuple[int, int]) -> tuple[int, int]:
        """Return the owners of its new files in a directory; set-gid ones pass on their group."""
        return self.uid[3], owner[1] if mode & 0o2000 else self.gid[3]

    def key(self) -> tuple[object, ...]:
        return self.uid, self.gid, self.groups, self.keep, self.kept

    def with_uid(self, uid: Four) -> Claim:
        had = self.kept or 0 in self.uid[:3]
        kept = self.keep and had and 0 not in uid[:3]
        return Claim(uid, self.gid, self.groups, keep=self.keep, kept=kept)

    def with_gid(self, gid: Four) -> Claim:
        return Claim(self.uid, gid, self.groups, keep=self.keep, kept=self.kept)

    def with_groups(self, groups: Sequence[int]) -> Claim:
        return Claim(self.uid, self.gid, tuple(sorted(groups)), keep=self.keep, kept=self.kept)

    def keeping(self, keep: bool) -> Claim:
        return Claim(self.uid, self.gid, self.groups, keep=keep, kept=self.kept)


def set_one(old: Four, new: int, privileged: bool) -> Four:
    """Return the four ids after setuid(2) or setgid(2).

    Raises:
        OSError: EPERM. So do the others.
    """
    _check(new)
    if privileged:
        return (new, new, new, new)
    if new in (old[0], old[2]):
        return (old[0], new, old[2], new)
    raise OSError(errno.EPERM, "")


def set_two(old: Four, real: int, effective: int, privileged: bool) -> Four:
    """Return the four ids after setreuid(2) or setregid(2)."""
    if not privileged:
        if real != KEEP and real not in (old[0], old[1]):
            raise OSError(errno.EPERM, "")
        if effective != KEEP and effective not in old[:3]:
            raise OSError(errno.EPERM, "")
    new_real = old[0] if real == KEEP else real
    new_effective = old[1] if effective == KEEP else effective
    saved = old[2]
    if real != KEEP or (effective != KEEP and effective != old[0]):
        saved = new_effective
    return (new_real, new_effective, saved, new_effective)


def set_three(old: Four, new: Sequence[int], privileged: bool) -> Four:
    """Return the four ids after setresuid(2) or setresgid(2)."""
    if not privileged and any(n != KEEP and n not in old[:3] for n in new):
        raise OSError(errno.EPERM, "")
    real, effective, saved = (
        before if now == KEEP else now for before, now in zip(old[:3], new, strict=True)
    )
    return (real, effective, saved, effective)


def set_fs(old: Four, new: int, privileged: bool) -> Four:
    """Return the four ids after setfsuid(2) or setfsgid(2); they refuse by doing nothing."""
    if new != KEEP and (privileged or new in old):
        return (*old[:3], new)
    return old


def executed(claim: Claim, mode: int, uid: int, gid: int) -> Claim:
    """Return the claim after execve(2) of a file with this mode and owner."""
    new_uid = uid if mode & 0o4000 else claim.uid[1]
    new_gid = gid if mode & 0o2010 == 0o2010 else claim.gid[1]
    return Claim(
        (claim.uid[0], new_uid, new_uid, new_uid),
        (claim.gid[0], new_gid, new_gid, new_gid),
        claim.groups,
    )


def _check(number: int) -> None:
    if number == KEEP:
        raise OSError(errno.EINVAL, "")


class Claims:
    """The table, and what tasks carry of it. The working directory must be the host's /proc."""

    def __init__(self, initial: Claim) -> None:
        self._rows = [initial]
        self._numbers = {initial.key(): 0}
        self._base = _read_slack("self")
        if len(str(self._base)) > 12:
            raise OSError(errno.ERANGE, "timer slack is set to an odd value")
        # Where it does not work, better to know now than when a setuid goes wrong.
        _write_slack("self", self._base)

    def of(self, tid: int) -> Claim:
        if len(self._rows) == 1:
            return self._rows[0]
        try:
            number = _read_slack(str(tid)) - self._base
        except (OSError, ValueError):
            number = 0
        return self._rows[number] if 0 <= number < len(self._rows) else self._rows[0]

    def assign(self, tid: int, claim: Claim) -> None:
        """Let a task be what it claims from now on.

        Raises:
            OSError: EAGAIN, there are too many different claims; ESRCH, the task is gone.
        """
        number = self._numbers.get(claim.key())
        if number is None:
            if len(self._rows) >= MAX_ROWS:
                raise OSError(errno.EAGAIN, "")
            number = len(self._rows)
            self._rows.append(claim)
            self._numbers[claim.key()] = number
        _write_slack(str(tid), self._base + number)


def _read_slack(task: str) -> int:
    fd = os.open(task + "/timerslack_ns", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)


def _write_slack(task: str, value: int) -> None:
    fd = os.open(task + "/timerslack_ns", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % value)
    finally:
        os.close(fd)
