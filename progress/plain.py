"""Append-only progress for logs and pipes [PRG-3]."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Sequence
from itertools import count, groupby
from operator import itemgetter
from typing import TextIO

from pybuild.model.amounts import human_bytes
from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexMount,
    VertexProgress,
    VertexStarted,
    VertexUsage,
)
from pybuild.model.printable import with_colours
from pybuild.progress.screen import numbered
from pybuild.progress.terminalguard import direct


class PlainDisplay:
    """``#N name``, ``#N 0.123 log``, ``#N CACHED``, ``#N DONE 1.2s``, ``#N ERROR: …``.

    A step gets its number when its first line is written, so numbers grow down the page. Steps that
    run beside another one wait until that has ended, so that each is one block wherever that is
    possible. None waits longer than a few seconds: the one that is interrupted is left with
    ``#N ...`` and named again when it goes on. One that failed interrupts at once. Whatever a step
    or a server says, each line begins with a number of ours: tools that read logs take commands
    from the beginnings of lines. A file or pipe gets a step's bytes as they are, a terminal no
    command but colours.
    """

    def __init__(self, out: TextIO, patience_s: float = 3.0) -> None:
        self._out = out
        self._patience_s = patience_s
        self._terminal = direct(out)
        self._steps: dict[Digest, _Step] = {}
        self._numbers = count(1)
        self._current: _Step | None = None
        self._waiting: list[_Step] = []  # that which began to wait first stands first
        self._now = 0.0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._warnings: list[BuildWarning] = []

    def show(self, event: Event) -> None:
        with self._lock:
            self._apply(event)
            self._out.flush()

    def close(self) -> None:
        with self._lock:
            if self._timer:
                self._timer.cancel()
            for step in self._waiting[:]:
                self._open(step)
            self._out.writelines(warning_lines(self._warnings))
            self._out.flush()

    def _apply(self, event: Event) -> None:
        if isinstance(event, BuildWarning):
            if event.at_once:
                self._out.write(warning_line(event, "warning: "))
            else:
                self._warnings.append(event)
            return
        if isinstance(event, VertexUsage | VertexMount):
            return  # for whoever asks later
        if isinstance(event, VertexAdded):
            self._steps.setdefault(event.vertex, _Step(event.name)).name = event.name
            return
        step = self._steps.setdefault(event.vertex, _Step(event.vertex))
        self._now = max(self._now, event.time)
        match event:
            case VertexStarted():
                step.started, step.is_over = event.time, False
                self._say(step)
            case VertexCached():
                self._end(step, "CACHED")
            case VertexCompleted():
                self._say(step, *step.rest())
                self._end(step, f"DONE {step.seconds(event.time):.1f}s")
            case VertexFailed(cancelled=True):
                if step.started is not None:  # of one that never began there is nothing to say
                    self._say(step, *step.rest())
                    self._end(step, "CANCELED")
            case VertexFailed():
                self._say(step, *step.rest())
                self._open(step)
                self._end(step, f"ERROR: {event.error}")
            case VertexLog():
                self._say(step, *step.written(event.data, event.time))
            case VertexProgress():
                if event.done:
                    amount = f" {_amount(event)}" if event.current or event.total else ""
                    self._say(step, (False, f"{event.id}{amount} done"))
                elif not event.unit:
                    self._say(step, (False, event.id))
        for step in self._waiting[:]:
            if step.since < self._now - self._patience_s or len(step.lines) > _MOST_WAITING:
                self._open(step)

    def _say(self, step: _Step, *lines: _Line) -> None:
        """Write lines of a step, and its name before the first; beside another one they wait."""
        step.lines += lines
        if self._current in (None, step):
            self._open(step)
        elif step not in self._waiting:
            step.since, step.is_overdue = self._now, False
            self._waiting.append(step)
            self._watch()

    def _end(self, step: _Step, word: str) -> None:
        step.is_over = True
        self._say(step, (False, word))
        if self._current is None:
            # First what has ended as well; of those that run that which waits longest has the turn.
            for other in [other for other in self._waiting if other.is_over]:
                self._open(other)
            if self._waiting:
                self._open(self._waiting[0])

    def _open(self, step: _Step) -> None:
        """Write all that *step* has said; it has the turn until it ends, or another one waited too long."""
        if self._current != step:
            if self._current is not None:
                self._out.write(f"#{self._current.number} ...\n\n")
            step.number = step.number or next(self._numbers)
            self._out.write(numbered(step.number, step.name))
        if step in self._waiting:
            self._waiting.remove(step)
        mark = f"#{step.number} "
        # One write for all that follow each other: one a line was half of the time that a long log took.
        for is_log, run in groupby(step.lines, itemgetter(0)):
            if not is_log:
                self._out.write("".join([numbered(step.number, line) for _, line in run]))
            elif self._terminal is not None:
                said = [f"{mark}{with_colours(line)}".rstrip() + "\n" for _, line in run]
                self._terminal.write("".join(said))
            else:
                self._out.write("".join([f"{mark}{line}".rstrip() + "\n" for _, line in run]))
        step.lines.clear()
        self._current = None if step.is_over else step
        if step.is_over:
            self._out.write("\n")

    def _watch(self) -> None:
        """See to it that what waits is written also when no event comes."""
        if self._timer is None:
            self._timer = threading.Timer(self._patience_s, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        with self._lock:
            for step in self._waiting[:]:
                if step.is_overdue:
                    self._open(step)
                step.is_overdue = True
            self._timer = None
            if self._waiting:
                self._watch()
            self._out.flush()


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _amount(event: VertexProgress) -> str:
    if event.unit != "bytes":
        return f"{event.current} {event.unit}"
    return human_bytes(event.current)


def warning_lines(warnings: Sequence[BuildWarning]) -> list[str]:
    """The list of warnings that closes a build's progress [PRG-6], with line ends."""
    if not warnings:
        return []
    lines = [f"\n {len(warnings)} warning{'s' if len(warnings) > 1 else ''} found:\n"]
    return lines + [warning_line(warning, " - ") for warning in warnings]


