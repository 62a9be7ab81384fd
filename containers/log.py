"""A container's log: docker's json-file, a line of JSON for each line of output [MON-5, CTR-75].

It is written by the monitor, which imports what it needs of JSON once for all containers. What `local`
calls a format of its own is the same here, in files that go round.
"""

from __future__ import annotations

import os
import time

from pybuild.containers.order import LOG, LogConfig
from pybuild.containers.unlogged import UnloggedOutput
from pybuild.image.layer.writing import write_all
from pybuild.model import lightjson

_MOST_LINE_BYTES = 16 << 10  # docker cuts longer ones there, and whoever reads joins them again
_AT_ONCE, _AT_ONCE_ROUND = 256, 16
_PIECE_BYTES = 1 << 16
_LOCAL = {"max-size": "20m", "max-file": "5"}
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
STREAMS = ("stdout", "stderr")


def moment(ns: int) -> str:
    """Return a time in nanoseconds since the epoch as docker writes it."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def bounds(config: LogConfig) -> tuple[int, int]:
    """Return the bytes after which another file is begun, 0: never; and how many files there are."""
    options = (_LOCAL | config.options) if config.driver == "local" else config.options
    text = options.get("max-size", "").lower().removesuffix("b").removesuffix("i")
    unit = _UNITS.get(text[-1:], 1)
    return int(float(text.rstrip("kmg") or 0) * unit), int(options.get("max-file", 1))


def names(count: int) -> list[str]:
    """Return the names of the files of a log, the oldest first."""
    return [*(f"{LOG}.{number}" for number in range(count - 1, 0, -1)), LOG]


class LogFile:
    """The log of a container that runs.

    Args:
        home: its directory, open.
    """

    def __init__(self, home: int, config: LogConfig) -> None:
        self._home = home
        self._most, self._count = bounds(config)
        self._fd = -1 if config.driver == "none" else self._open()
        self._size = os.fstat(self._fd).st_size if self._fd >= 0 else 0
        self._inode = os.fstat(self._fd).st_ino if self._fd >= 0 else 0
        self._rest = {stream: b"" for stream in STREAMS}
        self._is_torn = False
        self._unlogged = {stream: UnloggedOutput(home, f"{LOG}.{stream}") for stream in STREAMS}
        if self._fd >= 0:
            self._recover()

    @property
    def fd(self) -> int:
        return self._fd

    def descriptors(self) -> tuple[int, ...]:
        """Return those that are ours alone."""
        return (self._fd, *(one.fd for one in self._unlogged.values()))

    def _recover(self) -> None:
        """Write what a monitor that was killed has read and not written."""
        try:
            left = [(stream, one.recover(self._fd)) for stream, one in self._unlogged.items()]
            self._size = os.fstat(self._fd).st_size
            for stream, data in left:
                self.write(stream, data)
        except OSError:
            pass  # on a full disk it is lost

    def take(self, number: int, pipe: int) -> bytes:
        """Return a piece of output from the pipe of stream 1 or 2; until it is written, the next monitor has it, too.

        Raises:
            BlockingIOError: there is nothing. OSError: it cannot be read.
        """
        if self._fd < 0:
            return os.read(pipe, _PIECE_BYTES)
        return self._unlogged[STREAMS[number - 1]].take(pipe)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(LOG, flags, 0o600, dir_fd=self._home)

    def write(self, stream: str, data: bytes) -> None:
        """Take over a piece of output; what has no end of line yet waits for it, up to 16 KiB.

        Raises:
            OSError: the disk is full.
        """
        if self._fd < 0:
            return
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
        for one in self._unlogged.values():
            one.remove()

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        now = moment(time.time_ns())
        at_once = _AT_ONCE_ROUND if self._most else _AT_ONCE
        for start in range(0, len(pieces), at_once):
            if self._most and self._size >= self._most:
                self._rotate()
            text = b"".join(
                lightjson.dumps(
                    {"log": piece.decode("utf-8", "replace"), "stream": stream, "time": now},
                    separators=(",", ":"),
                    ensure_ascii=False,
                ).encode()
                + b"\n"
                for piece in pieces[start : start + at_once]
            )
            # After a disk that was full the next line does not go behind a part of the last one.
            text = b"\n" + text if self._is_torn else text
            count = sum(map(len, pieces[start : start + at_once]))
            self._unlogged[stream].note(self._inode, self._size, len(text), count)
            self._size += len(text)
            self._is_torn = True
            try:
                write_all(self._fd, text)
            except OSError:
                self._size = os.fstat(self._fd).st_size
                raise
            self._is_torn = False

    def _rotate(self) -> None:
        """Begin another file; whoever reads this one has it open, and finds the next by its name."""
        *older, newest = names(self._count)
        for name, above in zip(older, [*older[1:], newest], strict=False):
            try:
                os.rename(above, name, src_dir_fd=self._home, dst_dir_fd=self._home)
            except FileNotFoundError:
                pass
        if not older:
            try:
                os.unlink(newest, dir_fd=self._home)
            except FileNotFoundError:
                pass  # somebody else made room
        before, self._fd = self._fd, self._open()
        os.close(before)
        self._size = 0
        self._inode = os.fstat(self._fd).st_ino


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
