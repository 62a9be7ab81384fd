"""One build by a server: requests it, serves its calls, shows its progress, takes its outputs."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import control as pb
from pybuild.builds.contexts import GIT_MODES
from pybuild.builds.frontendattrs import FRONTEND, ON_FAIL_OUTPUT, frontend_attrs
from pybuild.builds.request import MAY_DELETE, BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.client.caches import finish_caches, plan_caches
from pybuild.client.events import StatusReader
from pybuild.client.exports import (
    Exports,
    descriptor_of,
    finish,
    image_id_of,
    metadata_of,
    plan,
    with_leftovers,
)
from pybuild.client.failures import failure
from pybuild.client.services import services
from pybuild.engine.host import SystemClock
from pybuild.engine.progress import internal_step
from pybuild.exporter.check import check_outputs
from pybuild.model.events import Emit
from pybuild.net.grpc.channel import Channel, ClientCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError

_PARENT = re.compile(r"[0-9a-f-]{55}")
SERVICE = "/moby.buildkit.v1.Control/"
_SILENCE_S = 5.0
_HOLD_S = 0.05
_LAST_WORDS_S = 0.2


async def build(
    channel: Channel,
    request: BuildRequest,
    emit: Emit,
    *,
    ref: str = "",
    attrs: Mapping[str, str] | None = None,
) -> BuildResult:
    """Let the server behind *channel* do *request*; a cancelled task cancels it there.

    Args:
        ref: the build's id at the server; a fresh one by default.
        attrs: further attributes of the frontend.

    Raises:
        PybuildError: as a build in this process.
    """
    await asyncio.to_thread(check_outputs, request.outputs, request.tags, is_index=request.is_index)
    exports = plan(request)
    caches = plan_caches(request, emit)
    async with services(request, exports, caches.stores) as (offered, session):
        if request.git_modes and offered.directories:
            async with internal_step(GIT_MODES, emit, SystemClock()):
                pass  # for people to see
        reader = StatusReader(offered.filenames)
        all_attrs = {**frontend_attrs(request), **caches.attrs, **offered.attrs, **(attrs or {})}
        if exports.leftovers is not None:
            all_attrs[ON_FAIL_OUTPUT] = str(len(exports.exporters))
        message = solve_request(request, all_attrs, exports)
        message.Cache.CopyFrom(caches.options)
        message.Session = session.id
        message.Ref = ref or message.Ref
        try:
            async with following(channel, message.Ref, reader, emit), session.open(channel):
                data = await channel.unary(
                    SERVICE + "Solve", message.SerializeToString(), metadata=_trace(os.environ)
                )
        except RpcError as error:
            if exports.faults:
                raise exports.faults[0] from error
            failed = failure(error, reader, offered.filenames)
            raise with_leftovers(exports, failed, request.on_fail_output) from error
        response = dict(pb.SolveResponse.FromString(data).ExporterResponse)
        await asyncio.to_thread(finish, exports, response)
        await asyncio.to_thread(finish_caches, caches, response)
    made = descriptor_of(response)
    image_id = image_id_of(response, made)
    return BuildResult(
        image=made,
        image_id=image_id,
        names=exports.image_names,
        steps=reader.steps(),
        warnings=tuple(reader.warnings),
        metadata=metadata_of(response, image_id),
    )


def _trace(environ: Mapping[str, str]) -> Metadata:
    """Return the trace that the build is part of, where CI has set ``TRACEPARENT``."""
    metadata = Metadata()
    parent = environ.get("TRACEPARENT", "")
    if _PARENT.fullmatch(parent):
        metadata.add("traceparent", parent)
    return metadata


def _compatibility(request: BuildRequest) -> int:
    """Return how images are made, which BuildKit is told once for all outputs; 0: as it likes."""
    versions = {output.attrs.get("compatibility-version", "0") for output in request.outputs}
    return max(map(int, versions), default=0)


def solve_request(
    request: BuildRequest, attrs: Mapping[str, str], exports: Exports
) -> pb.SolveRequest:
    """Return the message, but for its session."""
    message = pb.SolveRequest(
        Ref=os.urandom(16).hex(),
        Frontend=FRONTEND,
        FrontendAttrs=dict(attrs),
        Entitlements=sorted(request.allow - {MAY_DELETE}),
        Exporters=exports.exporters,
        Cache=pb.CacheOptions(),
        CompatibilityVersion=_compatibility(request),
    )
    if request.policies:
        from pybuild.buildkit.policies import write_policies

        (policy,) = write_policies(request.policies)
        message.SourcePolicy.CopyFrom(policy)
    if exports.exporters:  # for servers that know of one exporter only
        first = exports.exporters[0]
        message.ExporterDeprecated = first.Type
        message.ExporterAttrsDeprecated.update(first.Attrs)
    return message


@asynccontextmanager
async def following(
    channel: Channel, ref: str, reader: StatusReader, emit: Emit
) -> AsyncGenerator[None]:
    """Show the progress of a build inside the context, and to its end when it is left."""
    follower = _Follower(channel, ref, reader, emit)
    task = asyncio.create_task(follower.follow())
    patience_s = _SILENCE_S
    try:
        yield
    except asyncio.CancelledError:
        patience_s = _LAST_WORDS_S  # the last words of a cancelled build may be lost
        raise
    finally:
        try:
            heard = -1
            while not task.done() and heard != follower.heard:
                heard = follower.heard
                await asyncio.wait((task,), timeout=patience_s)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for event in reader.release():
                emit(event)


class _Follower:
    """Reads the status of a build; *heard* counts its messages."""

    def __init__(self, channel: Channel, ref: str, reader: StatusReader, emit: Emit) -> None:
        self._channel = channel
        self._request = pb.StatusRequest(Ref=ref).SerializeToString()
        self._reader = reader
        self._emit = emit
        self.heard = 0

    async def follow(self) -> None:
        """Emit events until the server has sent all; a broken stream is no error."""
        try:
            async with self._channel.stream(SERVICE + "Status") as call:
                await call.send(self._request)
                await call.half_close()
                stamp = (await call.headers()).get("buildkit-current-timestamp")
                if stamp:
                    self._reader.server_time(stamp, time.time())
                while (message := await self._next(call)) is not None:
                    self.heard += 1
                    for event in self._reader.feed(pb.StatusResponse.FromString(message)):
                        self._emit(event)
        except (RpcError, DecodeError):
            pass  # the build itself reports the error

    async def _next(self, call: ClientCall) -> bytes | None:
        """Return the next message; if none comes soon, emit the events that the reader holds back."""
        if not self._reader.holds:
            return await call.receive()
        receiving = asyncio.ensure_future(call.receive())
        try:
            await asyncio.wait((receiving,), timeout=_HOLD_S)
            if not receiving.done():
                for event in self._reader.release():
                    self._emit(event)
            return await receiving
        finally:
            receiving.cancel()
