"""Delivers a build's results to its client: archives as bytes, trees entry by entry."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping

from pybuild.buildkit.session.bytesmessage import wrap
from pybuild.buildkit.session.failures import failed
from pybuild.buildkit.session.inflow import Inflow
from pybuild.daemon.session.sessions import Session
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.net.grpc.channel import ClientCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.filesync.v1.FileSend/DiffCopy"
MOST_PIECE = 3 << 20  # the client takes messages below 4 MiB
_HEAD = struct.Struct("<I")
_AHEAD = 1 << 20

TreeWork = Callable[[socket.socket], Awaitable[object]]
"""Runs `treesend.serve` (or the worker's `treesend.send_job`) on its end of a socket pair."""


def _metadata(exporter: int, facts: Mapping[str, str], *, replaces: bool = False) -> Metadata:
    metadata = Metadata({"buildkit-attachable-exporter-id": str(exporter)})
    for name in sorted(facts):
        try:
            metadata.add(f"exporter-md-{name}", facts[name])
        except ValueError:
            continue  # what cannot stand in a header is told in the build's answer
    if replaces:
        metadata.add("buildkit-exporter-multi-platform", "1")
    return metadata


async def send_stream(
    session: Session,
    pieces: AsyncIterable[bytes],
    *,
    exporter: int = 0,
    facts: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda sent: None,
) -> bool:
    """Send an archive; return False if the client has it already and wants no more.

    Args:
        pieces: of any length; not read further than the client takes.
        exporter: its place among the exporters of the build.
        facts: of the result: ``containerimage.digest`` and so on.

    Raises:
        UserError: the client cannot take it. Cancelled: it has gone.
    """
    sent = 0
    try:
        async with session.stream(METHOD, metadata=_metadata(exporter, facts or {})) as call:
            async for piece in pieces:
                view = memoryview(piece)
                for at in range(0, len(view), MOST_PIECE):
                    await call.send(wrap(view[at : at + MOST_PIECE]))
                sent += len(view)
                on_progress(sent)
            await call.half_close()
            while await call.receive() is not None:
                pass
    except RpcError as error:
        if error.code is Code.ALREADY_EXISTS:
            return False
        raise failed("send the result to the client", error) from error
    return True


async def send_tree(
    session: Session,
    work: TreeWork,
    *,
    exporter: int = 0,
    replaces: bool = False,
    on_progress: Callable[[int], None] = lambda sent: None,
) -> None:
    """Send a tree, which *work* reads where it can be read: in a thread, or in a worker.

    *work* is the sending end of the transfer. It is given a socket for packets, which it may use
    until it returns; here they only pass through.

    Args:
        replaces: the client is to delete files that the tree does not hold (``mode=delete``).

    Raises:
        UserError: the client cannot take it. Cancelled: it has gone. What *work* raises.
    """
    doing = "send the result to the client"
    ours, theirs = socket.socketpair()
    # When the work is over its end is shut, even if another process has it, too.
    worker = asyncio.ensure_future(work(theirs))
    worker.add_done_callback(lambda _: _shut(theirs))
    try:
        metadata = _metadata(exporter, {}, replaces=replaces)
        async with session.stream(METHOD, metadata=metadata) as call:
            await _relay(call, ours, worker, on_progress)
    except RpcError as error:
        raise failed(doing, error) from error
    except ConnectionError as error:
        raise UserError(f"{doing}: the transfer broke off") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EnvironmentFault(f"{doing}: {error.filename or 'a file'}: {reason}") from error
    finally:
        _shut(ours)
        await finish(worker)
        ours.close()
        theirs.close()


async def _relay(
    call: ClientCall,
    ours: socket.socket,
    worker: asyncio.Future[object],
    on_progress: Callable[[int], None],
) -> None:
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours.dup(), limit=_AHEAD)

    async def upwards() -> None:
        async with Inflow(call) as inflow:
            while messages := await inflow.take():
                writer.write(b"".join(_HEAD.pack(len(each)) + each for each in messages))
                await writer.drain()

    async def downwards() -> None:
        sent = 0
        received = bytearray()
        while data := await reader.read(_AHEAD):
            received += data
            at = 0
            while len(received) - at >= _HEAD.size:
                begin = at + _HEAD.size
                end = begin + _HEAD.unpack_from(received, at)[0]
                if end > len(received):
                    break
                await call.send(bytes(received[begin:end]))
                sent += end - begin
                at = end
            del received[:at]
            on_progress(sent)
        await asyncio.shield(worker)
        await call.half_close()

    tasks = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failures = [task.exception() for task in tasks if task.done()]
        # What the client says explains why the pipe broke, not the other way round.
        failures.sort(key=lambda failure: not isinstance(failure, RpcError))
        for failure in failures:
            if failure is not None:
                raise failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def finish(worker: asyncio.Future[object]) -> None:
    """Wait for the end of cancelled work; its failures were heard, or are moot."""
    cancelled: asyncio.CancelledError | None = None
    while not worker.done():
        try:
            await asyncio.wait((worker,))
        except asyncio.CancelledError as error:
            cancelled = error
            worker.cancel()
    if not worker.cancelled():
        worker.exception()
    if cancelled is not None:
        raise cancelled


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
