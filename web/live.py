"""A build that goes on, as its page is told of it: messages with the steps that changed, and what they said since."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.content.buildlog import BuildLogReader
from pybuild.cache.disk.locks import is_alive
from pybuild.cache.store import Store
from pybuild.history.markup import plain_lines
from pybuild.model.events import Event, VertexAdded, VertexLog
from pybuild.model.timeline import StepState, TimedStep, TimelineReader

MOST_TEXT = 64 << 10
"""Of one step's output that a message has: its end."""
MOST_TEXT_OF_OTHERS = 4 << 10
"""Of that of a step that is over."""
_LONG = 1000
_NOTHING = b": nothing new\n\n"
END = b"event: end\ndata: {}\n\n"


class LiveBuild:
    """Makes messages of a build's events.

    Args:
        at: when the build began.
    """

    def __init__(self, at: float) -> None:
        self._reader = TimelineReader(at)
        self._sent: dict[int, TimedStep] = {}
        self._numbers: dict[str, int] = {}

    def message(self, events: Iterable[Event]) -> dict[str, Any]:
        """Return the steps that *events* have changed, and the ends of what was said."""
        said: dict[int, bytes] = {}
        for event in events:
            self._reader.take(event)
            match event:
                case VertexAdded(vertex=vertex):
                    self._numbers.setdefault(vertex, len(self._numbers) + 1)
                case VertexLog(vertex=vertex, data=data) if vertex in self._numbers:
                    number = self._numbers[vertex]
                    said[number] = (said.get(number, b"") + data)[-MOST_TEXT:]
                case _:
                    pass
        steps = self._reader.timeline().steps
        changed = [step for step in steps if _shown(step) != _shown(self._sent.get(step.number))]
        self._sent = {step.number: step for step in steps}
        texts: dict[int, str] = {}
        for number, data in said.items():
            is_running = self._sent[number].state is StepState.RUNNING
            text = data[-(MOST_TEXT if is_running else MOST_TEXT_OF_OTHERS) :]
            texts[number] = plain_lines(text.decode("utf-8", "replace"))
        return {"steps": [_facts(step) for step in changed], "said": texts}


def _shown(step: TimedStep | None) -> tuple[object, ...]:
    return () if step is None else (step.state, step.began, step.ended)


def _facts(step: TimedStep) -> dict[str, Any]:
    name = " ".join(plain_lines(step.name).split())
    return {
        "number": step.number,
        "name": name[:_LONG],
        "state": str(step.state),
        "began": step.began,
        "ended": step.ended,
    }


async def messages_of(
    store: Store, id: str, pause: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """Yield the server-sent events of the page of a build that goes on; `END` last, where it has ended.

    Args:
        pause: waits for a moment; false: nobody is to be told any more.
    """
    stored = await asyncio.to_thread(Builds(store).find, id)
    if stored is None or not stored.is_running:
        yield END
        return
    try:
        reader = BuildLogReader(stored.log)
    except OSError:
        yield END
        return
    at = float(stored.facts.get("at") or 0.0)
    live = LiveBuild(at)

    def next_message() -> bytes | None:
        is_going = is_alive(stored.log)  # asked first: all that it wrote until then is read
        if events := reader.more():
            now = store.clock.now() - at
            return _event({**live.message(events), "now": round(now, 3)})
        return _NOTHING if is_going else None

    with reader:
        while (message := await asyncio.to_thread(next_message)) is not None:
            yield message
            if message is _NOTHING and not await pause():
                return
        yield END


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
