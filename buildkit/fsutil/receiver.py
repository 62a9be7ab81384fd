"""The receiving end of a tree, without I/O: packets go in, requests come out, a sink does the work.

The peer is hostile: whatever reaches the sink has been checked here. What is refused: paths that
are absolute, unclean or climb, an order that is not strictly rising by component, entries below
what is no directory, hard links to what was not sent as a file before, requests for nothing,
numbers and lengths beyond bounds. A file may turn out longer or shorter than its entry said, since
people write to files while they are sent; it is then not what its entry says, and the next
transfer fetches it again. One that grows without end is refused.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Protocol

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.fsutil.packet import (
    DATA,
    ERR,
    FIN,
    FIN_PACKET,
    REQ,
    STAT,
    MalformedPacket,
    Packet,
    Stat,
    decode,
    encode_request,
    plain_data,
)
from pybuild.model.dataclass import dataclass

_CUT = 512


class BadEntry(ValueError):
    """The peer breaks the rules; says how."""


class PeerFailed(Exception):
    """The peer gave up and says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one transfer.

    Attributes:
        growth: bytes that a file may be longer than in its entry.
        attributes: bytes of extended attributes of one entry.
        open_files: files whose data may arrive at once.
    """

    entries: int = 1 << 21
    path: int = 4095
    depth: int = 255
    names: int = 512 << 20
    growth: int = 64 << 20
    attributes: int = 1 << 20
    open_files: int = 64


class EntrySink(Protocol):
    """The receiver of a tree's entries as they come: in order, parents first."""

    def entry(self, id: int, stat: Stat, mode: int, /) -> bool:
        """Take one entry with its ``st_mode``; return whether to request its data (files only)."""
        ...

    def data(self, id: int, pieces: list[memoryview]) -> None: ...

    def end(self, id: int) -> None:
        """Note that all data of a requested file were handed over."""
        ...

    def listed(self) -> None:
        """There are no more entries."""
        ...


