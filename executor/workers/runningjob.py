"""A job of a zygote, as the main process sees it."""

from __future__ import annotations

import asyncio
import socket

from pybuild.executor.steps.spec import StepExit
from pybuild.model.dataclass import dataclass


@dataclass(slots=True)
class RunningJob:
    """A job that the zygote was told to start.

    Attributes:
        unsent: what is left of its request.
        gone: done when its process and namespaces are; fails when the zygote died.
        functions: those whose modules its zygote had imported when it was started.
    """

    id: str
    channel: socket.socket
    unsent: bytes | memoryview
    gone: asyncio.Future[StepExit]
    functions: frozenset[str] = frozenset()

    def send(self) -> None:
        """Send of the request what can be sent without waiting."""
        try:
            self.unsent = memoryview(self.unsent)[self.channel.send(self.unsent) :]
        except OSError:
            pass  # it is full, or nobody is there any more, which is met again
