"""Whose password is checked next: who guesses many of them keeps nobody else waiting.

A check takes up to two seconds of a processor. Machines take turns, and of each machine, which may
be a proxy with everybody behind it, the groups that its users are dealt into. The groups are drawn
for all names alike, so that nobody learns by waiting which users there are.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

_GROUPS = 64
_MOST_OF_MACHINE = 32
_MOST = 1024

Groups = dict[int, deque[asyncio.Future[None]]]


class LoginQueueFull(Exception):
    """So many passwords wait to be checked already; later there may be room."""


class LoginQueue:
    """The queue for *at_once* checks."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._secret = os.urandom(16)
        self._machines: dict[str, Groups] = {}

    @asynccontextmanager
    async def turn(self, machine: str, user: str) -> AsyncGenerator[None]:
        """Wait for a turn, and have it while the context is open.

        Raises:
            LoginQueueFull: there are too many before it.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(machine, user)
        try:
            yield
        finally:
            self._next()

    async def _wait(self, machine: str, user: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        name = user.encode("utf-8", "surrogateescape")
        group = hmac.digest(self._secret, name, "sha256")[0] % _GROUPS
        self._make_room(machine, group)
        self._machines.setdefault(machine, {}).setdefault(group, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._next()
            raise

    def _make_room(self, machine: str, group: int) -> None:
        """Let the last of the longest queue go where all are too long, if that is not where we join."""
        counts = {name: sum(map(len, groups.values())) for name, groups in self._machines.items()}
        longest = machine
        if counts.get(machine, 0) < _MOST_OF_MACHINE:
            if sum(counts.values()) < _MOST:
                return
            longest = max(counts, key=lambda name: counts[name])
            if counts[longest] <= counts.get(machine, 0) + 1:
                raise LoginQueueFull
        groups = self._machines[longest]
        fullest = max(groups, key=lambda number: len(groups[number]))
        if longest == machine and len(groups[fullest]) <= len(groups.get(group, ())):
            raise LoginQueueFull
        last = groups[fullest].pop()
        if not last.done():
            last.set_exception(LoginQueueFull())
        self._tidy(longest, fullest)

    def _next(self) -> None:
        """Give the turn on: to the next machine, of that to the next group, of that to who waits longest."""
        while self._machines:
            machine = next(iter(self._machines))
            groups = self._machines.pop(machine)
            group = next(iter(groups))
            waiting = groups.pop(group)
            turn = waiting.popleft()
            if waiting:
                groups[group] = waiting  # behind the others
            if groups:
                self._machines[machine] = groups
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _tidy(self, machine: str, group: int) -> None:
        groups = self._machines[machine]
        if not groups[group]:
            del groups[group]
        if not groups:
            del self._machines[machine]
