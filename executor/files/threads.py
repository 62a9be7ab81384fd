"""Work on files by several threads at once: what takes long there is C that lets go of the interpreter.

Lean: used in workers, so made of the interpreter's C parts alone.
"""

from __future__ import annotations

import _thread
import os
from _queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

_MOST_THREADS = 4


def for_each(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Call *work* for each item, in this thread and, as there are processors, in others.

    Args:
        work: called in no order to rely on; must not raise.
    """
    rest = iter(items)  # next() of it is one step of the interpreter
    ended: SimpleQueue[None] = SimpleQueue()

    def help_out() -> None:
        try:
            for item in rest:
                work(item)
        finally:
            ended.put(None)

    helpers = 0
    try:
        while helpers < min(_MOST_THREADS, len(os.sched_getaffinity(0)), len(items)) - 1:
            _thread.start_new_thread(help_out, ())
            helpers += 1
    except RuntimeError:
        pass  # as many threads as this user may have
    try:
        for item in rest:
            work(item)
    finally:
        for _ in range(helpers):
            ended.get()
