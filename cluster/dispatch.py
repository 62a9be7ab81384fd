"""A coordinator's claims, made by the dispatcher's process, and the members of the cluster as its scheduler has them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pybuild.cluster import wire
from pybuild.cluster.child import LineChild, engine_command
from pybuild.cluster.claims import ClaimEnd, StepClaim

_COORDINATOR = f"{os.uname().nodename}:{os.getpid()}"


class ClaimLost(Exception):
    """A claim came to nothing: its agent or the scheduler has gone."""


class MadeClaim:
    """A claim that was made.

    Attributes:
        end: its end; raises `ClaimLost`.
    """

    def __init__(self, number: int, say: Callable[..., None]) -> None:
        self._number = number
        self._say = say
        self._places: list[asyncio.Future[str]] = []
        loop = asyncio.get_running_loop()
        self.end: asyncio.Future[ClaimEnd] = loop.create_future()
        self.end.add_done_callback(_look)

    async def place(self) -> str:
        """Return the name of the worker that has it, which may be another coordinator's choice; empty: none."""
        place: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._places.append(place)
        self._say(id=self._number, place=True)
        return await place

    def hear(self, message: dict[str, Any]) -> None:
        """Take what the dispatcher says of it."""
        if "at" in message:
            self._set_places(message["at"])
        elif not self.end.done():
            try:
                text = json.dumps(message["end"]).encode()
                self.end.set_result(wire.read(ClaimEnd, text))
            except (KeyError, wire.Unreadable):
                self.fail(message.get("fault", "its end cannot be read"))
        if self.end.done():
            self._set_places("")

    def fail(self, reason: str) -> None:
        """End it without an end."""
        if not self.end.done():
            self.end.set_exception(ClaimLost(reason))
        self._set_places("")

    def _set_places(self, name: str) -> None:
        for place in self._places:
            if not place.done():
                place.set_result(name)
        self._places.clear()


class Dispatch:
    """The claims of one coordinator.

    Args:
        tls: the words by which the engine's processes get their certificates.

    Attributes:
        ready: is set while there is a scheduler.
        reason: why there was none, the last time.
        tell: is called with the addresses of the workers when those change.
    """

    def __init__(self, scheduler: str, tls: Sequence[str] = ()) -> None:
        self.ready = asyncio.Event()
        self.reason = "it does not answer"
        self.tell: Callable[[Collection[str]], None] = _tell_nobody
        command = engine_command("dispatcher", "--scheduler", scheduler, *tls)
        self._child = LineChild(command, self._hear)
        self._numbers = itertools.count(1)
        self._claims: dict[int, MadeClaim] = {}
        self._known: set[str] = set()
        self.open = self._child.open
        self.close = self._child.close

    def knows(self, worker: str) -> bool:
        """Return whether claims for a worker have an agent, which may be away for the moment."""
        return worker in self._known

    def claim(self, run: str, epoch: int, worker: str) -> MadeClaim:
        """Claim a place on a worker."""
        number = next(self._numbers)
        claim = self._claims[number] = MadeClaim(number, self._child.say)
        if self.ready.is_set():
            what = StepClaim(run=run, epoch=epoch, coordinator=_COORDINATOR)
            self._child.say(id=number, claim=json.loads(wire.write(what)), worker=worker)
        else:
            claim.fail("there is no scheduler")
        claim.end.add_done_callback(lambda _: self._claims.pop(number, None))
        return claim

    def release(self, claim: MadeClaim) -> None:
        """Give a claim up; where others have made it, too, it goes on."""
        for number in [number for number, one in self._claims.items() if one is claim]:
            self._child.say(id=number, release=True)
        claim.fail("it was given up")

    def _hear(self, message: dict[str, Any]) -> None:
        if "workers" in message:
            self.ready.set()
            self._known.update(message["workers"])
            self.tell(message["workers"])
        elif not message or "lost" in message:
            self.ready.clear()
            self.reason = message.get("lost", "the dispatcher has ended")
            for one in list(self._claims.values()):
                one.fail(self.reason)
        elif (claim := self._claims.get(message["id"])) is not None:
            claim.hear(message)


def _tell_nobody(addresses: Collection[str]) -> None:
    del addresses


def _look(end: asyncio.Future[ClaimEnd]) -> None:
    """Have an end that nobody awaits be no fault."""
    if not end.cancelled():
        end.exception()
