"""A container's log: docker's json-file, a line of JSON for each line of output [MON-5].

It is written by the monitor, which imports what it needs of JSON once for all containers.
"""

from __future__ import annotations

import json
import os
import time

from pybuild.containers.order import LOG

_MOST_LINE_BYTES = 16 << 10  # docker cuts longer ones there, and whoever reads joins them again
_AT_ONCE = 256
STREAMS = ("stdout", "stderr")


def moment(ns: int) -> str:
    """Return a time in nanoseconds since the epoch as docker writes it."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class LogFile:
    """The log of a container that runs.

    Args:
        home: its directory, open.
    """

    def __init__(self, home: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(LOG, flags, 0o600, dir_fd=home)
        self._rest = {stream: b"" for stream in STREAMS}

    def write(self, stream: str, data: bytes) -> None:
        """Take over a piece of output; what has no end of line yet waits for it, up to 16 KiB.

        Raises:
            OSError: the disk is full.
        """
        *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(line + b"\n")]
        if len(self._rest[stream]) >= _MOST_LINE_BYTES:
            *more, self._rest[stream] = _pieces(self._rest[stream])
            pieces += more
        self._append(stream, pieces)

    def end(self) -> None:
        """Write what never got an end of line."""
        for stream, rest in self._rest.items():
            if rest:
                self._rest[stream] = b""
                self._append(stream, [rest])

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        now = moment(time.time_ns())
        for start in range(0, len(pieces), _AT_ONCE):
            text = b"".join(
                json.dumps(
                    {"log": piece.decode("utf-8", "replace"), "stream": stream, "time": now},
                    separators=(",", ":"),
                    ensure_ascii=False,
                ).encode()
                + b"\n"
                for piece in pieces[start : start + _AT_ONCE]
            )
            view = memoryview(text)
            while view:
                view = view[os.write(self._fd, view) :]


def _pieces(line: bytes) -> list[bytes]:
    """Return a line in pieces that are not too long, and cut no letter in two."""
    pieces: list[bytes] = []
    while len(line) > _MOST_LINE_BYTES:
        end = _MOST_LINE_BYTES
        while end > _MOST_LINE_BYTES - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]
