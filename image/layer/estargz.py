"""eStargz: a gzip layer with a table of contents, of which files can be fetched one by one [OUT-10, OUT-11].

Each chunk of a file begins a gzip member of its own; a last entry of the tar lists where each begins
and what it must hash to. So the diffID is another one than that of the plain layer. As BuildKit does
it, no landmark files are added.

Source: containerd/stargz-snapshotter, docs/estargz.md. Lean: runs in workers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time

from pybuild.image.layer import tarformat
from pybuild.image.layer.compression import DigestedFile
from pybuild.image.layer.faults import refuse
from pybuild.image.layer.gzipblocks import gzip_member
from pybuild.image.layer.orders import LayerBlob
from pybuild.image.layer.pieces import PIECE, Chunker
from pybuild.image.layer.tarreader import Member, TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

TOC_NAME = b"stargz.index.json"
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
CHUNK = 4 << 20
FOOTER_BYTES = 51
_KINDS = {
    b"0": "reg",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}


def pack(
    path: str,
    level: int | None,
    produce: Callable[[Chunker], None],
    progress: Callable[[int], None],
) -> LayerBlob:
    """Write the layer tar that *produce* makes to the new file *path*, as eStargz.

    Two passes, as an entry must be known before it is written; the tar is beside *path* meanwhile.
    """
    import tempfile

    with tempfile.TemporaryFile(dir=os.path.dirname(path)) as tar:
        out = Chunker.into(tar.write)
        produce(out)
        out.end()
        tar.seek(0)
        with open(path, "xb") as file:
            try:
                return _Packer(file, level, progress).run(tar)
            except BaseException:
                os.unlink(path)
                raise


class _Packer:
    """One blob in the making."""

    def __init__(self, out: BinaryIO, level: int | None, progress: Callable[[int], None]) -> None:
        self._out = DigestedFile(out)
        self._level = level
        self._progress = progress
        self._inner = hashlib.sha256()
        self._plain_size = 0
        self._pending = bytearray()  # what the gzip member that is open holds
        self._entries: list[dict[str, Any]] = []

    def run(self, tar: BinaryIO) -> LayerBlob:
        reader = TarReader(lambda: tar.read(PIECE))
        at = 0  # how much of the tar is packed
        while (member := reader.next()) is not None:
            if member.name.removeprefix(b"./") == TOC_NAME:
                raise refuse(
                    f"the layer has a file {TOC_NAME.decode()}: that is eStargz's own",
                    "remove it, or choose another compression",
                )
            start = reader.position
            self._pending += _between(tar, at, start)
            self._file(tar, start, member) if member.size else self._entries.append(_entry(member))
            padding = tarformat.padding(member.size)
            self._pending += padding
            at = start + member.size + len(padding)
            if len(self._pending) >= 2 * CHUNK:  # so many entries without content
                self._close_member()
        return self._finish()

    def _file(self, tar: BinaryIO, start: int, member: Member) -> None:
        """Write a file's content, each chunk at the beginning of a gzip member."""
        whole = hashlib.sha256()
        first: dict[str, Any] | None = None
        for offset in range(0, member.size, CHUNK):
            self._close_member()
            data = _between(tar, start + offset, start + min(offset + CHUNK, member.size))
            whole.update(data)
            entry: dict[str, Any] = {"name": _text(member.name), "type": "chunk"}
            if first is None:
                entry = first = _entry(member)
            entry["offset"] = self._out.size
            if offset:
                entry["chunkOffset"] = offset
            if offset + len(data) < member.size:
                entry["chunkSize"] = len(data)
            entry["chunkDigest"] = "sha256:" + hashlib.sha256(data).hexdigest()
            self._entries.append(entry)
            self._pending += data
            self._progress(self._plain_size)
        assert first is not None
        first["digest"] = "sha256:" + whole.hexdigest()

    def _close_member(self) -> None:
        if self._pending:
            self._inner.update(self._pending)
            self._plain_size += len(self._pending)
            self._out.write(gzip_member(bytes(self._pending), self._level))
            self._pending.clear()

    def _finish(self) -> LayerBlob:
        self._close_member()
        place = self._out.size
        toc = json.dumps({"version": 1, "entries": self._entries}, separators=(",", ":")).encode()
        self._pending += tarformat.entry(TOC_NAME, tarformat.REGULAR, mode=0o444, size=len(toc))
        self._pending += toc + tarformat.padding(len(toc)) + tarformat.END
        self._close_member()
        self._out.write(footer(place))
        annotations = {
            TOC_DIGEST: "sha256:" + hashlib.sha256(toc).hexdigest(),
            UNCOMPRESSED_SIZE: str(self._plain_size),
        }
        diff_id = "sha256:" + self._inner.hexdigest()
        return LayerBlob(diff_id, self._out.digest, self._out.size, self._plain_size, annotations)


def footer(toc_offset: int) -> bytes:
    """Return the empty gzip member that says where the table of contents begins."""
    where = b"%016xSTARGZ" % toc_offset
    extra = b"SG" + len(where).to_bytes(2, "little") + where
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra
    return head + b"\x01\0\0\xff\xff" + bytes(8)


def _between(tar: BinaryIO, start: int, end: int) -> bytes:
    data = b""
    while len(data) < end - start and (
        piece := os.pread(tar.fileno(), end - start - len(data), start + len(data))
    ):
        data += piece
    return data


def _entry(member: Member) -> dict[str, Any]:
    """Return the table's record of an entry, without fields that are zero, but for the required ones."""
    entry: dict[str, Any] = {"name": _text(member.name), "type": _KINDS[member.kind]}
    if member.size:
        entry["size"] = member.size
    seconds = member.mtime_ns // 1_000_000_000
    if seconds:
        entry["modtime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    if member.link:
        entry["linkName"] = _text(member.link)
    entry |= {"mode": member.mode, "uid": member.uid, "gid": member.gid}
    if member.kind in b"34":
        entry |= {"devMajor": member.major, "devMinor": member.minor}
    if member.xattrs:
        entry["xattrs"] = {
            name: base64.b64encode(value).decode() for name, value in sorted(member.xattrs.items())
        }
    if member.kind == b"0" and not member.size:
        entry["digest"] = "sha256:" + hashlib.sha256().hexdigest()
    return entry


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")  # JSON has nothing for other bytes
