"""Takes a build's output: a tree into a directory, an archive into a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Protocol

from pybuild.buildkit.fsutil.packet import MalformedPacket, encode_error
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed, Receiver
from pybuild.buildkit.fsutil.writer import TreeWriter
from pybuild.buildkit.session.bytesmessage import unwrap
from pybuild.buildkit.session.inflow import Inflow
from pybuild.exporter.directories import open_output
from pybuild.image.layer.confined import at
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.filesync.v1.FileSend/DiffCopy"
_FACT = "exporter-md-"
_BATCH = 4 << 20


class ArchiveSink(Protocol):
    """The destination of an archive; blocking."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None:
        """The archive is complete."""
        ...

    def abort(self) -> None:
        """It will never be complete."""
        ...


@dataclass(frozen=True, slots=True)
class ToDirectory:
    """A tree goes into *path*, which is made; what is there and not in the tree stays, unless it was
    asked to go (*replaces*) and the server says that it does. *arrived* gets the path of a tree that has come."""

    path: str
    replaces: bool = False
    arrived: list[str] = field(default_factory=list[str], compare=False)


@dataclass(frozen=True, slots=True)
class ToStream:
    """An archive goes into the output that *open* returns for facts of the result; None: skip it."""

    open: Callable[[Mapping[str, str]], ArchiveSink | None]


class _Fault(Exception):
    """An error of this machine, as a build in this process would raise it."""

    def __init__(self, what: str, error: OSError | PybuildError) -> None:
        super().__init__(what)
        self.cause = (
            error
            if isinstance(error, PybuildError)
            else EnvironmentFault(f"{what}: {(error.strerror or str(error)).lower()}")
        )


def file_send(
    targets: Mapping[int, ToDirectory | ToStream], faults: list[PybuildError] | None = None
) -> dict[str, Handler]:
    """Take the outputs of a build's exporters, by their numbers.

    Args:
        faults: gets the errors of this machine; the server only sees that there was one.
    """

    async def handle(call: IncomingCall) -> None:
        try:
            await take(call)
        except _Fault as error:
            if faults is not None:
                faults.append(error.cause)
            raise RpcError(Code.UNKNOWN, error.cause.message) from error

    async def take(call: IncomingCall) -> None:
        number = call.metadata.get("buildkit-attachable-exporter-id") or "0"
        target = targets.get(int(number)) if number.isdecimal() and len(number) < 10 else None
        if target is None:
            raise RpcError(Code.NOT_FOUND, f"nothing is wanted of exporter {number!r}")
        if isinstance(target, ToDirectory):
            several = call.metadata.get("buildkit-exporter-multi-platform") == "1"
            await _tree(call, target.path, replaces=several and target.replaces)
            target.arrived.append(target.path)
        else:
            await _stream(call, target, _facts(call.metadata))

    return {METHOD: handle}


def _facts(metadata: Metadata) -> dict[str, str]:
    return {
        name.removeprefix(_FACT): value
        for name, value in metadata
        if name.startswith(_FACT) and isinstance(value, str)
    }


async def _stream(call: IncomingCall, target: ToStream, facts: Mapping[str, str]) -> None:
    try:
        output = await asyncio.to_thread(target.open, facts)
    except (OSError, PybuildError) as error:
        raise _Fault("cannot write the result", error) from error
    if output is None:
        raise RpcError(Code.ALREADY_EXISTS, "it is here already")
    done = False
    try:
        pieces: list[bytes] = []
        size = 0
        while (message := await call.receive()) is not None:
            pieces.append(unwrap(message))
            size += len(message)
            if size > _BATCH:
                await asyncio.to_thread(output.write, b"".join(pieces))
                pieces, size = [], 0
        await asyncio.to_thread(output.write, b"".join(pieces))
        await asyncio.to_thread(output.close)
        done = True
    except MalformedPacket as error:
        raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
    except OSError as error:
        raise _Fault("cannot write the result", error) from error
    finally:
        if not done:
            output.abort()


async def _tree(call: IncomingCall, path: str, *, replaces: bool) -> None:
    try:
        writer = await asyncio.to_thread(tree_writer, path, replaces)
    except (OSError, PybuildError) as error:
        raise _Fault(path, error) from error
    try:
        receiver = Receiver(writer)
        async with Inflow(call) as inflow:
            while not receiver.finished:
                messages = await inflow.take()
                if not messages:
                    raise RpcError(Code.CANCELLED, "the server left in the middle")
                for answer in await asyncio.shield(_feed(receiver, messages)):
                    await call.send(answer)
            await asyncio.to_thread(writer.finish)
            await inflow.take()
    except OSError as error:
        await call.send(encode_error(str(error)))
        raise _Fault(path, error) from error
    except BadEntry as error:
        await call.send(encode_error(str(error)))
        raise RpcError(Code.UNKNOWN, str(error)) from error
    except PeerFailed as error:
        raise RpcError(Code.UNKNOWN, str(error)) from error
    finally:
        writer.close()


def _feed(receiver: Receiver, messages: list[bytes]) -> asyncio.Future[list[bytes]]:
    return asyncio.ensure_future(asyncio.to_thread(partial(receiver.feed, messages)))


def tree_writer(path: str, replaces: bool) -> TreeWriter:
    fd = open_output(path, make=True)
    try:
        return TreeWriter(at(fd), merge=not replaces, own=False)
    finally:
        os.close(fd)
