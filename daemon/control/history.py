"""The history of builds: one record a build on disk, its progress and error beside it [7.6].

`<root>/history/<owner>/records/<ref>` holds a serialized record, `blobs/<hex>` beside it what the
records' descriptors name, images without their layers. Records are written whole or not at all; a
blob that no record names is removed with the next record that goes. Another server may have the same store: what is to be removed
may be gone already.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import seconds_of
from pybuild.cache.disk.atomic import make_parents
from pybuild.image.archive import BlobPath, reachable
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.net.grpc.status import Code, RpcError

MAX_RECORDS = 200
MAX_BYTES = 512 << 20
"""That one owner's records take with all that they name; half of it may be pinned."""
MAX_UNREAD = 1000
_YOUNG_S = 600.0
_PIECE_BYTES = 1 << 20
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
STATUS_TYPE = "application/vnd.buildkit.status.v0"
ERROR_TYPE = "application/vnd.googeapis.google.rpc.status+proto"  # misspelt so by the protocol


class History:
    """The records of one owner; methods that touch files block, and may be called in any thread.

    Args:
        place: of the owner, below the history's folder.
    """

    def __init__(self, root: str, place: str = "") -> None:
        self._records = os.path.join(root, "history", place, "records")
        self._blobs = os.path.join(root, "history", place, "blobs")
        for folder in (self._records, self._blobs):
            make_parents(os.path.join(folder, "of these"), 0o700)
        self._active: dict[str, pb.BuildHistoryRecord] = {}
        self._listeners: dict[
            asyncio.Queue[pb.BuildHistoryEvent | None], asyncio.AbstractEventLoop
        ] = {}
        self._removing = threading.Lock()

    # --- writing ----------------------------------------------------------------------------------

    def begin(self, record: pb.BuildHistoryRecord) -> None:
        """A build has started."""
        self._active[record.Ref] = record
        self._tell(pb.STARTED, record)

    def end(self, record: pb.BuildHistoryRecord) -> None:
        """A build has ended: keep it."""
        self._active.pop(record.Ref, None)
        if _REF.match(record.Ref):
            self._write(os.path.join(self._records, record.Ref), record.SerializeToString())
            self._trim()
        self._tell(pb.COMPLETE, record)

    def drop(self, record: pb.BuildHistoryRecord) -> None:
        """A build has ended that cannot be kept."""
        self._active.pop(record.Ref, None)
        self._tell(pb.DELETED, record)

    def add_blob(self, data: bytes, media_type: str) -> pb.Descriptor:
        """Keep a blob that a record will name."""
        return self.add_pieces((data,), media_type)

    def add_pieces(self, pieces: Iterable[bytes], media_type: str) -> pb.Descriptor:
        """Keep a blob that a record will name, without having it in memory."""
        digest, size = hashlib.sha256(), 0
        temporary = os.path.join(self._blobs, f".{os.urandom(12).hex()}")
        try:
            with open(temporary, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += file.write(piece)
            os.replace(temporary, os.path.join(self._blobs, digest.hexdigest()))
        except OSError:
            _unlink(temporary)
            raise
        name = f"sha256:{digest.hexdigest()}"
        return pb.Descriptor(media_type=media_type, digest=name, size=size)

    def add_image(self, image: Descriptor, blob_path: BlobPath) -> pb.Descriptor:
        """Keep the documents of an image that a record will name: all but its layers.

        Raises:
            PybuildError: the store has lost one of them. OSError: it cannot be kept.
        """
        for blob in reachable(image, blob_path):
            if not blob.media_type.startswith(_LAYERS):
                self.add_pieces(_pieces(blob_path(blob.digest)), blob.media_type)
        return pb.Descriptor(
            media_type=image.media_type,
            digest=image.digest,
            size=image.size,
            annotations=image.annotations,
        )

    def delete(self, ref: str) -> bool:
        """Forget a build; False if there is none."""
        record = self.get(ref)
        if record is None or ref in self._active:
            return False
        path = os.path.join(self._records, ref)
        with self._removing:
            removed = self._removed(record, path)
            _unlink(path)
            self._sweep(removed)
        self._tell(pb.DELETED, record)
        return True

    def pin(self, ref: str, pinned: bool) -> bool:
        """Keep a build whatever its age, or no longer; False if there is none.

        Raises:
            RpcError: so much is kept already that nothing is left for other builds.
        """
        record = self.get(ref)
        if record is None:
            return False
        if pinned and not record.pinned:
            kept = [one for one in self.records() if one.pinned]
            size = sum(map(self._size, (*kept, record)))
            if len(kept) >= MAX_RECORDS or size > MAX_BYTES // 2:
                raise RpcError(Code.RESOURCE_EXHAUSTED, "too much of the history is pinned")
        record.pinned = pinned
        if ref not in self._active:
            self._write(os.path.join(self._records, ref), record.SerializeToString())
        return True

    def _write(self, path: str, data: bytes) -> None:
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, f".{name}.{os.urandom(6).hex()}")  # a name of no build
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            _unlink(temporary)
            raise

    def _trim(self) -> None:
        with self._removing:
            records = self.records()
            old = [record for record in records if not record.pinned]
            size = sum(map(self._size, records))
            removed: dict[str, float] = {}
            while old and (len(old) > MAX_RECORDS or size > MAX_BYTES):
                record = old.pop(0)
                size -= self._size(record)
                path = os.path.join(self._records, record.Ref)
                removed |= self._removed(record, path)
                _unlink(path)
            if removed:
                self._sweep(removed)

    def _removed(self, record: pb.BuildHistoryRecord, path: str) -> dict[str, float]:
        """Return the names of a record's blobs, and when the record was written."""
        names = {d.digest.partition(":")[2] for d in _descriptors(record)}
        for image in record.Result.Results.values():
            names |= self._documents(image)
        try:
            return dict.fromkeys(names, os.path.getmtime(path))
        except FileNotFoundError:
            return {}

    def _size(self, record: pb.BuildHistoryRecord) -> int:
        """Return the bytes of a record and what it names; not the documents of images, which are small."""
        return record.ByteSize() + sum(d.size for d in _descriptors(record))

    def _sweep(self, removed: Mapping[str, float] | None = None) -> None:
        """Remove what no record names; *removed*: what those named that just went, and when they were written."""
        removed = removed or {}
        records = self.records()
        named = {d.digest.partition(":")[2] for r in records for d in _descriptors(r)}
        for image in {d.digest: d for r in records for d in r.Result.Results.values()}.values():
            named |= self._documents(image)
        for name in os.listdir(self._blobs):
            path = os.path.join(self._blobs, name)
            if name in named:
                continue
            # A young one may belong to a record that is about to be written.
            with suppress(FileNotFoundError):
                made = os.path.getmtime(path)
                if made <= removed.get(name, 0.0) or time.time() - made > _YOUNG_S:
                    os.unlink(path)

    def _documents(self, image: pb.Descriptor) -> set[str]:
        """Return the names of the blobs of a kept image, and of its layers."""
        try:
            top = Descriptor(image.media_type, Digest.parse(image.digest), image.size)
            return {blob.digest.hex for blob in reachable(top, self._blob)}
        except (PybuildError, OSError, ValueError):
            return set()  # it is damaged: nobody can read it

    def _blob(self, digest: Digest) -> str:
        return os.path.join(self._blobs, digest.hex)

    # --- reading ----------------------------------------------------------------------------------

    def get(self, ref: str) -> pb.BuildHistoryRecord | None:
        if ref in self._active:
            return self._active[ref]
        return self._read(ref) if _REF.match(ref) else None

    def records(self) -> list[pb.BuildHistoryRecord]:
        """Every finished build, oldest first."""
        names = (name for name in os.listdir(self._records) if _REF.match(name))
        records = [record for name in names if (record := self._read(name)) is not None]
        return sorted(records, key=lambda record: (seconds_of(record.CreatedAt), record.Ref))

    def active(self) -> list[pb.BuildHistoryRecord]:
        return list(self._active.values())

    def _read(self, name: str) -> pb.BuildHistoryRecord | None:
        try:
            with open(os.path.join(self._records, name), "rb") as file:
                record = pb.BuildHistoryRecord()
                record.ParseFromString(file.read())
                return record
        except (FileNotFoundError, DecodeError):
            return None

    def blob_path(self, digest: str) -> str | None:
        """The path of the blob; None when there is none."""
        algorithm, _, name = digest.partition(":")
        if algorithm != "sha256" or not _HEX.match(name):
            return None
        path = os.path.join(self._blobs, name)
        return path if os.path.exists(path) else None

    def blobs(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the digests of all blobs, in their order, with the state of their files."""
        for name in sorted(filter(_HEX.match, os.listdir(self._blobs))):
            with suppress(FileNotFoundError):
                yield f"sha256:{name}", os.stat(os.path.join(self._blobs, name))

    # --- listening --------------------------------------------------------------------------------

    async def listen(self, request: pb.BuildHistoryRequest) -> AsyncIterator[pb.BuildHistoryEvent]:
        """Yield the records there are, then, unless *EarlyExit*, the events that follow.

        Whoever leaves too many of them unread hears no more.
        """
        queue: asyncio.Queue[pb.BuildHistoryEvent | None] = asyncio.Queue()
        self._listeners[queue] = asyncio.get_running_loop()
        try:
            events = [pb.BuildHistoryEvent(type=pb.STARTED, record=r) for r in self.active()]
            if not request.ActiveOnly:
                done = await asyncio.to_thread(self.records)
                events += [pb.BuildHistoryEvent(type=pb.COMPLETE, record=r) for r in done]
            matching = [event for event in events if _is_requested(event, request)]
            if request.Limit:
                matching = matching[-request.Limit :]
            for event in matching:
                yield event
            while not request.EarlyExit:
                next_event = await queue.get()
                if next_event is None:
                    return
                if _is_requested(next_event, request):
                    yield next_event
        finally:
            del self._listeners[queue]

    def _tell(self, kind: int, record: pb.BuildHistoryRecord) -> None:
        event = pb.BuildHistoryEvent(type=kind, record=record)
        for queue, loop in list(self._listeners.items()):  # at once, whatever other threads do
            loop.call_soon_threadsafe(_put, queue, event)


def _put(queue: asyncio.Queue[pb.BuildHistoryEvent | None], event: pb.BuildHistoryEvent) -> None:
    if queue.qsize() < MAX_UNREAD:
        queue.put_nowait(event)
    elif queue.qsize() == MAX_UNREAD:
        queue.put_nowait(None)


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _is_requested(event: pb.BuildHistoryEvent, request: pb.BuildHistoryRequest) -> bool:
    if request.Ref and event.record.Ref != request.Ref:
        return False
    return all(_matches(event.record, text) for text in request.Filter if text)


def _matches(record: pb.BuildHistoryRecord, text: str) -> bool:
    """``status==error`` and the like; a filter that we do not know lets everything pass."""
    key, equals, value = text.partition("==" if "==" in text else "=")
    if not equals:
        return True
    match key.strip():
        case "ref":
            return record.Ref == value
        case "status":
            failed = record.HasField("error")
            running = not record.HasField("CompletedAt")
            now = "running" if running else "error" if failed else "completed"
            return now == value
        case _:
            return True


def _descriptors(record: pb.BuildHistoryRecord) -> Iterable[pb.Descriptor]:
    for name in ("logs", "trace", "externalError"):
        if record.HasField(name):
            yield getattr(record, name)
    results = [record.Result, *record.Results.values()]
    for result in results:
        yield from result.Attestations
        yield from result.Results.values()
