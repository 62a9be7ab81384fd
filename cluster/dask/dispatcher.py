"""The dispatcher: a coordinator's client of Dask, in a process of its own.

JSON lines. On standard input: ``{"id", "claim": {"run", "epoch", "from"}, "worker"}`` makes a claim that is
pinned to a worker, ``{"id", "release": true}`` gives it up, ``{"id", "place": true}`` asks where it is. On
standard output: ``{"workers": {name: slots taken}}`` when that changes, ``{"lost": why}`` when the scheduler
has gone (all claims are void then), ``{"id", "at": name}`` and ``{"id", "end": {…}}`` or ``{"id", "fault"}``.
It connects again for as long as its parent lives.
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from distributed import Client

from pybuild.cluster.dask import guard
from pybuild.cluster.dask.claims import claim
from pybuild.cluster.dask.options import read_options, security_of
from pybuild.cluster.dask.parent import Parent
from pybuild.cluster.roles import Role

_LOOK_S = 0.25
_AGAIN_S = 0.25
_CONNECT_S = 5.0
_SILENT_S = 10.0
"""A scheduler that says nothing for as long has gone, though its connection be open: its process may be stopped."""
_MOST_END = 4096
_KEPT_S = 60.0
"""As long as the ends of runs that ended well stay with the scheduler."""


class Dispatcher:
    """The claims of one coordinator."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._client: Any = None
        self._books: dict[str, int] = {}
        self._kept: dict[str, Any] = {}
        self._claims: dict[int, tuple[str, asyncio.Task[None]]] = {}

    async def hear(self) -> None:
        """Do what the coordinator says until it has gone."""
        while (message := await self._parent.hear()) is not None:
            number: int = message["id"]
            if "claim" in message:
                key = f"run-{message['claim']['run']}"
                work = self._claim(number, key, message["claim"], message["worker"])
                self._claims[number] = key, asyncio.create_task(work)
            elif number in self._claims:
                key, task = self._claims[number]
                if "release" in message:
                    task.cancel()
                    await asyncio.wait([task])  # who claims it again makes a new one
                else:
                    await self._say_place(number, key)

    async def connect(self, scheduler: str, security: Any) -> None:
        """Keep connected for ever."""
        while True:
            try:
                async with (
                    asyncio.timeout(_SILENT_S) as limit,
                    Client(
                        scheduler,
                        asynchronous=True,
                        security=security,
                        set_as_default=False,
                        timeout=_CONNECT_S,
                    ) as self._client,
                ):
                    await self._watch(self._client, limit)
                reason = "the scheduler has gone"
            except TimeoutError:
                reason = "the scheduler is silent"
            except (OSError, RuntimeError) as error:
                reason = str(error) or type(error).__name__
            self._client = None
            self._kept.clear()
            for _, task in self._claims.values():
                task.cancel()
            self._parent.say(lost=reason)
            await asyncio.sleep(_AGAIN_S)

    async def _watch(self, client: Any, limit: asyncio.Timeout) -> None:
        """Say the names of the agents and their taken slots, until the scheduler has gone or *limit* is over."""
        self._books = {}
        said: Any = None
        now = asyncio.get_running_loop().time
        while client.status == "running" and not client.scheduler_comm.comm.closed():
            self._books = await client.scheduler.claim_books()
            limit.reschedule(now() + _SILENT_S)
            if self._books != said:
                said = self._books
                self._parent.say(workers=said)
            await asyncio.sleep(_LOOK_S)

    async def _claim(self, number: int, key: str, what: dict[str, Any], worker: str) -> None:
        future: Any = None
        try:
            client = self._client
            if client is None:
                self._parent.say(id=number, fault="there is no scheduler")
                return
            while worker not in self._books:  # its agent is coming back
                await asyncio.sleep(_LOOK_S)
            if key in self._kept:
                self._kept.pop(key).release()
            future = client.submit(
                claim,
                json.dumps(what),
                key=key,
                workers=[worker],
                allow_other_workers=False,
                resources={"slots": 1},
                retries=0,
                pure=False,
            )
            text = await future
            if len(text) > _MOST_END:
                raise ValueError("its end is longer than any")
            end = json.loads(text)
            self._parent.say(id=number, end=end)
            if end.get("state") == "ended":  # another coordinator may come late, and learn where
                self._keep(key, future)
                future = None
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the coordinator decides
            self._parent.say(id=number, fault=f"{type(error).__name__}: {error}")
        finally:
            del self._claims[number]
            if future is not None:
                future.release()

    def _keep(self, key: str, future: Any) -> None:
        self._kept[key] = future

        def drop() -> None:
            if self._kept.get(key) is future:
                self._kept.pop(key).release()

        asyncio.get_running_loop().call_later(_KEPT_S, drop)

    async def _say_place(self, number: int, key: str) -> None:
        client, name = self._client, ""
        if client is not None:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_LOOK_S):  # whatever else the coordinator says waits
                    name = await client.scheduler.claim_place(key=key)
        self._parent.say(id=number, at=name)


async def serve(arguments: Sequence[str]) -> None:
    """Dispatch claims until standard input ends."""
    options = read_options("dispatcher", arguments, "scheduler")
    parent = Parent()
    await parent.open()
    guard.watch_pickles(guard.ANSWER_PICKLES)
    dispatcher = Dispatcher(parent)
    security = security_of(options, Role.SCHEDULER)
    connecting = asyncio.create_task(dispatcher.connect(options.scheduler, security))
    await dispatcher.hear()
    connecting.cancel()
    await asyncio.wait([connecting])


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
