"""Lines to the monitors of containers, for an event loop; and those that wait for a container to start."""

from __future__ import annotations

import asyncio
import marshal
import select
import socket
from contextlib import suppress
from typing import Any

from pybuild.containers.lines import MESSAGE_BYTES, LocalLine
from pybuild.containers.order import StreamAttachment

AHEAD_BYTES = 1 << 15
"""The most input that goes ahead of what a process takes."""
_LAST = ("ended", "unexecuted", "fault", "done")


class MonitorLine:
    """Our end of a line to a monitor; close it, and the monitor knows that we have left.

    Attributes:
        ended: the message that said how the process has ended, None until then.
        pid: of what was executed, 0 until it has begun.
        settled: set when it has begun, or it is known that it will not.
    """

    def __init__(self, line: LocalLine) -> None:
        self._own = socket.socket(fileno=line.detach())  # loops take no others
        self._own.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._ahead = 0
        self.ended: tuple[Any, ...] | None = None
        self.pid = 0
        self.settled = asyncio.Event()

    async def hear(self) -> tuple[Any, ...] | None:
        """Return the next message; None: there is nobody any more."""
        while True:
            try:
                data = await self._loop.sock_recv(self._own, MESSAGE_BYTES)
            except OSError:
                data = b""
            if not data:
                self.settled.set()
                return None
            message: tuple[Any, ...] = marshal.loads(data)
            if message[0] == "began":
                self.pid = message[1]
                self.settled.set()
            elif message[0] in _LAST:
                self.ended = message
                self.settled.set()
            if message[0] != "taken":
                return message
            self._ahead = 0
            self._room.set()

    async def say(self, *message: Any) -> None:
        """Say something; a monitor that has gone is noticed by `hear`."""
        with suppress(OSError):
            await self._loop.sock_sendall(self._own, marshal.dumps(message))

    async def type(self, data: bytes) -> None:
        """Hand input on, when what came before it was taken; somebody must `hear` meanwhile."""
        await self._room.wait()
        self._ahead += len(data)
        if self._ahead >= AHEAD_BYTES:
            self._room.clear()
        await self.say("input", data)

    def close(self) -> None:
        self._own.close()


class Waiting:
    """The lines of those who wait for a container to start, by its id."""

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[LocalLine, StreamAttachment]]] = {}

    def wait(self, id: str, attachment: StreamAttachment) -> MonitorLine:
        """Return the end of a line whose other end the monitor gets, with the container's first byte."""
        ours, theirs = LocalLine.pair()
        self._lines.setdefault(id, []).append((theirs, attachment))
        return MonitorLine(ours)

    def take(self, id: str) -> list[tuple[LocalLine, StreamAttachment]]:
        """Return the monitor's ends, for a container that is started now; whoever takes them closes them."""
        return [one for one in self._lines.pop(id, []) if _has_peer(one[0])]

    def leave(self, id: str, line: MonitorLine) -> None:
        """Close our end of a line; the other end goes, too, though the container may never be started."""
        line.close()
        if left := self.take(id):
            self._lines[id] = left

    def has(self, id: str) -> bool:
        """Return whether somebody waits for a container that was not started since."""
        return id in self._lines

    def give_up(self, id: str) -> None:
        """Let everybody go: the container is removed."""
        close_all(self._lines.pop(id, []))


def close_all(lines: list[tuple[LocalLine, StreamAttachment]]) -> None:
    """Close the monitor's ends of lines at our side."""
    for theirs, _ in lines:
        theirs.close()


def _has_peer(theirs: LocalLine) -> bool:
    """Whether somebody still waits at the other end, whatever was typed; the line of one who does not is closed."""
    poller = select.poll()
    poller.register(theirs, 0)
    is_there = not poller.poll(0)
    if not is_there:
        theirs.close()
    return is_there