def warning_line(warning: BuildWarning, mark: str) -> str:
    """Return *warning* as one line that begins with *mark*, with its end."""
    line = f" (line {warning.spans[0].first_line})" if warning.spans else ""
    rule = f"{warning.rule}: " if warning.rule else ""
    return f"{mark}{_one_line(rule + warning.message)}{line}\n"


_BAR_CHARS = 1 << 12
_BAR_S = 1.0


def _last_part(text: str) -> str:
    return next((part for part in reversed(text[-_BAR_CHARS:].split("\r")) if part), "")


class LineCutter:
    """Feed bytes, take whole lines; characters split between two pieces are put together again."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes, without line ends."""
        text = self._rest + self._decoder.decode(data)
        *whole, self._rest = text.split("\n")
        if len(self._rest) > 1 << 20:  # a step without line ends must not fill our memory
            whole.append(self._rest)
            self._rest = ""
        return [line.removesuffix("\r") for line in whole] if "\r" in text else whole

    @property
    def unfinished(self) -> str:
        """The state of the last line, which has no end yet: a progress bar begins it anew by ``\\r``."""
        return _last_part(self._rest)

    def take_bar(self) -> str:
        """Return the last state of a progress bar that another one has taken the place of, and forget all such."""
        text = self._rest.removesuffix("\r")  # which may be half of a line's end
        past, begun, _ = text.rpartition("\r")
        if not begun:
            return ""
        self._rest = self._rest[len(past) + 1 :]
        return _last_part(past)

    def finish(self) -> list[str]:
        """Return the last, unfinished line, if any."""
        rest, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return [rest] if rest else []


_MOST_WAITING = 1000
_Line = tuple[bool, str]
"""A line without its number, and whether the step itself wrote it."""


class _Step:
    """A step, and the lines of it that wait to be written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.started: float | None = None
        self.is_over = False
        self.lines: list[_Line] = []
        self.since = 0.0
        self.is_overdue = False
        self._cutter = LineCutter()
        self._bar_shown: float | None = None

    def seconds(self, time: float) -> float:
        """Return how long it runs; none if the clock was set back meanwhile."""
        return max(0.0, time - (time if self.started is None else self.started))

    def written(self, data: bytes, time: float) -> list[_Line]:
        """Return the lines that *data* completes, and at most each second the state of a progress bar."""
        lines = self._cutter.feed(data)
        bar = self._cutter.take_bar()  # as lines all of them would be thousands
        if bar and (self._bar_shown is None or not 0 <= time - self._bar_shown < _BAR_S):
            self._bar_shown = time
            lines.append(bar)
        return _said(f"{self.seconds(time):.3f} ", lines)

    def rest(self) -> list[_Line]:
        """Return its last line, if that has no end."""
        return _said("", self._cutter.finish())


def _said(stamp: str, lines: list[str]) -> list[_Line]:
    """Return the output of a step; a carriage return begins a line of its own."""
    return [(True, stamp + part) for line in lines for part in line.split("\r")]
