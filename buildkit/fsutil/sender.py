"""The sending end of a tree, without a network: entries and requests go in, packets come out."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.fsutil.packet import (
    DATA,
    END_OF_LIST,
    ERR,
    FIN,
    FIN_PACKET,
    REQ,
    MalformedPacket,
    Stat,
    decode,
    encode_data,
    encode_stat,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed

PIECE = 256 << 10
_CUT = 512


class ReadableFile(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


Open = Callable[[bytes], ReadableFile]


class Sender:
    """One transfer; blocking where *entries* and *open_file* block.

    Attributes:
        finished: both ends have said goodbye.
        sent: bytes of data so far.
    """

    def __init__(self, entries: Iterable[Stat], open_file: Open) -> None:
        """*entries* in order. A file that *open_file* cannot open (OSError) is sent empty."""
        self._entries: Iterator[Stat] = iter(entries)
        self._open = open_file
        self._files: dict[int, tuple[bytes, int]] = {}
        self._count = 0
        self._is_listed = False
        self._requests: deque[tuple[int, bytes, int]] = deque()
        self._left = 0
        self._current: ReadableFile | None = None
        self._current_id = -1
        self._owes_fin = False
        self.finished = False
        self.sent = 0

    @property
    def has_work(self) -> bool:
        """Whether `produce` has something to say without hearing more."""
        waiting = self._current is not None or bool(self._requests) or self._owes_fin
        return not self.finished and (waiting or not self._is_listed)

    def feed(self, messages: Iterable[bytes]) -> None:
        """Take the receiver's messages.

        Raises:
            BadEntry: it is against the rules. PeerFailed: it is ERR.
        """
        for message in messages:
            try:
                packet = decode(message)
            except MalformedPacket as error:
                raise BadEntry(str(error)) from None
            if packet.type == REQ:
                file = self._files.pop(packet.id, None)
                if file is None or self._owes_fin:
                    raise BadEntry(f"a request for {packet.id}, which is no file or was sent")
                self._requests.append((packet.id, *file))
            elif packet.type == FIN:
                self._owes_fin = True
            elif packet.type == ERR:
                raise PeerFailed(bytes(packet.data[:_CUT]).decode("utf-8", "replace"))
            else:
                kind = "data" if packet.type == DATA else f"a packet of type {packet.type}"
                raise BadEntry(f"{kind} from the receiving end")

    def produce(self, budget: int = 1 << 20) -> list[bytes]:
        """Return packets of about *budget* bytes; none when there is nothing to say."""
        packets: list[bytes] = []
        while budget > 0:
            packet = self._next()
            if packet is None:
                break
            packets.append(packet)
            budget -= len(packet) + 64
        return packets

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None

    def _next(self) -> bytes | None:
        if not self._is_listed:
            entry = next(self._entries, None)
            if entry is None:
                self._is_listed = True
                return END_OF_LIST
            if not entry.mode & gomode.TYPE and not entry.linkname:
                self._files[self._count] = entry.path, entry.size
            self._count += 1
            return encode_stat(entry)
        if self._current is None and self._requests:
            self._current_id, path, size = self._requests.popleft()
            # A file that grows as fast as it is sent has no end. One without a size may have bytes.
            self._left = size or PIECE
            try:
                self._current = self._open(path)
            except OSError:
                return encode_data(self._current_id, b"")
        if self._current is not None:
            try:
                data = self._current.read(min(PIECE, self._left)) if self._left else b""
            except OSError:
                data = b""
            if not data:
                self.close()
            self._left -= len(data)
            self.sent += len(data)
            return encode_data(self._current_id, data)
        if self._owes_fin and not self.finished:
            self.finished = True
            return FIN_PACKET
        return None


def stat_entry(path: bytes, status_mode: int, size: int, mtime_ns: int) -> Stat:
    """Return the entry of something that belongs to root, as clients send their directories."""
    kept = size if stat.S_ISREG(status_mode) or stat.S_ISLNK(status_mode) else 0
    return Stat(path=path, mode=gomode.to_go(status_mode), size=kept, mtime_ns=mtime_ns)
