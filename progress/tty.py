"""Live progress on a terminal: several steps at once, timings, cached marks [PRG-2]."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import TextIO

from pybuild.model.amounts import human_bytes
from pybuild.model.dataclass import dataclass
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
from pybuild.progress.folding import folded
from pybuild.progress.plain import LineCutter, warning_line, warning_lines
from pybuild.progress.screen import BLUE, GREY, RED, YELLOW, clean, fit, painted, size_of, step_row

_FRAME_S = 0.1
_DIGEST = re.compile("sha256:([0-9a-f]{12})[0-9a-f]{52}")
_NOTES_FROM, _MOST_NOTES = 16, 3
_LOG_LINES, _MOST_LOG_LINES = 6, 50


@dataclass(slots=True)
class _Row:
    name: str
    started: float | None = None
    ended: float | None = None
    cached: bool = False
    error: str = ""
    cancelled: bool = False
    log: deque[str] = field(default_factory=lambda: deque[str](maxlen=_MOST_LOG_LINES))
    cutter: LineCutter = field(default_factory=LineCutter)
    transfers: dict[str, VertexProgress] = field(default_factory=dict[str, VertexProgress])


class TtyDisplay:
    """Redraws the rows that may still change; rows that are final scroll up and stay.

    A thread draws ten times a second, so that timers move while nothing else happens; a build that
    ends before the first frame is drawn once, at the end.
    """

    def __init__(
        self,
        out: TextIO,
        clock: Callable[[], float] = time.time,
        *,
        animate: bool = True,
        doing: str = "Building",
    ) -> None:
        self._doing = doing
        self._out = out
        self._clock = clock
        self._begun = clock()
        self._rows: dict[Digest, _Row] = {}
        self._warnings: list[BuildWarning] = []
        self._drawn = 0
        self._is_away = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._log_lines = _log_window()
        self._thread = threading.Thread(target=self._animate, daemon=True) if animate else None
        if self._thread:
            self._thread.start()

    def show(self, event: Event) -> None:
        with self._lock:
            self._apply(event)

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            self.draw(final=True)
            lines = [clean(w.removesuffix("\n")) for w in warning_lines(self._warnings)]
            columns = size_of(self._out).columns
            self._out.writelines(folded(line, columns) + "\n" for line in lines)
            self._out.flush()

    def leave(self) -> None:
        """Leave the picture as it is, and draw no other one until `come_back`."""
        with self._lock:
            self.draw(final=False)
            self._drawn, self._is_away = 0, True

    def come_back(self) -> None:
        """Go on with a new picture below all that was written meanwhile."""
        with self._lock:
            self._is_away = False

    def _apply(self, event: Event) -> None:
        if isinstance(event, BuildWarning):
            self._warnings.append(event)
            return
        if isinstance(event, VertexAdded):
            self._rows[event.vertex] = _Row(clean(event.name))
            return
        row = self._rows.setdefault(event.vertex, _Row(event.vertex))
        match event:
            case VertexStarted():
                row.started = event.time
            case VertexCached():
                row.started = row.ended = event.time
                row.cached = True
            case VertexCompleted():
                row.ended = event.time
            case VertexFailed():
                row.ended = event.time
                row.error, row.cancelled = event.error, event.cancelled
            case VertexLog():
                # A progress bar rewrites its line with carriage returns: show its last state.
                row.log.extend(line.rpartition("\r")[2] for line in row.cutter.feed(event.data))
            case VertexProgress():
                row.transfers[event.id] = event
            case VertexUsage() | VertexMount():
                pass  # for whoever asks later

    def _animate(self) -> None:
        while not self._stop.wait(_FRAME_S):
            with self._lock:
                if not self._is_away:
                    self.draw(final=False)

    def draw(self, *, final: bool) -> None:
        size = size_of(self._out)
        notes = [] if final else self._notes(size.columns, size.lines)
        lines = self.frame(size.columns, None if final else size.lines - 1 - len(notes))
        lines[1:1] = notes
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = 0 if final else len(lines)

    def _notes(self, columns: int, height: int) -> list[str]:
        """Return the lines of the warnings that cannot wait; at the end of a build all are listed."""
        notes = [warning for warning in self._warnings if warning.at_once]
        if height < _NOTES_FROM:
            return []
        lines = [warning_line(note, " ! ").rstrip("\n") for note in notes[-_MOST_NOTES:]]
        return [painted(fit(clean(line), columns - 1), YELLOW) for line in lines]

    def frame(self, columns: int, height: int | None) -> list[str]:
        """The picture as lines; running rows win where *height* is short."""
        now = self._clock()
        shown = [row for row in self._rows.values() if row.started is not None]
        done = sum(row.ended is not None for row in shown)
        finished = self._stop.is_set()
        failed = any(row.error for row in shown)
        word = " FINISHED" if finished and not failed else " ERROR" if finished else ""
        head = f"[+] {self._doing} {now - self._begun:.1f}s ({done}/{len(self._rows)}){word}"
        blocks = [(row.ended is None, self._row_lines(row, now, columns)) for row in shown]
        if height is not None:
            blocks = _within(blocks, height - 1)
            room = height - 1 - sum(len(lines) for running, lines in blocks if running)
            kept: list[list[str]] = []
            for running, lines in reversed(blocks):
                if running:
                    kept.append(lines)
                elif room >= len(lines):
                    kept.append(lines)
                    room -= len(lines)
            blocks = [(True, lines) for lines in reversed(kept)]
        body = [line for _, lines in blocks for line in lines]
        return [fit(head, columns - 1), *(body if height is None else body[: max(0, height - 1)])]

    def _row_lines(self, step: _Row, now: float, columns: int) -> list[str]:
        assert step.started is not None
        timer = f"{max(0.0, (step.ended or now) - step.started):.1f}s"  # clocks are set back
        mark = "CACHED " if step.cached else "ERROR " if step.error and not step.cancelled else ""
        mark = "CANCELED " if step.cancelled else mark
        colour = BLUE if step.ended is not None else ""
        if step.error:
            colour = YELLOW if step.cancelled else RED
        lines = [painted(step_row(f"{mark}{step.name}", timer, columns), colour)]
        if step.ended is None:
            for transfer in list(step.transfers.values())[-4:]:
                if not transfer.done:
                    total = f" / {human_bytes(transfer.total)}" if transfer.total else ""
                    amount = (
                        f" {human_bytes(transfer.current)}" if transfer.current or total else ""
                    )
                    id = clean(transfer.id)
                    if len(id) + len(amount + total) + 7 >= columns:
                        id = _DIGEST.sub(lambda digest: digest[1], id)
                    lines.append(fit(f" => => {id}{amount}{total}", columns - 1))
            bar = step.cutter.unfinished
            for line in [*step.log, *([bar] if bar else [])][-self._log_lines :]:
                lines.append(painted(fit(f" => => # {clean(line)}", columns - 1), GREY))
        return lines


def _within(blocks: list[tuple[bool, list[str]]], height: int) -> list[tuple[bool, list[str]]]:
    """Shorten what running steps say, the longest first, so that each of them is seen."""
    running = [lines for is_running, lines in blocks if is_running]
    most = max(map(len, running), default=1)
    while most > 1 and sum(min(len(lines), most) for lines in running) > height:
        most -= 1
    return [
        (is_running, [lines[0], *lines[1:][-(most - 1) :]] if most > 1 else lines[:1])
        if is_running and len(lines) > most
        else (is_running, lines)
        for is_running, lines in blocks
    ]


def _log_window() -> int:
    """Return how many lines of a running step are shown; 0 means the usual number, as to buildx."""
    text = os.environ.get("BUILDKIT_TTY_LOG_LINES", "")
    lines = int(text) if text.isdecimal() and len(text) < 10 else 0
    return min(lines, _MOST_LOG_LINES) or _LOG_LINES
