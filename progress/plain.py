"""Append-only progress for logs and pipes [PRG-3]."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
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
    VertexProgress,
    VertexStarted,
)
from pybuild.model.printable import with_colours
from pybuild.progress.screen import numbered
from pybuild.progress.terminalguard import direct


class PlainDisplay:
    """``#N name``, ``#N 0.123 log``, ``#N CACHED``, ``#N DONE 1.2s``, ``#N ERROR: …``.

    A vertex gets its number when it is first heard of, so numbers grow down the page. When another
    one speaks in between, the one that is interrupted is left with ``#N ...`` and named again when
    it goes on. Whatever a step or a server says, each line begins with a number of ours: tools that
    read logs take commands from the beginnings of lines. A file or pipe gets a step's bytes as they
    are, a terminal no command but colours.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = direct(out)
        self._names: dict[Digest, str] = {}
        self._numbers: dict[Digest, int] = {}
        self._started: dict[Digest, float] = {}
        self._cutters: dict[Digest, LineCutter] = {}
        self._bars: dict[Digest, float] = {}
        self._current: Digest | None = None
        self._warnings: list[BuildWarning] = []

    def show(self, event: Event) -> None:
        match event:
            case VertexAdded():
                self._names[event.vertex] = event.name
            case VertexStarted():
                self._started[event.vertex] = event.time
                self._switch(event.vertex)
            case VertexCached():
                self._end(event.vertex, "CACHED")
            case VertexCompleted():
                self._flush(event.vertex)
                self._end(event.vertex, f"DONE {self._since(event.vertex, event.time):.1f}s")
            case VertexFailed():
                self._flush(event.vertex)
                word = "CANCELED" if event.cancelled else f"ERROR: {event.error}"
                if not event.cancelled or event.vertex in self._started:
                    self._end(event.vertex, word)
            case VertexLog():
                cutter = self._cutters.setdefault(event.vertex, LineCutter())
                self._log(event.vertex, event.time, cutter.feed(event.data))
                self._bar(event.vertex, event.time, cutter.take_bar())
            case VertexProgress():
                if event.done:
                    amount = f" {_amount(event)}" if event.current or event.total else ""
                    self._line(event.vertex, f"{event.id}{amount} done")
            case BuildWarning():
                if event.at_once:
                    self._out.write(warning_line(event, "warning: "))
                else:
                    self._warnings.append(event)
        self._out.flush()

    def close(self) -> None:
        self._out.writelines(warning_lines(self._warnings))
        self._out.flush()

    def _switch(self, vertex: Digest) -> int:
        number = self._numbers.setdefault(vertex, len(self._numbers) + 1)
        if self._current != vertex:
            if self._current is not None:
                self._out.write(f"#{self._numbers[self._current]} ...\n\n")
            self._out.write(numbered(number, self._names.get(vertex, vertex)))
            self._current = vertex
        return number

    def _line(self, vertex: Digest, line: str) -> None:
        self._out.write(numbered(self._switch(vertex), line))

    def _end(self, vertex: Digest, word: str) -> None:
        self._line(vertex, word)
        self._out.write("\n")
        self._current = None

    def _log(self, vertex: Digest, time: float, lines: list[str]) -> None:
        since = self._since(vertex, time)
        for line in lines:
            self._said(vertex, f"{since:.3f} ", line)

    def _bar(self, vertex: Digest, time: float, bar: str) -> None:
        """Show the state of a progress bar, at most each second: as lines they would be thousands."""
        if bar and not 0 <= time - self._bars.get(vertex, -_BAR_S) < _BAR_S:
            self._bars[vertex] = time
            self._log(vertex, time, [bar])

    def _since(self, vertex: Digest, time: float) -> float:
        """Return how long a vertex runs, in seconds; none if the clock was set back meanwhile."""
        return max(0.0, time - self._started.get(vertex, time))

    def _flush(self, vertex: Digest) -> None:
        cutter = self._cutters.pop(vertex, None)
        if cutter:
            for line in cutter.finish():
                self._said(vertex, "", line)

    def _said(self, vertex: Digest, stamp: str, line: str) -> None:
        """Show a line of a step's; a carriage return begins a line of its own."""
        number = self._switch(vertex)
        for part in line.split("\r") if "\r" in line else (line,):
            if self._terminal is not None:
                self._terminal.write(f"#{number} {stamp}{with_colours(part)}".rstrip() + "\n")
            else:
                self._out.write(f"#{number} {stamp}{part}".rstrip() + "\n")


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
        *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > 1 << 20:  # a step without line ends must not fill our memory
            whole.append(self._rest)
            self._rest = ""
        return [line.removesuffix("\r") for line in whole]

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
