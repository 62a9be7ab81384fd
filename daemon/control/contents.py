"""Reading blobs of the history: logs, errors, attestations, images without their layers [8]."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence

from pybuild.buildkit.llb.graph import shortened
from pybuild.buildkit.pb import content as pb
from pybuild.buildkit.pb.times import timestamp
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.frontend.parsing import parse
from pybuild.model import regex
from pybuild.model.errors import PybuildError
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/containerd.services.content.v1.Content/"
_PIECE_BYTES = 1 << 20
_LISTED = 100  # blobs of one message
_MOST_FILTERS, _MOST_FILTER_CHARS = 64, 4096
_FILTER = re.compile(
    r'(digest|labels\.(?:"[^"]*"|[\w/.-]+))(?:(==|!=|~=)(?:"([^"]*)"|([^",\s]*)))?\Z'
)
_CHANGES = ("Update", "Delete", "Write", "Abort")
Picks = Callable[[str], bool]


class ContentService:
    """`Content`, read-only."""

    def __init__(self, server: BuildServer) -> None:
        self._server = server

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            _SERVICE + "Info": unary(self._info),
            _SERVICE + "Read": self._read,
            _SERVICE + "List": self._list,
            _SERVICE + "Status": unary(self._status),
            _SERVICE + "ListStatuses": unary(self._list_statuses),
            **{_SERVICE + name: _refuse_change for name in _CHANGES},
        }

    async def _info(self, data: bytes, call: IncomingCall) -> bytes:
        request = parse(pb.InfoRequest(), data)
        info = _info_of(request.digest, os.stat(self._path(request.digest, call)))
        return pb.InfoResponse(info=info).SerializeToString()

    async def _list(self, call: IncomingCall) -> None:
        request = parse(pb.ListContentRequest(), await call.receive())
        picks = _parse_filters(request.filters)
        history = self._server.tenant(call.peer.owner).history

        def pick() -> list[pb.Info]:
            return [_info_of(name, status) for name, status in history.blobs() if picks(name)]

        picked = await asyncio.to_thread(pick)
        await call.send_headers()
        for at in range(0, len(picked), _LISTED):
            message = pb.ListContentResponse(info=picked[at : at + _LISTED])
            await call.send(message.SerializeToString())

    async def _status(self, data: bytes, call: IncomingCall) -> bytes:
        """Nothing is ever under way: a client cannot write here."""
        request = parse(pb.StatusRequest(), data)
        raise RpcError(Code.NOT_FOUND, f"ingest {shortened(request.ref)}: not found")

    async def _list_statuses(self, data: bytes, call: IncomingCall) -> bytes:
        _parse_filters(parse(pb.ListStatusesRequest(), data).filters)
        return pb.ListStatusesResponse().SerializeToString()

    async def _read(self, call: IncomingCall) -> None:
        request = parse(pb.ReadContentRequest(), await call.receive())
        if request.offset < 0 or request.size < 0:
            raise RpcError(Code.OUT_OF_RANGE, "a read of less than nothing")
        with open(self._path(request.digest, call), "rb") as file:  # noqa: ASYNC230  small, and ours
            size = os.fstat(file.fileno()).st_size
            if request.offset > size:
                raise RpcError(Code.OUT_OF_RANGE, f"a read past the end of {size} bytes")
            end = min(size, request.offset + request.size) if request.size else size
            at = file.seek(request.offset)
            while at < end:
                data = file.read(min(_PIECE_BYTES, end - at))
                message = pb.ReadContentResponse(offset=at, data=data)
                await call.send(message.SerializeToString())
                at += len(data)

    def _path(self, digest: str, call: IncomingCall) -> str:
        path = self._server.tenant(call.peer.owner).history.blob_path(digest)
        if path is None:
            raise RpcError(Code.NOT_FOUND, f"content {shortened(digest)}: not found")
        return path


async def _refuse_change(call: IncomingCall) -> None:
    await call.receive()
    raise RpcError(Code.UNKNOWN, "read-only content store")


def _info_of(digest: str, status: os.stat_result) -> pb.Info:
    made = timestamp(status.st_mtime)
    return pb.Info(digest=digest, size=status.st_size, created_at=made, updated_at=made)


def _parse_filters(texts: Sequence[str]) -> Picks:
    """Return a test of digests: one of the filters holds, with all of its parts.

    Raises:
        RpcError: one that cannot be read.
    """
    if len(texts) > _MOST_FILTERS or sum(map(len, texts)) > _MOST_FILTER_CHARS:
        raise RpcError(Code.INVALID_ARGUMENT, "too many filters")
    choices = [[_parse_filter(part) for part in text.split(",")] for text in texts if text]
    if len(choices) < len(texts) or not choices:  # an empty one picks everything
        return lambda digest: True
    return lambda digest: any(all(picks(digest) for picks in choice) for choice in choices)


def _parse_filter(text: str) -> Picks:
    match = _FILTER.match(text.strip())
    if match is None:
        raise RpcError(Code.INVALID_ARGUMENT, f'filter "{shortened(text)}" cannot be read')
    field, operator, quoted, plain = match.groups()
    value = plain if quoted is None else quoted
    if field != "digest":  # nothing here has a label
        return lambda digest: operator == "!=" and value != ""
    match operator:
        case None:
            return lambda digest: True
        case "==":
            return lambda digest: digest == value
        case "!=":
            return lambda digest: digest != value
        case _:
            try:
                regex.search(value, "", "filter")
            except PybuildError as error:
                raise RpcError(Code.INVALID_ARGUMENT, error.message) from error
            return lambda digest: regex.search(value, digest, "filter")
