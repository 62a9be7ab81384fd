"""The content and the kind of a server: disk usage, pruning, versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import seconds_of
from pybuild.buildkit.pb.worker import BuildkitVersion
from pybuild.builds.builder import BuilderFacts
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import UsageRecord
from pybuild.client.build import SERVICE
from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import connected
from pybuild.client.failures import failure
from pybuild.model.errors import UsageError
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import Code, RpcError

_PATIENCE_S = 20.0


async def facts(builder: BuilderRecord) -> BuilderFacts:
    """Ask a server for its version, platforms and labels.

    Raises:
        EnvironmentFault: it cannot be reached.
    """
    async with connected(builder) as channel:
        try:
            version = await _version(channel)
            data = await channel.unary(SERVICE + "ListWorkers", b"", timeout=_PATIENCE_S)
        except RpcError as error:
            raise failure(error) from error
    workers = pb.ListWorkersResponse.FromString(data).record
    platforms: list[str] = []
    for platform in workers[0].platforms if workers else ():
        parts = (platform.OS, platform.Architecture, platform.Variant)
        platforms.append("/".join(filter(None, parts)))
    labels = dict(workers[0].Labels) if workers else dict[str, str]()
    shown = f"{version.version} {version.package}"
    return BuilderFacts(
        version=shown.strip(),
        platforms=tuple(dict.fromkeys(platforms)),
        labels=tuple(sorted(labels.items())),
    )


async def require_ours(channel: Channel, option: str) -> None:
    """Refuse an option that only servers of ours know; others would drop it in silence.

    Raises:
        UsageError: the server is somebody else's. PybuildError: it cannot be asked.
    """
    try:
        version = await _version(channel)
    except RpcError as error:
        raise failure(error) from error
    if not version.revision.startswith("pybuild-"):
        raise UsageError(
            f"{option} is not known to this build server",
            hints=["servers that pybuild daemon runs know it; or leave out -H"],
        )


async def _version(channel: Channel) -> BuildkitVersion:
    """Return the version of a server; an empty one where it is too old to say it."""
    answer = pb.InfoResponse()
    try:
        answer.ParseFromString(await channel.unary(SERVICE + "Info", b"", timeout=_PATIENCE_S))
    except RpcError as error:
        if error.code is not Code.UNIMPLEMENTED:
            raise
    return answer.buildkitVersion


async def usage(builder: BuilderRecord, filters: Sequence[str]) -> list[UsageRecord]:
    """Return the things that take space on a server.

    Raises:
        PybuildError: a filter that it does not know, or it cannot be reached.
    """
    request = pb.DiskUsageRequest(filter=filters)
    async with connected(builder) as channel:
        try:
            data = await channel.unary(SERVICE + "DiskUsage", request.SerializeToString())
        except RpcError as error:
            raise failure(error) from error
    return [_record(record) for record in pb.DiskUsageResponse.FromString(data).record]


async def prune(
    builder: BuilderRecord,
    policy: Policy,
    tell: Callable[[UsageRecord], None],
) -> int:
    """Let a server free unneeded things; return the number of bytes.

    Raises:
        PybuildError: as `usage`.
    """
    request = pb.PruneRequest(
        filter=policy.filters,
        all=policy.all,
        reservedSpace=policy.reserved_space,
        maxUsedSpace=policy.max_used_space or 0,
        minFreeSpace=policy.min_free_space or 0,
    )
    freed = 0
    async with connected(builder) as channel:
        try:
            async with channel.stream(SERVICE + "Prune") as call:
                await call.send(request.SerializeToString())
                await call.half_close()
                while (message := await call.receive()) is not None:
                    record = _record(pb.UsageRecord.FromString(message))
                    freed += record.size
                    tell(record)
        except RpcError as error:
            raise failure(error) from error
    return freed


def _record(record: pb.UsageRecord) -> UsageRecord:
    return UsageRecord(
        id=record.ID,
        kind="",
        type=record.RecordType,
        size=record.Size,
        created=seconds_of(record.CreatedAt),
        last_used=seconds_of(record.LastUsedAt),
        use_count=record.UsageCount,
        in_use=record.InUse,
        shared=record.Shared,
        mutable=record.Mutable,
        parents=tuple(record.Parents) or ((record.Parent,) if record.Parent else ()),
        description=record.Description,
    )
