"""Users and their passwords, in the file that ``htpasswd -B`` writes.

Only bcrypt is taken, as Debian's docker-registry does: the other formats of that file can be
guessed at billions a second.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from collections.abc import Callable
from time import monotonic

from pybuild.model.errors import UsageError
from pybuild.registry.server.loginqueue import LoginQueue

_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_COSTS = range(4, 16)  # 15 takes two seconds of a processor
_REMEMBERED_S = 300.0
_MOST_REMEMBERED = 1024
_AT_ONCE = 2
# Of no password that anybody has; checked for users that there are not, so that those take as long:
# as the dearest of the file.
_NOBODY = b"CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


class Htpasswd:
    """The users of one file; a changed file counts at once."""

    def __init__(self, path: str, clock: Callable[[], float] = monotonic) -> None:
        """Read the file.

        Raises:
            UsageError: it cannot be read, or holds another kind of hash.
        """
        self._path = path
        self._clock = clock
        self._stamp: object = None
        self._users: dict[str, bytes] = {}
        self._secret = os.urandom(32)
        self._known: dict[bytes, float] = {}
        self._queue = LoginQueue(_AT_ONCE)
        self._refresh()

    async def check(self, user: str, password: str, machine: str = "") -> bool:
        """Return whether *password* is the user's.

        A right one is remembered, as a digest under a secret of this process: bcrypt takes
        longer than all else that a request needs.

        Args:
            machine: of who asks.

        Raises:
            LoginQueueFull: too many wait to be checked.
        """
        self._refresh_if_possible()
        stored = self._users.get(user)
        login = (text.encode("utf-8", "surrogateescape") for text in (user, password))
        key = hmac.digest(self._secret, b"\0".join((stored or b"", *login)), "sha256")
        until = self._known.get(key)
        if until is not None and self._clock() < until:
            return True
        async with self._queue.turn(machine, user):
            compared = stored or b"$2b$%02d$%b" % (self._cost, _NOBODY)
            right = await asyncio.to_thread(_is_right, password, compared) and stored is not None
        if right:
            while len(self._known) >= _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = self._clock() + _REMEMBERED_S
        return right

    def _refresh_if_possible(self) -> None:
        try:
            self._refresh()
        except UsageError:
            pass  # half-written: what was read before counts until it can be read again

    def _refresh(self) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp == self._stamp:
                    return
                text = file.read()
        except OSError as error:
            raise UsageError(f"htpasswd file {self._path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"htpasswd file {self._path}: not UTF-8") from error
        self._users = parse(self._path, text)
        self._cost = max((int(stored[4:6]) for stored in self._users.values()), default=5)
        self._stamp = stamp


def parse(path: str, text: str) -> dict[str, bytes]:
    """Return the hashes by user; *path* is for the error.

    Raises:
        UsageError: a line that is not ``user:hash``, or of another format than bcrypt.
    """
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, colon, stored = line.partition(":")
        if not colon or not user:
            raise UsageError(f"htpasswd file {path}, line {number}: expected user:hash")
        match = _HASH.match(stored)
        if match is None or int(match[1]) not in _COSTS:
            raise UsageError(
                f'htpasswd file {path}, line {number}: the hash of "{user}" is not bcrypt',
                hints=[f"make it with htpasswd -B {path} {user}"],
            )
        users[user] = stored.encode()
    return users


def _is_right(password: str, stored: bytes) -> bool:
    import bcrypt

    # bcrypt takes 72 bytes and says so; what htpasswd made of more was cut there as well.
    given = password.encode("utf-8", "surrogateescape")[:72]
    if b"\0" in given:
        return False
    return bcrypt.checkpw(given, stored)
