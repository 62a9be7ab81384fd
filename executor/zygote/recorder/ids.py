"""The calls that read and set the ids of a task."""

from __future__ import annotations

import errno
import os
import stat
import struct

from pybuild.executor.zygote.recorder import calls, claims
from pybuild.executor.zygote.recorder.claims import Claim, Claims
from pybuild.executor.zygote.recorder.owners import Owners
from pybuild.executor.zygote.recorder.peer import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    Call,
)

_MAX_GROUPS = 65536
_LOW = 0xFFFFFFFF


class IdCalls:
    """Answers for them."""

    def __init__(self, table: Claims, owners: Owners) -> None:
        self._claims = table
        self._owners = owners

    # --- reading ----------------------------------------------------------------------------------

    def getuid(self, call: Call) -> None:
        call.succeed(self._claims.of(call.tid).uid[0])

    def geteuid(self, call: Call) -> None:
        call.succeed(self._claims.of(call.tid).uid[1])

    def getgid(self, call: Call) -> None:
        call.succeed(self._claims.of(call.tid).gid[0])

    def getegid(self, call: Call) -> None:
        call.succeed(self._claims.of(call.tid).gid[1])

    def getresuid(self, call: Call) -> None:
        self._three(call, self._claims.of(call.tid).uid)

    def getresgid(self, call: Call) -> None:
        self._three(call, self._claims.of(call.tid).gid)

    def _three(self, call: Call, ids: claims.Four) -> None:
        for address, number in zip(call.args[:3], ids, strict=False):
            call.store(address, struct.pack("=I", number))
        call.succeed()

    def getgroups(self, call: Call) -> None:
        groups = self._claims.of(call.tid).groups
        size = call.args[0] & _LOW
        if size & 0x80000000 or 0 < size < len(groups):
            raise OSError(errno.EINVAL, "")
        if size and groups:
            call.store(call.args[1], struct.pack(f"={len(groups)}I", *groups))
        call.succeed(len(groups))

    # --- setting ----------------------------------------------------------------------------------

    def _become(self, call: Call, claim: Claim) -> None:
        call.check()
        self._claims.assign(call.tid, claim)
        call.succeed()

    def setuid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        uid = claims.set_one(claim.uid, call.args[0] & _LOW, claim.is_root)
        self._become(call, claim.with_uid(uid))

    def setgid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        gid = claims.set_one(claim.gid, call.args[0] & _LOW, claim.is_root)
        self._become(call, claim.with_gid(gid))

    def setreuid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        real, effective = (n & _LOW for n in call.args[:2])
        uid = claims.set_two(claim.uid, real, effective, claim.is_root)
        self._become(call, claim.with_uid(uid))

    def setregid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        real, effective = (n & _LOW for n in call.args[:2])
        gid = claims.set_two(claim.gid, real, effective, claim.is_root)
        self._become(call, claim.with_gid(gid))

    def setresuid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        uid = claims.set_three(claim.uid, [n & _LOW for n in call.args[:3]], claim.is_root)
        self._become(call, claim.with_uid(uid))

    def setresgid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        gid = claims.set_three(claim.gid, [n & _LOW for n in call.args[:3]], claim.is_root)
        self._become(call, claim.with_gid(gid))

    def setfsuid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        uid = claims.set_fs(claim.uid, call.args[0] & _LOW, claim.is_root)
        call.check()
        self._claims.assign(call.tid, claim.with_uid(uid))
        call.succeed(claim.uid[3])

    def setfsgid(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        gid = claims.set_fs(claim.gid, call.args[0] & _LOW, claim.is_root)
        call.check()
        self._claims.assign(call.tid, claim.with_gid(gid))
        call.succeed(claim.gid[3])

    def setgroups(self, call: Call) -> None:
        claim = self._claims.of(call.tid)
        if not claim.is_root:
            raise OSError(errno.EPERM, "")
        size = call.args[0] & _LOW
        if size > _MAX_GROUPS:
            raise OSError(errno.EINVAL, "")
        data = call.memory(call.args[1], 4 * size) if size else b""
        self._become(call, claim.with_groups(struct.unpack(f"={size}I", data)))

    def prctl(self, call: Call) -> None:
        """See PR_SET_KEEPCAPS and its like, which the kernel does as well."""
        option, value = (n & _LOW for n in call.args[:2])
        keep = bool(value if option == calls.PR_SET_KEEPCAPS else value & calls.KEEPING_BITS)
        claim = self._claims.of(call.tid)
        if keep != claim.keep:
            call.check()
            self._claims.assign(call.tid, claim.keeping(keep))
        call.proceed()

    # --- programs ---------------------------------------------------------------------------------

    def execve(self, call: Call) -> None:
        self._execute(call, AT_FDCWD, call.text(call.args[0]), 0)

    def execveat(self, call: Call) -> None:
        self._execute(call, call.args[0], call.text(call.args[1]), call.args[4])

    def _execute(self, call: Call, dir_fd: int, path: bytes, flags: int) -> None:
        """Let it be executed; set-id bits work on the claim, by the owner that is noted."""
        try:
            fd = call.find(
                dir_fd,
                path,
                follow=not flags & AT_SYMLINK_NOFOLLOW,
                empty=bool(flags & AT_EMPTY_PATH),
            )
        except OSError:
            call.proceed()  # The kernel will say what is wrong, or knows a link that we do not.
            return
        try:
            status = os.fstat(fd)
            claim = self._claims.of(call.tid)
            mode = status.st_mode if stat.S_ISREG(status.st_mode) else 0
            uid = gid = 0
            if mode & 0o6000:
                uid, gid = self._owners.of(fd, status)
            after = claims.executed(claim, mode, uid, gid)
            if after.key() != claim.key() and mode & 0o111:
                call.check()
                self._claims.assign(call.tid, after)
        finally:
            os.close(fd)
        call.proceed()
