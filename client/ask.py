"""Questions about a Dockerfile that a server answers without building: outline, targets, lint [6]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb.errors import parse_status
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.builds.frontendattrs import FRONTEND, frontend_attrs
from pybuild.builds.request import BuildRequest
from pybuild.client.build import SERVICE
from pybuild.client.failures import failure
from pybuild.client.inputs import OfferedInputs
from pybuild.client.services import services
from pybuild.frontend.question import Question
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError

_BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
_BUILD_ID = "buildkit-controlapi-buildid"
_END_S = 5.0
_NAMES = {
    Question.CHECK: "frontend.lint",
    Question.OUTLINE: "frontend.outline",
    Question.TARGETS: "frontend.targets",
}


async def ask(
    channel: Channel, request: BuildRequest, question: Question
) -> tuple[Mapping[str, bytes], OfferedInputs]:
    """Return the metadata of the answer to *question*.

    The question belongs to a build that waits for its client's frontend, and ends with nothing.

    Raises:
        PybuildError: as where the file is read in this process.
    """
    async with services(request) as (offered, session):
        attrs = {**frontend_attrs(request), **offered.attrs, "requestid": _NAMES[question]}
        ref = os.urandom(16).hex()
        outer = pb.SolveRequest(Ref=ref, Session=session.id, Internal=True, Cache=pb.CacheOptions())
        metadata = Metadata({_BUILD_ID: ref})
        try:
            async with session.open(channel):
                parked = asyncio.create_task(
                    channel.unary(SERVICE + "Solve", outer.SerializeToString())
                )
                try:
                    answer = await _ask(channel, metadata, attrs, parked)
                finally:
                    await asyncio.wait((parked,), timeout=_END_S)
                    parked.cancel()
                    await asyncio.gather(parked, return_exceptions=True)
        except RpcError as error:
            raise failure(error, None, offered.filenames) from error
        return dict(answer.result.metadata), offered


async def _ask(
    channel: Channel, metadata: Metadata, attrs: Mapping[str, str], parked: asyncio.Task[bytes]
) -> gateway.SolveResponse:
    inner = gateway.SolveRequest(
        Frontend=FRONTEND,
        FrontendOpt=dict(attrs),
        allowResultReturn=True,
        allowResultArrayRef=True,
    )
    ending = gateway.ReturnRequest(result=gateway.Result(ref=gateway.Ref()))
    asking = asyncio.create_task(
        channel.unary(_BRIDGE + "Solve", inner.SerializeToString(), metadata=metadata)
    )
    try:
        await asyncio.wait((asking, parked), return_when=asyncio.FIRST_COMPLETED)
        if parked.done() and not asking.done():
            parked.result()  # it says why
        answer = gateway.SolveResponse.FromString(await asking)
    except RpcError as error:
        status = parse_status(error.details) if error.details else None
        ending = gateway.ReturnRequest(
            error=status or Status(code=error.code, message=error.message)
        )
        raise
    except asyncio.CancelledError:
        parked.cancel()
        raise
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if not parked.done() and not parked.cancelling():
            await _return(channel, metadata, ending)
    return answer


async def _return(channel: Channel, metadata: Metadata, ending: gateway.ReturnRequest) -> None:
    try:
        await channel.unary(
            _BRIDGE + "Return", ending.SerializeToString(), metadata=metadata, timeout=_END_S
        )
    except RpcError:
        pass  # the build has ended by itself
