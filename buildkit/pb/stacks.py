"""An error's places in our code, for those who debug a server from a client [6].

BuildKit's clients print such traces with ``--debug``. Files are named as modules are, not by where
they lie on the server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from traceback import walk_tb

from pybuild.buildkit.pb.details import StackDetail, StackFrame
from pybuild.model.package import VERSION

_MOST_ERRORS = 4
_MOST_FRAMES = 32
_COMMAND = ("pybuild", "daemon")


def stacks_of(error: BaseException) -> list[StackDetail]:
    """Return a trace for *error* and for each that it was raised from, the first cause first."""
    traces = [frames for one in _chain(error) if (frames := tuple(_frames(one)))]
    return [StackDetail(frames, _COMMAND, os.getpid(), VERSION) for frames in reversed(traces)]


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < _MOST_ERRORS:
        seen.add(id(current))
        yield current
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or context


def _frames(error: BaseException) -> list[StackFrame]:
    """Return the frames that *error* passed, where it was raised first, the outermost left out."""
    frames: list[StackFrame] = []
    for frame, line in walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "?"))
        name = f"{module}.{frame.f_code.co_qualname}"
        frames.append(StackFrame(name, f"{module.replace('.', '/')}.py", line))
    return frames[::-1][:_MOST_FRAMES]
