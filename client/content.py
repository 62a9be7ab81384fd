"""Lends directories of blobs, laid out as OCI says, to a build server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress

from pybuild.buildkit.pb.content import (
    COMMIT,
    STAT,
    WRITE,
    Info,
    InfoRequest,
    InfoResponse,
    ListContentResponse,
    ReadContentRequest,
    ReadContentResponse,
    WriteContentRequest,
    WriteContentResponse,
)
from pybuild.exporter.directories import make_output
from pybuild.image.layer.writing import write_all
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/containerd.services.content.v1.Content/"
_STORE = "buildkit-attachable-store-id"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class BlobDirectory:
    """A directory with ``blobs/<algorithm>/<hex>``."""

    path: str
    writable: bool = False

    def blob(self, digest: str) -> str:
        """Return the path of a blob.

        Raises:
            RpcError: *digest* is none.
        """
        try:
            known = Digest.parse(digest)
        except (UserError, ValueError) as error:
            raise RpcError(Code.INVALID_ARGUMENT, f"invalid digest {digest!r}") from error
        algorithm, _, hex = known.partition(":")
        return os.path.join(self.path, "blobs", algorithm, hex)


def content(stores: Mapping[str, BlobDirectory]) -> dict[str, Handler]:
    """Serve *stores*, by id: ``local:<dir>``, ``oci:<name>``, ``export``."""

    def find(metadata: Metadata) -> BlobDirectory:
        id = metadata.get(_STORE) or ""
        store = stores.get(id)
        if store is None:
            raise RpcError(Code.UNKNOWN, f"unknown content store {id!r}")
        return store

    async def info(data: bytes, call: IncomingCall) -> bytes:
        digest = InfoRequest.FromString(data).digest
        size = _size(find(call.metadata).blob(digest), digest)
        return InfoResponse(info=Info(digest=digest, size=size)).SerializeToString()

    async def read(call: IncomingCall) -> None:
        store = find(call.metadata)
        request = ReadContentRequest.FromString(await call.receive() or b"")
        path = store.blob(request.digest)
        size = _size(path, request.digest)
        if not 0 <= request.offset <= size or request.size < 0:
            raise RpcError(Code.OUT_OF_RANGE, f"{request.digest} has {size} bytes")
        left = request.size or size - request.offset
        offset = request.offset
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while left > 0:
                data = await asyncio.to_thread(os.pread, fd, min(left, _PIECE), offset)
                if not data:
                    break
                answer = ReadContentResponse(offset=offset, data=data)
                await call.send(answer.SerializeToString())
                offset += len(data)
                left -= len(data)
        finally:
            os.close(fd)

    async def list_(call: IncomingCall) -> None:
        store = find(call.metadata)
        await call.receive()
        for algorithm in sorted(_names(os.path.join(store.path, "blobs"))):
            for hex in sorted(_names(os.path.join(store.path, "blobs", algorithm))):
                digest = f"{algorithm}:{hex}"
                one = Info(digest=digest, size=_size(store.blob(digest), digest))
                await call.send(ListContentResponse(info=[one]).SerializeToString())

    async def write(call: IncomingCall) -> None:
        store = find(call.metadata)
        if not store.writable:
            raise RpcError(Code.PERMISSION_DENIED, "the content store is for reading")
        ingest = Ingest(store)
        try:
            while (message := await call.receive()) is not None:
                request = WriteContentRequest.FromString(message)
                answer = await asyncio.to_thread(ingest.take, request)
                await call.send(answer.SerializeToString())
        except OSError as error:
            raise RpcError(Code.UNKNOWN, f"cannot write a blob: {error.strerror}") from error
        finally:
            ingest.close()

    return {
        _SERVICE + "Info": unary(info),
        _SERVICE + "Read": read,
        _SERVICE + "List": list_,
        _SERVICE + "Write": write,
    }


class Ingest:
    """One blob on its way in."""

    def __init__(self, store: BlobDirectory) -> None:
        self._store = store
        self._fd = -1
        self._tmp = ""
        self._folder = -1
        self._offset = 0
        self._hash = hashlib.sha256()

    def take(self, request: WriteContentRequest) -> WriteContentResponse:
        if request.expected and os.path.exists(self._store.blob(request.expected)):
            raise RpcError(Code.ALREADY_EXISTS, f"content {request.expected} exists")
        if request.action not in (STAT, WRITE, COMMIT):
            raise RpcError(Code.INVALID_ARGUMENT, f"unknown action {request.action}")
        if request.action != STAT:
            self._write(request)
        digest = ""
        if request.action == COMMIT:
            digest = self._commit(request)
        return WriteContentResponse(
            action=request.action, offset=self._offset, total=request.total, digest=digest
        )

    def _write(self, request: WriteContentRequest) -> None:
        if request.data and request.offset != self._offset:
            raise RpcError(
                Code.OUT_OF_RANGE, f"offset is {request.offset} instead of {self._offset}"
            )
        if self._fd < 0:
            folder = os.path.join(self._store.path, "blobs", "sha256")
            self._folder = make_output(folder)
            self._tmp = f".{os.urandom(8).hex()}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._tmp, flags, 0o644, dir_fd=self._folder)
        self._hash.update(request.data)
        self._offset += len(request.data)
        write_all(self._fd, request.data)

    def _commit(self, request: WriteContentRequest) -> str:
        digest = "sha256:" + self._hash.hexdigest()
        if request.expected and digest != request.expected:
            raise RpcError(
                Code.FAILED_PRECONDITION, f"unexpected digest {digest}, not {request.expected}"
            )
        if request.total and self._offset != request.total:
            raise RpcError(
                Code.FAILED_PRECONDITION, f"{self._offset} bytes instead of {request.total}"
            )
        if self._tmp:
            name = self._hash.hexdigest()
            os.replace(self._tmp, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._tmp = ""
        return digest

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._tmp:
            with suppress(OSError):
                os.unlink(self._tmp, dir_fd=self._folder)
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _size(path: str, digest: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise RpcError(Code.NOT_FOUND, f"content {digest} not found") from error


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []
