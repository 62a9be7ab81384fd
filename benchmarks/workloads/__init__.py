"""The workloads, in the order of the table."""

from benchmarks.workload import Workload
from benchmarks.workloads.bakes import BakeChanged, BakeCold, BakeNoop
from benchmarks.workloads.bases import Apt, Pull
from benchmarks.workloads.caches import CacheImport
from benchmarks.workloads.contexts import Context, Monorepo
from benchmarks.workloads.exports import Load, OciTar, Push
from benchmarks.workloads.steps import Chain, Many, Noop, NoopArchive, NoopMade, NoopPush, Wide
from benchmarks.workloads.uploads import UploadFile, UploadFiles

__all__ = ["SERVED", "WORKLOADS"]

# What the command does; and below what matters between a client and its server.
WORKLOADS: dict[str, type[Workload]] = {
    kind.name: kind
    for kind in (
        *(Noop, NoopMade, NoopArchive, NoopPush),
        *(Chain, Wide, Context, Push, OciTar, Pull, Apt),
        *(Monorepo, CacheImport, Load, Many),
        *(BakeCold, BakeNoop, BakeChanged),
    )
}

SERVED: dict[str, type[Workload]] = {kind.name: kind for kind in (UploadFile, UploadFiles)}
