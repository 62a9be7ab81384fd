"""Bodies of Docker's API that stop in the middle: given up when nothing comes, and not while some comes [ENG-20]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from pybuild.daemon.rest.bodies import LentBodies, pieces
from pybuild.daemon.rest.refusal import ApiRefusal
from tests.daemon.test_rest_heads import replies

_SILENCE_S = 10.0


class _HandLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is turned by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def turn(self, by_s: float) -> None:
        """Let everybody wait, then time go by."""
        for step_s in (0, by_s):
            self.now += step_s
            for _ in range(5):
                await asyncio.sleep(0)


def _by_hand(
    work: Callable[[_HandLoop, web.Request, StreamReader], Coroutine[None, None, None]],
) -> None:
    """Run *work* with a request whose body it feeds."""
    loop = _HandLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def main() -> None:
            protocol = BaseProtocol(loop)
            protocol.connection_made(asyncio.Transport({}))
            body = StreamReader(protocol, 1 << 16, loop=loop)
            await work(loop, make_mocked_request("PUT", "/x", payload=body), body)

        runner.run(main())


async def _take(coming: AsyncIterator[bytes], taken: list[bytes]) -> None:
    async for piece in coming:
        taken.append(piece)


def test_a_slow_body_is_taken_and_a_silent_one_given_up() -> None:
    async def work(loop: _HandLoop, request: web.Request, body: StreamReader) -> None:
        taken: list[bytes] = []
        taking = asyncio.create_task(_take(pieces(request, _SILENCE_S), taken))
        for _ in range(5):
            await loop.turn(_SILENCE_S - 1)
            body.feed_data(b"x")
        await loop.turn(0)
        assert taken == [b"x"] * 5
        await loop.turn(_SILENCE_S + 1)
        with pytest.raises(ApiRefusal, match="nothing of the body came for 10 seconds"):
            await taking

    _by_hand(work)


def test_a_lent_body_is_given_up_likewise() -> None:
    """By whoever borrows it; its own request ends then, too."""

    async def work(loop: _HandLoop, request: web.Request, body: StreamReader) -> None:
        bodies, taken = LentBodies(_SILENCE_S), list[bytes]()
        taking = asyncio.create_task(_take(bodies.borrow("n"), taken))
        await loop.turn(_SILENCE_S - 1)
        lending = asyncio.create_task(bodies.lend("n", request))
        body.feed_data(b"x")
        await loop.turn(_SILENCE_S - 1)
        assert taken == [b"x"]
        await loop.turn(_SILENCE_S + 1)
        with pytest.raises(ApiRefusal, match="nothing of the body came"):
            await taking
        await lending

    _by_hand(work)


def test_a_body_that_nobody_lends_is_not_waited_for() -> None:
    async def work(loop: _HandLoop, request: web.Request, body: StreamReader) -> None:
        taking = asyncio.create_task(_take(LentBodies(_SILENCE_S).borrow("n"), []))
        await loop.turn(_SILENCE_S + 1)
        with pytest.raises(ApiRefusal) as caught:
            await taking
        assert caught.value.status == 408

    _by_hand(work)


@pytest.mark.parametrize(
    "route",
    [
        pytest.param("/build", marks=pytest.mark.slow),  # loads what builds need
        "/images/load",
        "/images/create?fromSrc=-",
    ],
)
def test_archives_of_which_the_rest_does_not_come(tmp_path: Path, route: str) -> None:
    """The answer has begun by then: its last line tells."""
    head = f"POST {route} HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n".encode()
    (reply,) = replies(tmp_path, head + b"x", silence_s=0.05, end=b"}\r\n")
    told = json.loads(reply[reply.rindex(b'{"errorDetail"') :])
    assert told["error"] == "nothing of the body came for 0.05 seconds"
