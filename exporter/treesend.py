"""Sends trees over a socket of packets, each after its length; blocking: for threads and workers.

Trees of builds may belong to ids that only a worker has the powers of, so a worker reads them
(`send_job`), and the main process hands the packets on to the client.
"""

from __future__ import annotations

import heapq
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed, order_key
from pybuild.buildkit.fsutil.sender import ReadableFile, Sender
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.executor.files.values import ExportTree
from pybuild.executor.zygote.copied.views import view
from pybuild.model.border import WorkerCall
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

_HEAD = struct.Struct("<I")
_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Root:
    """A directory to be sent: its mode there, and its path here.

    Attributes:
        epoch: the modification time of everything in it, in seconds, if not its own.
        name: of messages.
    """

    prefix: str
    path: str
    epoch: int | None = None
    name: str = ""


def send_job(call: WorkerCall, trees: Sequence[ExportTree]) -> None:
    """Send *trees*, each mounted on a directory of its own, over the socket handed over."""
    roots: list[Root] = []
    for tree in trees:
        path = view(tree.mount_dir, tree.lowers, userxattr=tree.userxattr)
        roots.append(Root(tree.prefix, path, epoch=tree.epoch, name=tree.name))
    channel = socket.socket(fileno=os.dup(call.fds[0]))
    with channel:
        channel.setblocking(True)
        send_trees(channel, roots)


def send_trees(
    channel: socket.socket,
    roots: Sequence[Root],
    files: Mapping[str, bytes] | None = None,
    *,
    epoch: int | None = None,
) -> None:
    """Send directories as one tree, each below its prefix; returns when all was taken.

    Args:
        epoch: the time of *files* and the directories that they need, in seconds.

    Raises:
        UserError: the receiving end gave up, or breaks the rules; two trees have the same file.
    """
    with ExitStack() as stack:
        walks = [
            (root, os.fsencode(root.prefix), stack.enter_context(Walk(root.path, keep_owners=True)))
            for root in roots
        ]
        merged = _Merged(walks, {os.fsencode(k): v for k, v in (files or {}).items()}, epoch)
        sender = Sender(merged.entries(), merged.open)
        stack.callback(sender.close)
        try:
            _talk(channel, sender)
        except BadEntry as error:
            raise UserError(f"the client sends {error}") from error
        except PeerFailed as error:
            raise UserError(f"the client cannot take the result: {error}") from error


def _talk(channel: socket.socket, sender: Sender) -> None:
    received = bytearray()
    while not sender.finished:
        packets = sender.produce()
        if packets:
            channel.sendall(b"".join(_HEAD.pack(len(p)) + p for p in packets))
        if sender.finished:
            return
        flags = socket.MSG_DONTWAIT if sender.has_work else 0
        try:
            data = channel.recv(1 << 16, flags)
        except BlockingIOError:
            continue
        if not data:
            return  # the other end knows why
        received += data
        sender.feed(_split(received))


def _split(received: bytearray) -> list[bytes]:
    """Take the complete packets out of *received*."""
    packets: list[bytes] = []
    at = 0
    while len(received) - at >= _HEAD.size:
        (size,) = _HEAD.unpack_from(received, at)
        if size > _MOST:
            raise BadEntry(f"a request of {size} bytes")
        end = at + _HEAD.size + size
        if end > len(received):
            break
        packets.append(bytes(received[at + _HEAD.size : end]))
        at = end
    del received[:at]
    return packets


class _Merged:
    """Several trees and some files as one list of entries in order; directories merge."""

    def __init__(
        self,
        walks: Sequence[tuple[Root, bytes, Walk]],
        files: Mapping[bytes, bytes],
        epoch: int | None,
    ) -> None:
        self._walks = walks
        self._files = files
        self._time = (epoch or 0) * 1_000_000_000

    def entries(self) -> Iterator[Stat]:
        sources: list[Iterator[tuple[bytes, int, Stat]]] = [self._added()]
        sources += [self._tree(number) for number in range(len(self._walks))]
        last: tuple[bytes, int, Stat] | None = None
        for item in heapq.merge(*sources, key=_rank):
            if last is not None and item[0] == last[0]:
                if not item[2].mode & last[2].mode & gomode.DIRECTORY:
                    self._clash(item[2].path, last[1], item[1])
                continue
            last = item
            yield item[2]

    def _clash(self, path: bytes, first: int, second: int) -> None:
        """Refuse a file that two trees have; those that are added win over a tree's [OUT-5]."""
        if first:
            raise UserError(
                f"cannot overwrite {os.fsdecode(path)} from {self._walks[first - 1][0].name} with "
                f"{self._walks[second - 1][0].name} when split option is disabled"
            )

    def _tree(self, number: int) -> Iterator[tuple[bytes, int, Stat]]:
        root, prefix, walk = self._walks[number]
        for entry in walk.entries():
            if prefix:
                entry.path = prefix + b"/" + entry.path
                if entry.linkname and not entry.mode & gomode.SYMLINK:
                    entry.linkname = prefix + b"/" + entry.linkname
            if root.epoch is not None:
                entry.mtime_ns = root.epoch * 1_000_000_000
            yield order_key(entry.path), number + 1, entry

    def _added(self) -> Iterator[tuple[bytes, int, Stat]]:
        """Give the files, and all directories that they and the prefixes need."""
        entries: dict[bytes, Stat] = {}
        for path, data in self._files.items():
            entries[path] = Stat(path=path, mode=0o644, size=len(data), mtime_ns=self._time)
        needed = [(path.rpartition(b"/")[0], self._time) for path in self._files]
        for root, prefix, _ in self._walks:
            needed.append((prefix, (root.epoch or 0) * 1_000_000_000))
        for path, time_ns in needed:
            while path and path not in entries:
                mode = gomode.DIRECTORY | 0o755
                entries[path] = Stat(path=path, mode=mode, mtime_ns=time_ns)
                path = path.rpartition(b"/")[0]
        for path in sorted(entries, key=order_key):
            yield order_key(path), 0, entries[path]

    def open(self, path: bytes) -> ReadableFile:
        data = self._files.get(path)
        if data is not None:
            return _Bytes(data)
        for _, prefix, walk in self._walks:
            if prefix and not path.startswith(prefix + b"/"):
                continue
            try:
                return walk.open(path[len(prefix) + 1 :] if prefix else path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # another tree at the same place has it
        raise FileNotFoundError(path)


def _rank(item: tuple[bytes, int, Stat]) -> tuple[bytes, int]:
    return item[0], item[1]


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)

    def close(self) -> None:
        pass
