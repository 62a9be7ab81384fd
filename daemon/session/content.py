"""Stores of blobs at the client: OCI layouts, caches in directories, and where exports go."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb.content import (
    COMMIT,
    STAT,
    WRITE,
    InfoRequest,
    InfoResponse,
    ListContentRequest,
    ListContentResponse,
    ReadContentRequest,
    ReadContentResponse,
    WriteContentRequest,
    WriteContentResponse,
)
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

SERVICE = "/containerd.services.content.v1.Content/"
EXPORT = "export"
_STORE = "buildkit-attachable-store-id"
_PIECE = 1 << 20
_MOST_PIECE = 3 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """A store's facts about a blob."""

    digest: str
    size: int
    labels: Mapping[str, str]


class SessionContent:
    """One store of a client: ``local:<dir>``, ``oci:<name>`` or ``export``.

    Bytes that are read are not checked: their caller knows what it asked for.

    Raises (all methods):
        UserError: the client refuses. Cancelled: it has gone.

    Raises:
        UserError: a call cannot carry such a name.
    """

    def __init__(self, session: Session, store_id: str) -> None:
        if not (store_id.isascii() and store_id.isprintable()):
            raise UserError(
                f'"{store_id}": header key "{_STORE}" contains value with non-printable ASCII characters'
            )
        self._session = session
        self._id = store_id

    def offered(self) -> bool:
        return self._session.offers(SERVICE + "Info")

    async def info(self, digest: Digest) -> BlobInfo | None:
        """Return the facts about a blob; None when it is not there."""
        request = InfoRequest(digest=digest).SerializeToString()
        try:
            data = await self._session.unary(
                SERVICE + "Info", request, metadata=self._metadata(), timeout=_TIMEOUT_S
            )
            info = InfoResponse.FromString(data).info
        except RpcError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise failed(self._doing(digest), error) from error
        except DecodeError as error:
            raise self._unreadable(digest) from error
        return BlobInfo(digest=info.digest, size=info.size, labels=dict(info.labels))

    async def read(self, digest: Digest, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes]:
        """Give *size* bytes of a blob, or all after *offset*, in pieces."""
        request = ReadContentRequest(digest=digest, offset=offset, size=size)
        try:
            async with self._session.stream(SERVICE + "Read", metadata=self._metadata()) as call:
                await call.send(request.SerializeToString())
                await call.half_close()
                while (message := await call.receive()) is not None:
                    piece = ReadContentResponse.FromString(message)
                    if piece.data and piece.offset != offset:
                        raise self._unreadable(digest)
                    offset += len(piece.data)
                    yield piece.data
        except RpcError as error:
            raise failed(self._doing(digest), error) from error
        except DecodeError as error:
            raise self._unreadable(digest) from error

    async def list(self) -> list[BlobInfo]:
        """Return all blobs of the store, by digest."""
        blobs: list[BlobInfo] = []
        try:
            async with self._session.stream(SERVICE + "List", metadata=self._metadata()) as call:
                await call.send(ListContentRequest().SerializeToString())
                await call.half_close()
                while (message := await call.receive()) is not None:
                    for info in ListContentResponse.FromString(message).info:
                        blobs.append(
                            BlobInfo(digest=info.digest, size=info.size, labels=dict(info.labels))
                        )
        except RpcError as error:
            raise failed(f"list store {self._id} of the client", error) from error
        except DecodeError as error:
            raise self._unreadable("") from error
        return sorted(blobs, key=lambda info: info.digest)

    async def write(
        self,
        digest: Digest,
        size: int,
        pieces: AsyncIterable[bytes],
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        """Put a blob into the store; return False if it was there.

        Raises:
            EnvironmentFault: *pieces* are not *size* bytes.
        """
        try:
            return await self._write(digest, size, pieces, labels or {})
        except RpcError as error:
            if error.code is Code.ALREADY_EXISTS:
                return False
            raise failed(f"write {digest} to store {self._id} of the client", error) from error
        except DecodeError as error:
            raise self._unreadable(digest) from error

    async def _write(
        self, digest: Digest, size: int, pieces: AsyncIterable[bytes], labels: Mapping[str, str]
    ) -> bool:
        ref = f"pybuild-{digest}-{os.urandom(8).hex()}"
        async with self._session.stream(SERVICE + "Write", metadata=self._metadata()) as call:

            async def ask(request: WriteContentRequest) -> WriteContentResponse:
                await call.send(request.SerializeToString())
                answer = await call.receive()
                if answer is None:
                    raise UserError(f"write {digest}: the client's store ended the call")
                return WriteContentResponse.FromString(answer)

            begun = await ask(
                WriteContentRequest(action=STAT, ref=ref, total=size, expected=digest)
            )
            if begun.offset:
                raise UserError(f"write {digest}: the client's store has a part of it already")
            offset = 0
            async for piece in _regular(pieces):
                answer = await ask(
                    WriteContentRequest(action=WRITE, ref=ref, offset=offset, data=piece)
                )
                offset += len(piece)
                if answer.offset != offset:
                    raise UserError(f"write {digest}: the client's store lost some of it")
            if offset != size:
                raise EnvironmentFault(f"{digest} has {offset} bytes instead of {size}")
            request = WriteContentRequest(
                action=COMMIT, ref=ref, offset=offset, total=size, expected=digest, labels=labels
            )
            done = await ask(request)
            if done.digest and done.digest != digest:
                raise UserError(f"write {digest}: the client's store says {done.digest}")
            await call.half_close()
        return True

    def _metadata(self) -> Metadata:
        return Metadata({_STORE: self._id})

    def _doing(self, digest: str) -> str:
        return f"read {digest} from store {self._id} of the client"

    def _unreadable(self, digest: str) -> UserError:
        return UserError(f"{self._doing(digest)}: its answer cannot be read")


async def _regular(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Give the same bytes in pieces that are neither tiny nor too long for a message."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= _PIECE:
            head = bytes(buffer[:_MOST_PIECE])
            del buffer[:_MOST_PIECE]
            yield head
    if buffer:
        yield bytes(buffer)
