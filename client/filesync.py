"""Sends directories of this machine to a build server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from urllib.parse import unquote_plus

from pybuild.buildkit.fsutil.packet import encode_error
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.filesync.v1.FileSync/DiffCopy"


def file_sync(directories: Mapping[str, str], *, git_modes: bool = False) -> dict[str, Handler]:
    """Serve *directories*, by the names that builds use: "context", "dockerfile", ...

    Args:
        git_modes: files have the modes that git would store, whatever server asks.
    """

    async def handle(call: IncomingCall) -> None:
        name = (decoded(call.metadata, "dir-name") or [""])[0]
        path = directories.get(name)
        if path is None:
            raise RpcError(Code.NOT_FOUND, f"no access allowed to dir {name!r}")
        try:
            walk = await asyncio.to_thread(
                partial(
                    Walk,
                    path,
                    include=decoded(call.metadata, "include-patterns"),
                    exclude=decoded(call.metadata, "exclude-patterns"),
                    follow=decoded(call.metadata, "followpaths"),
                    attributes=True,
                    git_modes=git_modes,
                )
            )
        except ValueError as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        except OSError as error:
            raise RpcError(Code.NOT_FOUND, f"{path}: {error.strerror}") from error
        with walk:
            await _send(call, Sender(walk.entries(), walk.open))

    return {METHOD: handle}


def decoded(metadata: Metadata, name: str) -> list[str]:
    """Return the values of a key, which may have been escaped."""
    values = metadata.get_all(name)
    if metadata.get(name + "-encoded") == "1":
        return [unquote_plus(value, errors="surrogateescape") for value in values]
    return values


async def _send(call: IncomingCall, sender: Sender) -> None:
    heard: list[bytes] = []
    more = asyncio.Event()
    ended = False

    async def listen() -> None:
        nonlocal ended
        try:
            while (message := await call.receive()) is not None:
                heard.append(message)
                more.set()
        finally:
            ended = True
            more.set()

    listening = asyncio.create_task(listen())
    try:
        while not sender.finished:
            sender.feed(heard)
            heard.clear()
            for packet in await asyncio.shield(_produce(sender)):
                await call.send(packet)
            if not heard and not sender.has_work and not sender.finished:
                if ended:
                    raise RpcError(Code.CANCELLED, "the server left in the middle")
                more.clear()
                await more.wait()
        # The other side has ended with its FIN, and BuildKit's waits now for the end of the call.
    except BadEntry as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"the server sends {error}") from error
    except PeerFailed as error:
        raise RpcError(Code.UNKNOWN, str(error)) from error
    except OSError as error:
        text = f"{error.filename or ''}: {error.strerror}"
        await call.send(encode_error(text))
        raise RpcError(Code.UNKNOWN, text) from error
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        sender.close()


def _produce(sender: Sender) -> asyncio.Future[list[bytes]]:
    return asyncio.ensure_future(asyncio.to_thread(sender.produce))
