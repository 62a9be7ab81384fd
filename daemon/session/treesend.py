"""Sends trees over a socket of packets, each after its length; blocking: for threads and workers.

Trees of builds may belong to ids that only a worker has the powers of, so a worker reads them
(`send_job`), and the main process hands the packets on to the client.
"""

from __future__ import annotations

import heapq
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pybuild.daemon.fsutil import gomode
from pybuild.daemon.fsutil.packet import Stat
from pybuild.daemon.fsutil.receiver import PeerFailed, Refused, order_key
from pybuild.daemon.fsutil.sender import Sender, Source
from pybuild.daemon.fsutil.walk import Walk
from pybuild.executor.zygote.overlay import mount_overlay
from pybuild.model.errors import UserError

_HEAD = struct.Struct("<I")
_MOST = 1 << 20


def send_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Worker function: send the trees of snapshots.

    ``trees``: each with ``lowers`` (base first), ``mount_dir`` (one of its own), ``userxattr`` and
    ``prefix`` ("" or a relative directory). ``files``: ``[path, bytes]`` to be added to them.
    ``epoch``: later times become this one, seconds. The socket is the one descriptor.
    """
    roots: list[tuple[str, str]] = []
    for tree in args["trees"]:
        mount_overlay(tree["mount_dir"], tree["lowers"], None, None, userxattr=tree["userxattr"])
        roots.append((tree["prefix"], tree["mount_dir"]))
    channel = socket.socket(fileno=os.dup(fds[0]))
    with channel:
        channel.setblocking(True)
        send_trees(channel, roots, dict(args.get("files", ())), epoch=args.get("epoch"))
    return {}


def send_trees(
    channel: socket.socket,
    roots: Sequence[tuple[str, str]],
    files: Mapping[str, bytes] | None = None,
    *,
    epoch: int | None = None,
) -> None:
    """Send directories as one tree, each below its prefix; returns when all was taken.

    Raises:
        UserError: the receiving end gave up, or breaks the rules.
    """
    with ExitStack() as stack:
        walks = [
            (os.fsencode(prefix), stack.enter_context(Walk(root, keep_owners=True)))
            for prefix, root in roots
        ]
        merged = _Merged(walks, {os.fsencode(k): v for k, v in (files or {}).items()}, epoch)
        sender = Sender(merged.entries(), merged.open)
        stack.callback(sender.close)
        try:
            _talk(channel, sender)
        except Refused as error:
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
            raise Refused(f"a request of {size} bytes")
        end = at + _HEAD.size + size
        if end > len(received):
            break
        packets.append(bytes(received[at + _HEAD.size : end]))
        at = end
    del received[:at]
    return packets


class _Merged:
    """Several trees and some files as one list of entries in order; of equal paths the first."""

    def __init__(
        self, walks: Sequence[tuple[bytes, Walk]], files: Mapping[bytes, bytes], epoch: int | None
    ) -> None:
        self._walks = walks
        self._files = files
        self._limit = None if epoch is None else epoch * 1_000_000_000
        self._time = self._limit or 0

    def entries(self) -> Iterator[Stat]:
        sources: list[Iterator[tuple[bytes, int, Stat]]] = [self._added()]
        sources += [self._tree(number) for number in range(len(self._walks))]
        last = b""
        for key, _, entry in heapq.merge(*sources, key=_rank):
            if key == last:
                continue
            last = key
            if self._limit is not None and entry.mtime_ns > self._limit:
                entry.mtime_ns = self._limit
            yield entry

    def _tree(self, number: int) -> Iterator[tuple[bytes, int, Stat]]:
        prefix, walk = self._walks[number]
        for entry in walk.entries():
            if prefix:
                entry.path = prefix + b"/" + entry.path
                if entry.linkname and not entry.mode & gomode.SYMLINK:
                    entry.linkname = prefix + b"/" + entry.linkname
            yield order_key(entry.path), number + 1, entry

    def _added(self) -> Iterator[tuple[bytes, int, Stat]]:
        """Give the files, and all directories that they and the prefixes need."""
        found: dict[bytes, Stat] = {}
        for path, data in self._files.items():
            found[path] = Stat(path=path, mode=0o644, size=len(data), mtime_ns=self._time)
        needed = [*(path.rpartition(b"/")[0] for path in self._files)]
        needed += [prefix for prefix, _ in self._walks]
        for path in needed:
            while path and path not in found:
                mode = gomode.DIRECTORY | 0o755
                found[path] = Stat(path=path, mode=mode, mtime_ns=self._time)
                path = path.rpartition(b"/")[0]
        for path in sorted(found, key=order_key):
            yield order_key(path), 0, found[path]

    def open(self, path: bytes) -> Source:
        data = self._files.get(path)
        if data is not None:
            return _Bytes(data)
        for prefix, walk in self._walks:
            if not prefix:
                return walk.open(path)
            if path.startswith(prefix + b"/"):
                return walk.open(path[len(prefix) + 1 :])
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
