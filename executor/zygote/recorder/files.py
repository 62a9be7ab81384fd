"""Owners of files: the calls that give files away, and those that make them."""

from __future__ import annotations

import errno
import os
import stat
import struct

from pybuild.executor.zygote.recorder.calls import CREATES, O_TMPFILE
from pybuild.executor.zygote.recorder.claims import KEEP, Claim, Claims
from pybuild.executor.zygote.recorder.owners import Owners
from pybuild.executor.zygote.recorder.peer import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    Call,
)
from pybuild.image.layer import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOW = 0xFFFFFFFF
_PERMISSIONS = 0o7777
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_HOW = 4096


class FileCalls:
    """Answers for them."""

    def __init__(self, table: Claims, owners: Owners) -> None:
        self._claims = table
        self._owners = owners

    # --- chown ------------------------------------------------------------------------------------

    def chown(self, call: Call) -> None:
        path = call.text(call.args[0])
        self._chown(call, call.find(AT_FDCWD, path, follow=True), *call.args[1:3])

    def lchown(self, call: Call) -> None:
        path = call.text(call.args[0])
        self._chown(call, call.find(AT_FDCWD, path, follow=False), *call.args[1:3])

    def fchown(self, call: Call) -> None:
        self._chown(call, call.own_fd(call.args[0]), *call.args[1:3])

    def fchownat(self, call: Call) -> None:
        flags = call.args[4] & _LOW
        if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
            raise OSError(errno.EINVAL, "")
        empty = bool(flags & AT_EMPTY_PATH)
        path = b"" if empty and not call.args[1] else call.text(call.args[1])
        fd = call.find(call.args[0], path, follow=not flags & AT_SYMLINK_NOFOLLOW, empty=empty)
        self._chown(call, fd, *call.args[2:4])

    def _chown(self, call: Call, fd: int, uid: int, gid: int) -> None:
        """Note the owner of the object behind *fd*, which is closed; -1 keeps what is there."""
        try:
            uid, gid = uid & _LOW, gid & _LOW
            status = os.fstat(fd)
            before = self._owners.of(fd, status)
            claim = self._claims.of(call.tid)
            after = (before[0] if uid == KEEP else uid, before[1] if gid == KEEP else gid)
            if not claim.may_give(before, uid, gid):
                raise OSError(errno.EPERM, "")
            call.check()
            self._owners.give(fd, *after, status)
        finally:
            os.close(fd)
        call.succeed()

    # --- directories, links, devices --------------------------------------------------------------

    def mkdir(self, call: Call) -> None:
        self._mkdir(call, AT_FDCWD, call.args[0], call.args[1])

    def mkdirat(self, call: Call) -> None:
        self._mkdir(call, *call.args[:3])

    def _mkdir(self, call: Call, dir_fd: int, address: int, mode: int) -> None:
        def make(parent: int, name: bytes) -> None:
            os.mkdir(name, mode & 0o1777 & ~call.umask(), dir_fd=parent)

        self._make(call, dir_fd, call.text(address).rstrip(b"/"), make)

    def symlink(self, call: Call) -> None:
        self._symlink(call, call.args[0], AT_FDCWD, call.args[1])

    def symlinkat(self, call: Call) -> None:
        self._symlink(call, *call.args[:3])

    def _symlink(self, call: Call, target: int, dir_fd: int, address: int) -> None:
        def make(parent: int, name: bytes) -> None:
            os.symlink(call.text(target), name, dir_fd=parent)

        self._make(call, dir_fd, call.text(address), make)

    def mknod(self, call: Call) -> None:
        self._mknod(call, AT_FDCWD, *call.args[:3])

    def mknodat(self, call: Call) -> None:
        self._mknod(call, *call.args[:4])

    def _mknod(self, call: Call, dir_fd: int, address: int, mode: int, device: int) -> None:
        """A device becomes an empty file that stands for it in the layer."""
        mode &= 0xFFFF
        device &= _LOW
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        if is_device and not self._claims.of(call.tid).is_root:
            raise OSError(errno.EPERM, "")
        if stat.S_ISCHR(mode) and not device:
            raise OSError(
                errno.EPERM, ""
            )  # It would hide what lies below, and root may not either.

        def make(parent: int, name: bytes) -> None:
            permissions = mode & _PERMISSIONS & ~call.umask()
            if not is_device:
                os.mknod(name, stat.S_IFMT(mode) | permissions, 0, dir_fd=parent)
                return
            ownership.make_node(parent, os.fsdecode(name), stat.S_IFMT(mode) | permissions, device)

        self._make(call, dir_fd, call.text(address), make, always=is_device)

    def _make(
        self,
        call: Call,
        dir_fd: int,
        path: bytes,
        make: Callable[[int, bytes], None],
        *,
        always: bool = False,
    ) -> None:
        """Make something new that belongs to whom the task claims to be; root's the kernel makes."""
        claim = self._claims.of(call.tid)
        try:
            parent, name = call.parent(dir_fd, path)
        except OSError:
            call.proceed()  # The kernel will say what is wrong.
            return
        try:
            owner = self._owner_below(claim, parent)
            if owner == (0, 0) and not always:
                call.proceed()
                return
            call.check()
            make(parent, name)
            if owner != (0, 0):
                self._hand(parent, name, owner)
        finally:
            os.close(parent)
        call.succeed()

    def _hand(self, parent: int, name: bytes, owner: ownership.Ids) -> None:
        fd = os.open(name, _PATH, dir_fd=parent)
        try:
            self._owners.give(fd, *owner, os.fstat(fd))
        finally:
            os.close(fd)

    def _owner_below(self, claim: Claim, parent: int) -> ownership.Ids:
        """Return the owners of *claim*'s new files in the directory *parent*."""
        status = os.fstat(parent)
        return claim.owner_below(status.st_mode, self._owners.of(parent, status))

    # --- files ------------------------------------------------------------------------------------

    def open(self, call: Call) -> None:
        self._open(call, AT_FDCWD, *call.args[:3])

    def creat(self, call: Call) -> None:
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        self._open(call, AT_FDCWD, call.args[0], flags, call.args[1])

    def openat(self, call: Call) -> None:
        self._open(call, *call.args[:4])

    def openat2(self, call: Call) -> None:
        size = call.args[3]
        if not 24 <= size <= _MAX_HOW:
            call.proceed()  # to the kernel's error
            return
        flags, mode, resolve = struct.unpack("=3Q", call.memory(call.args[2], 24))
        if flags & CREATES:
            self._open(call, call.args[0], call.args[1], flags, mode, resolve)
        else:
            call.proceed()

    def _open(
        self, call: Call, dir_fd: int, address: int, flags: int, mode: int, resolve: int = 0
    ) -> None:
        """Open what is to be made, unless the kernel can do it because it will be root's."""
        flags &= _LOW
        claim = self._claims.of(call.tid)
        path = call.text(address)
        if flags & O_TMPFILE == O_TMPFILE:
            parent = call.find(dir_fd, path, follow=True)
            name = b""
        elif self._exists(call, dir_fd, path, flags, resolve):
            call.proceed()
            return
        else:
            try:
                path = self._end_of_links(call, dir_fd, path, flags)
                parent, name = call.parent(dir_fd, path)
            except OSError:
                call.proceed()  # The kernel will say what is wrong.
                return
        try:
            owner = self._owner_below(claim, parent)
            if owner == (0, 0):
                call.proceed()
                return
            permissions = mode & _PERMISSIONS & ~call.umask()
            call.check()
            # Nonblock and noctty matter to what is there already, and this is new.
            extra = 0 if flags & O_TMPFILE == O_TMPFILE else os.O_EXCL
            made = os.open(
                name or b".",
                flags | extra | os.O_CLOEXEC | os.O_NOFOLLOW,
                permissions,
                dir_fd=parent,
            )
            try:
                self._owners.give(made, *owner, os.fstat(made))
                if permissions & (stat.S_ISUID | stat.S_ISGID):
                    os.fchmod(made, permissions)  # chown has taken them
                call.hand_over(made, cloexec=bool(flags & os.O_CLOEXEC))
            finally:
                os.close(made)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            call.proceed()  # Another task was faster.
        finally:
            os.close(parent)

    def _exists(self, call: Call, dir_fd: int, path: bytes, flags: int, resolve: int) -> bool:
        follow = not flags & (os.O_NOFOLLOW | os.O_EXCL)
        try:
            look = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
            os.close(call.open(dir_fd, path, look, resolve=resolve))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:
                return True  # through a magic link: to something that is there
            raise
        return True

    def _end_of_links(self, call: Call, dir_fd: int, path: bytes, flags: int) -> bytes:
        """Return where a dangling link says that the file should be made."""
        for _ in range(40):
            if flags & (os.O_NOFOLLOW | os.O_EXCL):
                return path
            parent, name = call.parent(dir_fd, path)
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError:
                return path
            finally:
                os.close(parent)
            above = path.rstrip(b"/").rpartition(b"/")[0]
            if target.startswith(b"/") or not above and not path.startswith(b"/"):
                path = target
            else:
                path = above + b"/" + target
        raise OSError(errno.ELOOP, "")

    # --- moves ------------------------------------------------------------------------------------

    def rename(self, call: Call) -> None:
        self._bring_up(call, AT_FDCWD, call.args[0])

    link = rename

    def renameat(self, call: Call) -> None:
        self._bring_up(call, call.args[0], call.args[1])

    def renameat2(self, call: Call) -> None:
        # An exchange moves the other one as well.
        self._bring_up(call, *call.args[:4])

    linkat = renameat
    utimensat = renameat

    def _bring_up(self, call: Call, *places: int) -> None:
        """Let it be done; what it copies up keeps its owner.

        Args:
            places: pairs of a directory's descriptor and the address of a path.
        """
        for dir_fd, address in zip(places[::2], places[1::2], strict=True):
            try:
                fd = call.find(dir_fd, call.text(address), follow=False)
            except OSError:
                continue  # The kernel will say what is wrong.
            try:
                call.check()
                self._owners.bring_up(fd)
            except OSError:
                pass
            finally:
                os.close(fd)
        call.proceed()
