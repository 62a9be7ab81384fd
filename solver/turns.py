"""Handles events one after another, so much a turn of the event loop that nobody else waits long.

A definition may have tens of thousands of vertices, and a loop may serve many clients.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from pybuild.solver.messages import Event

PIECES_A_TURN = 500
"""Some 10 ms."""


class Turns:
    """The events of one solver. What few events bring about is done at once.

    Args:
        handle: brings about what follows from an event, piece by piece.
        broken: called with what *handle* raised; the rest of that event is given up.
    """

    def __init__(
        self, handle: Callable[[Event], Iterator[None]], broken: Callable[[Exception], None]
    ) -> None:
        self._handle = handle
        self._broken = broken
        self._events: deque[Event] = deque()
        self._pieces: Iterator[None] = iter(())
        self._is_going_on = False

    def feed(self, event: Event) -> None:
        """Handle *event* when those before it have been."""
        self._events.append(event)
        if not self._is_going_on:
            self._is_going_on = True
            self._go_on()

    async def all_handled(self) -> None:
        """Return once no event waits to be handled."""
        while self._is_going_on:
            await asyncio.sleep(0)

    def _go_on(self) -> None:
        for _ in range(PIECES_A_TURN):
            try:
                if not self._do_piece():
                    self._is_going_on = False
                    return
            except Exception as error:  # noqa: BLE001  a bug of ours
                self._pieces = iter(())
                self._broken(error)
        asyncio.get_running_loop().call_soon(self._go_on)

    def _do_piece(self) -> bool:
        """Do a piece; False where there is none."""
        for _ in self._pieces:
            return True
        if self._events:
            self._pieces = self._handle(self._events.popleft())
            return True
        return False
