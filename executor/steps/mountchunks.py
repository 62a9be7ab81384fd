"""Worker functions that carry a cache mount in chunks: its tree to packs of new chunks, and packs to a tree."""

from __future__ import annotations

import hashlib
import os
import struct

from pybuild.executor.steps.mounttars import fill, write_tar
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.executor.files.values import OwnerMode
    from pybuild.model.border import WorkerCall

_AVERAGE, _LEAST, _MOST = 1 << 16, 1 << 14, 1 << 19
"""Of a chunk: what is moved for a change, against the length of the index."""
_WINDOW = 8 << 20
_CUT = struct.Struct(">32sI")
_PLACE = struct.Struct(">32sIHI")


class PackFile(NamedTuple):
    """A pack that was written: its digest, its size, and that of the chunks in it."""

    digest: str
    size: int
    whole: int


class PackedMount(NamedTuple):
    """A mount that was cut: digest and size of each chunk, in order, and the packs of the new ones."""

    chunks: bytes
    size: int
    packs: tuple[PackFile, ...]


def pack_job(
    call: WorkerCall, path: str, known: bytes, directory: str, most: int, pack_bytes: int
) -> PackedMount:
    """Cut the tree at *path* into chunks; write packs of those that are new into *directory*, by number.

    Args:
        known: the digests of chunks that need not be written, one behind the other.
        most: the largest size that is carried.

    Raises:
        Fault: user; it is larger. Environment; the package that cuts is missing.
    """
    packer = _Packer({known[at : at + 32] for at in range(0, len(known), 32)}, directory)
    packer.most, packer.pack_bytes = most, pack_bytes
    write_tar(path, packer.write)
    packer.cut(last=True)
    packer.end_pack()
    return PackedMount(bytes(packer.chunks), packer.size, tuple(packer.packs))


class _Packer:
    """Takes a tar, and cuts it where its content says: the same bytes in a row are the same chunks.

    Attributes:
        size: of the tar so far.
    """

    most = 0
    pack_bytes = 0

    def __init__(self, known: set[bytes], directory: str) -> None:
        try:
            from pyfastcdc import FastCDC
        except ImportError as error:
            raise Fault(
                ENVIRONMENT,
                "the Python package pyfastcdc is not installed",
                ("pip install pyfastcdc",),
            ) from error
        self._cut = FastCDC(avg_size=_AVERAGE, min_size=_LEAST, max_size=_MOST).cut_buf
        self._known = known
        self._directory = directory
        self._buffer = bytearray()
        self._pack: list[bytes] = []
        self._packed = 0
        self.size = 0
        self.chunks = bytearray()
        self.packs: list[PackFile] = []

    def write(self, data: memoryview) -> None:
        self.size += len(data)
        if self.size > self.most:
            raise Fault(USER, f"it takes more than {self.most} bytes")
        self._buffer += data
        if len(self._buffer) >= _WINDOW:
            self.cut()

    def cut(self, *, last: bool = False) -> None:
        """Take the chunks that have an end; the *last* one ends where the tar does."""
        data = bytes(self._buffer)
        sizes = [chunk.length for chunk in self._cut(data)]
        kept = 0 if last or not sizes else sizes.pop()
        self._buffer = bytearray(data[len(data) - kept :])
        at = 0
        for size in sizes:
            self._take(data[at : at + size])
            at += size

    def _take(self, chunk: bytes) -> None:
        digest = hashlib.sha256(chunk).digest()
        self.chunks += _CUT.pack(digest, len(chunk))
        if digest in self._known:
            return
        self._known.add(digest)
        if self._packed + len(chunk) > self.pack_bytes:
            self.end_pack()
        self._pack.append(chunk)
        self._packed += len(chunk)

    def end_pack(self) -> None:
        """Write the pack, if there is anything in it."""
        if not self._pack:
            return
        import zstandard

        data = zstandard.ZstdCompressor(level=3).compress(b"".join(self._pack))
        with open(os.path.join(self._directory, str(len(self.packs))), "xb") as file:
            file.write(data)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.packs.append(PackFile(digest, len(data), self._packed))
        self._pack, self._packed = [], 0


def unpack_job(
    call: WorkerCall,
    target: str,
    look: OwnerMode,
    name: str,
    directory: str,
    sizes: tuple[int, ...],
    records: bytes,
) -> None:
    """Unpack a mount into *target*, an empty directory that nothing can leave.

    Args:
        look: of the directory itself.
        name: of the mount, for messages.
        directory: has its packs, by number.
        sizes: of the chunks in each pack.
        records: the places of its chunks, in order.

    Raises:
        Fault: a chunk is not what the index says, or there is no room.
    """
    fill(target, look, name, _chunks(directory, sizes, _PLACE.iter_unpack(records)))


def _chunks(
    directory: str, sizes: tuple[int, ...], places: Iterable[tuple[bytes, int, int, int]]
) -> Callable[[], bytes]:
    """Return a reader of the tar that the chunks at *places* are, each compared with its digest."""
    opened: dict[int, int] = {}
    left = iter(places)

    def read() -> bytes:
        try:
            digest, size, pack, offset = next(left)
        except StopIteration:
            return b""
        if pack not in opened:
            opened[pack] = _open_pack(os.path.join(directory, str(pack)), sizes[pack])
        data = os.pread(opened[pack], size, offset)
        if hashlib.sha256(data).digest() != digest:
            raise Fault(ENVIRONMENT, f"chunk sha256:{digest.hex()} is damaged")
        return data

    return read


def _open_pack(path: str, size: int) -> int:
    """Return a descriptor of a pack's chunks, which the process takes with it when it ends."""
    import zstandard

    data = b""
    try:
        with open(path, "rb") as file:
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)
            while len(data) <= size and (piece := reader.read(size + 1 - len(data))):
                data += piece
    except zstandard.ZstdError as error:
        raise Fault(ENVIRONMENT, f"a pack is damaged: {error}") from error
    if len(data) != size:
        raise Fault(ENVIRONMENT, "a pack is damaged: it has another size")
    with open(path, "r+b") as file:
        file.truncate()
        file.write(data)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
