"""The builds that a server remembers, by BuildKit's API: any server of it has them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import seconds_of
from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.builds.recording import build_name
from pybuild.client.build import SERVICE
from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import connected
from pybuild.client.events import StatusReader
from pybuild.client.failures import failure
from pybuild.model.errors import EnvironmentFault
from pybuild.model.events import Emit
from pybuild.model.secrets import redacted_variables
from pybuild.net.grpc.status import Code, RpcError

_CANCELED = "context canceled"
_ARG = "build-arg:"


async def builds(builder: BuilderRecord) -> list[BuildRecord]:
    """Return the builds of a server, the latest first.

    Raises:
        PybuildError: it cannot be reached, or keeps none.
    """
    records: list[BuildRecord] = []
    async with connected(builder) as channel:
        try:
            async with channel.stream(SERVICE + "ListenBuildHistory") as call:
                await call.send(pb.BuildHistoryRequest(EarlyExit=True).SerializeToString())
                await call.half_close()
                while (message := await call.receive()) is not None:
                    event = pb.BuildHistoryEvent.FromString(message)
                    if event.type != pb.DELETED:
                        records.append(_record(event.record))
        except RpcError as error:
            raise failure(error) from error
        except DecodeError as error:
            raise EnvironmentFault("the build server's history cannot be read") from error
    return sorted(records, key=lambda record: -record.at)


async def replay(builder: BuilderRecord, record: BuildRecord, emit: Emit) -> None:
    """Emit the events of a server's build; of one that goes on, until it ends.

    Raises:
        PybuildError: it has forgotten the build, or cannot be reached.
    """
    reader = StatusReader()
    async with connected(builder) as channel:
        try:
            async with channel.stream(SERVICE + "Status") as call:
                await call.send(pb.StatusRequest(Ref=record.id).SerializeToString())
                await call.half_close()
                while (message := await call.receive()) is not None:
                    for event in reader.feed(pb.StatusResponse.FromString(message)):
                        emit(event)
        except RpcError as error:
            raise failure(error) from error
        except DecodeError as error:
            raise EnvironmentFault("the build server's log cannot be read") from error
    for event in reader.release():
        emit(event)


async def forget(builder: BuilderRecord, records: Sequence[BuildRecord]) -> None:
    """Remove builds from a server's history.

    Raises:
        PybuildError: one cannot be removed.
    """
    async with connected(builder) as channel:
        try:
            for record in records:
                request = pb.UpdateBuildHistoryRequest(Ref=record.id, Delete=True)
                await channel.unary(SERVICE + "UpdateBuildHistory", request.SerializeToString())
        except RpcError as error:
            raise failure(error) from error


def _record(record: pb.BuildHistoryRecord) -> BuildRecord:
    attrs = dict(record.FrontendAttrs)
    attrs.pop("frontend.caps", None)
    args = {n.removeprefix(_ARG): attrs.pop(n) for n in list(attrs) if n.startswith(_ARG)}
    context = attrs.pop("context", "") or attrs.get("vcs:localdir:context", "")
    dockerfile, target = attrs.pop("filename", "Dockerfile"), attrs.pop("target", "")
    at = seconds_of(record.CreatedAt)
    status, seconds = BuildStatus.RUNNING, None
    if record.HasField("CompletedAt"):
        seconds = max(0.0, seconds_of(record.CompletedAt) - at)
        status = BuildStatus.COMPLETED
    message = record.error.message if record.HasField("error") else ""
    if record.HasField("error"):
        is_canceled = record.error.code == Code.CANCELLED or message.endswith(_CANCELED)
        status = BuildStatus.CANCELED if is_canceled else BuildStatus.ERROR
    images = [*record.Result.Results.values()] or [
        image for result in record.Results.values() for image in result.Results.values()
    ]
    return BuildRecord(
        id=record.Ref,
        name=args.get("BUILDKIT_BUILD_NAME") or build_name(context, dockerfile, target),
        status=status,
        at=at,
        seconds=seconds,
        context=context,
        dockerfile=dockerfile,
        target=target,
        args=tuple(redacted_variables(f"{name}={value}" for name, value in sorted(args.items()))),
        attrs=attrs,
        total=record.numTotalSteps,
        completed=record.numCompletedSteps,
        cached=record.numCachedSteps,
        warnings=record.numWarnings,
        error=message,
        images=tuple(dict.fromkeys(image.digest for image in images)),
    )
