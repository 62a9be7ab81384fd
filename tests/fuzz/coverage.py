"""Steps from line to line that the frontend takes: they guide the choice of inputs.

Tracing costs tenfold, so the fuzzer traces a sample. On Python 3.12 and later `sys.monitoring` does
not help: it forgets a place once it was seen, and which *pair* of places an input visits is what tells
inputs apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from pybuild import frontend
from pybuild.model import patterns

_ROOMS = (os.path.realpath(frontend.__path__[0]), os.path.realpath(patterns.__file__))

Arc = tuple[CodeType, int, int]


class Arcs:
    """All steps seen so far."""

    def __init__(self) -> None:
        self._seen: set[Arc] = set()
        self._ours: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, function: Callable[[], object]) -> bool:
        """Call *function* and return whether it took a step that is new."""
        found: set[Arc] = set()
        before = sys.gettrace()

        def enter(frame: FrameType, event: str, arg: Any) -> Any:
            code = frame.f_code
            ours = self._ours.get(code.co_filename)
            if ours is None:
                ours = os.path.realpath(code.co_filename).startswith(_ROOMS)
                self._ours[code.co_filename] = ours
            if not ours:
                return None
            last = 0

            def step(frame: FrameType, event: str, arg: Any) -> Any:
                nonlocal last
                if event == "line":
                    line = frame.f_lineno
                    found.add((code, last, line))
                    last = line
                return step

            return step

        sys.settrace(enter)
        try:
            function()
        finally:
            sys.settrace(before)
        is_new = not found <= self._seen
        self._seen |= found
        return is_new