class Receiver:
    """One transfer.

    Attributes:
        received: bytes of data so far. requested: files, so far. entries: seen so far.
        finished: the peer has said goodbye, too.
        short: paths of files that were shorter than in their entries, the first few.
    """

    def __init__(self, sink: EntrySink, bounds: Bounds | None = None) -> None:
        self._sink = sink
        self._bounds = bounds or Bounds()
        self._outgoing: list[bytes] = []
        self._pending: dict[int, _Pending] = {}
        self._last_key = b""
        self._directories: list[bytes] = []
        self._files: set[bytes] = set()
        self._names = 0
        self._is_listed = False
        self._said_fin = False
        self._active: set[int] = set()
        self.received = 0
        self.requested = 0
        self.entries = 0
        self.finished = False
        self.short: list[bytes] = []

    def feed(self, messages: Iterable[bytes]) -> list[bytes]:
        """Take packets, in order; return those to be sent.

        Raises:
            BadEntry: one of them is against the rules. PeerFailed: it says ERR.
            OSError: the sink cannot go on.
        """
        pieces: list[memoryview] = []
        current = -1
        for message in messages:
            plain = plain_data(message)
            if plain is None:
                try:
                    packet = decode(message)
                except MalformedPacket as error:
                    raise BadEntry(str(error)) from None
                if packet.type != DATA:
                    self._data(current, pieces)
                    current, pieces = -1, []
                    self._take(packet)
                    continue
                id, data = packet.id, packet.data
            else:
                id, at = plain
                data = memoryview(message)[at:]
            if id != current:
                self._data(current, pieces)
                current, pieces = id, []
                self._expect(id)
            if data:
                pieces.append(data)
                if len(pieces) == 64:
                    self._data(current, pieces)
                    pieces = []
            else:
                self._data(current, pieces)
                current, pieces = -1, []
                self._end(id)
        self._data(current, pieces)
        return self._take_outgoing()

    def _take_outgoing(self) -> list[bytes]:
        if self._is_listed and not self._pending and not self._said_fin:
            self._said_fin = True
            self._outgoing.append(FIN_PACKET)
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _take(self, packet: Packet) -> None:
        if self.finished:
            raise BadEntry("a packet after the last one")
        if packet.type == STAT:
            self._stat(packet.stat)
        elif packet.type == FIN:
            if not self._said_fin:
                raise BadEntry("the end came before all files were there")
            self.finished = True
        elif packet.type == ERR:
            raise PeerFailed(bytes(packet.data[:_CUT]).decode("utf-8", "replace"))
        elif packet.type == REQ:
            raise BadEntry("a request from the sending end")
        else:
            raise BadEntry(f"a packet of unknown type {packet.type}")

    def _stat(self, stat_: Stat | None) -> None:
        if self._is_listed:
            raise BadEntry("an entry after the end of the list")
        if stat_ is None:
            self._is_listed = True
            self._files.clear()
            self._sink.listed()
            return
        if self.entries >= self._bounds.entries:
            raise BadEntry(f"more than {self._bounds.entries} entries")
        id = self.entries
        self.entries += 1
        mode = self._check(stat_)
        if self._sink.entry(id, stat_, mode):
            self._pending[id] = _Pending(stat_.path, stat_.size)
            self._outgoing.append(encode_request(id))
            self.requested += 1

    def _check(self, entry: Stat) -> int:
        """Raise for an entry that may not be; else note it and return its ``st_mode``."""
        path = entry.path
        bounds = self._bounds
        self._names += len(path) + len(entry.linkname)
        if len(path) > bounds.path or len(entry.linkname) > bounds.path:
            raise BadEntry(f"a path of more than {bounds.path} bytes: {shown(path[:64])}…")
        if self._names > bounds.names:
            raise BadEntry(f"more than {bounds.names} bytes of paths")
        parts = check_path(path)
        if len(parts) > bounds.depth:
            raise BadEntry(f"{shown(path[:64])}… is deeper than {bounds.depth} directories")
        key = order_key(path)
        if key <= self._last_key:
            raise BadEntry(f"{shown(path)} is out of order or there twice")
        self._last_key = key
        # In this order a directory's entries follow it before anything that is beside it.
        above = path[: -len(parts[-1]) - 1]
        known = self._directories
        while known and known[-1] != above:
            known.pop()
        if above and not known:
            raise BadEntry(f"{shown(path)} lies in no directory that was sent")
        try:
            mode = gomode.to_kernel(entry.mode)
        except ValueError as error:
            raise BadEntry(f"{shown(path)}: {error}") from None
        if entry.size < 0:
            raise BadEntry(f"{shown(path)} is of {entry.size} bytes")
        if entry.xattrs and sum(map(len, entry.xattrs.values())) > bounds.attributes:
            raise BadEntry(f"{shown(path)} has too many attributes")
        self._check_kind(entry, mode)
        return mode

    def _check_kind(self, entry: Stat, mode: int) -> None:
        kind = stat.S_IFMT(mode)
        path = entry.path
        if kind == stat.S_IFDIR:
            self._directories.append(path)
        elif kind == stat.S_IFLNK:
            if not entry.linkname or b"\0" in entry.linkname:
                raise BadEntry(f"{shown(path)} is a link to nothing")
        elif entry.linkname:
            if entry.linkname not in self._files:
                raise BadEntry(
                    f"{shown(path)} is a hard link to {shown(entry.linkname)}, "
                    "which was not sent before it"
                )
        elif kind == stat.S_IFREG:
            self._files.add(path)
        if kind in (stat.S_IFCHR, stat.S_IFBLK) and not (
            0 <= entry.devmajor < 1 << 12 and 0 <= entry.devminor < 1 << 20
        ):
            raise BadEntry(f"{shown(path)} is device {entry.devmajor}:{entry.devminor}")

    def _expect(self, id: int) -> _Pending:
        pending = self._pending.get(id)
        if pending is None:
            raise BadEntry(f"data of file {id}, which was not asked for or has ended")
        if self.finished:
            raise BadEntry("a packet after the last one")
        return pending

    def _data(self, id: int, pieces: list[memoryview]) -> None:
        if not pieces:
            return
        pending = self._pending[id]
        size = sum(map(len, pieces))
        pending.received += size
        self.received += size
        if pending.received > pending.size + self._bounds.growth:
            raise BadEntry(f"{shown(pending.path)} grows while it is sent")
        if id not in self._active:
            if len(self._active) >= self._bounds.open_files:
                raise BadEntry(f"data of more than {self._bounds.open_files} files at once")
            self._active.add(id)
        self._sink.data(id, pieces)

    def _end(self, id: int) -> None:
        pending = self._expect(id)
        if pending.received < pending.size and len(self.short) < 100:
            self.short.append(pending.path)
        del self._pending[id]
        self._active.discard(id)
        self._sink.end(id)


class _Pending:
    __slots__ = ("path", "received", "size")

    def __init__(self, path: bytes, size: int) -> None:
        self.path = path
        self.size = size
        self.received = 0


def order_key(path: bytes) -> bytes:
    """Return a key that orders paths by component: as if the slash came before everything else."""
    return path.replace(b"/", b"\0")


def check_path(path: bytes) -> list[bytes]:
    """Return the components of a relative, clean path.

    Raises:
        BadEntry: it is not one.
    """
    parts = path.split(b"/")
    for part in parts:
        if part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part:
            raise BadEntry(f"{shown(path)} is not a clean relative path")
    return parts


def shown(path: bytes) -> str:
    """A path of the peer's in a message: quoted, nothing in it reaches a terminal."""
    return ascii(path.decode("utf-8", "replace"))[:300]
