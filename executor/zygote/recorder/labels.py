"""Extended attributes: a step must not see or set the notes, and may set everything else.

What is set is set by us, on the object that was found and with the name that was read: to let the
kernel read the name a second time would let another thread slip in one of ours.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote.recorder.peer import AT_FDCWD, Call, magic
from pybuild.image.layer import ownership

_MAX_NAME = 256
_MAX_VALUE = 65536
_LOW = 0xFFFFFFFF
_OURS = ownership.PREFIX.encode()


class XattrCalls:
    """Answers for them."""

    def setxattr(self, call: Call) -> None:
        self._set(call, self._path(call, follow=True))

    def lsetxattr(self, call: Call) -> None:
        self._set(call, self._path(call, follow=False))

    def fsetxattr(self, call: Call) -> None:
        self._set(call, call.own_fd(call.args[0]))

    def removexattr(self, call: Call) -> None:
        self._remove(call, self._path(call, follow=True))

    def lremovexattr(self, call: Call) -> None:
        self._remove(call, self._path(call, follow=False))

    def fremovexattr(self, call: Call) -> None:
        self._remove(call, call.own_fd(call.args[0]))

    def listxattr(self, call: Call) -> None:
        self._list(call, self._path(call, follow=True))

    def llistxattr(self, call: Call) -> None:
        self._list(call, self._path(call, follow=False))

    def flistxattr(self, call: Call) -> None:
        self._list(call, call.own_fd(call.args[0]))

    def _path(self, call: Call, *, follow: bool) -> int:
        return call.find(AT_FDCWD, call.text(call.args[0]), follow=follow)

    def _set(self, call: Call, fd: int) -> None:
        try:
            name = _name(call)
            size = call.args[3]
            if size > _MAX_VALUE:
                raise OSError(errno.E2BIG, "")
            value = call.memory(call.args[2], size) if size else b""
            flags = call.args[4] & _LOW
            call.check()
            os.setxattr(magic(fd), name, value, flags)
        finally:
            os.close(fd)
        call.succeed()

    def _remove(self, call: Call, fd: int) -> None:
        try:
            name = _name(call)
            call.check()
            os.removexattr(magic(fd), name)
        finally:
            os.close(fd)
        call.succeed()

    def _list(self, call: Call, fd: int) -> None:
        try:
            names = os.listxattr(magic(fd))
        finally:
            os.close(fd)
        kept = [name for name in names if not name.startswith(ownership.PREFIX)]
        if len(kept) == len(names):
            call.proceed()
            return
        data = b"".join(os.fsencode(name) + b"\0" for name in kept)
        size = call.args[2]
        if size and size < len(data):
            raise OSError(errno.ERANGE, "")
        if size and data:
            call.store(call.args[1], data)
        call.succeed(len(data))


def _name(call: Call) -> bytes:
    try:
        name = call.text(call.args[1], _MAX_NAME)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(errno.ERANGE, "") from error
        raise
    if name.startswith(_OURS):
        raise OSError(errno.EPERM, "")
    return name
