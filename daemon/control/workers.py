"""This server's description: the worker record and the version that clients gate features on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from pybuild.buildkit.llb.write import platform_message
from pybuild.buildkit.pb.worker import BuildkitVersion, GCPolicy, WorkerRecord
from pybuild.cache.space.prune import Policy
from pybuild.exporter.attest.predicate import DOCKERFILE_VERSION
from pybuild.model.package import VERSION
from pybuild.model.platform import Platform

_NS = 1_000_000_000
_LABEL = "org.mobyproject.buildkit.worker."
# The version of the protocol that is spoken; clients turn features off for servers that are older.
PROTOCOL_VERSION = "v0.32.0"
PACKAGE = "github.com/moby/buildkit"


def version() -> BuildkitVersion:
    """The answer to `Info`: this server's protocol and version."""
    return BuildkitVersion(
        package=PACKAGE,
        version=PROTOCOL_VERSION,
        revision=f"pybuild-{VERSION}",
        dockerfileVersion=DOCKERFILE_VERSION,
    )


def worker(
    identity: str,
    isolation: str,
    labels: Mapping[str, str],
    platforms: Sequence[Platform],
    policies: Iterable[Policy],
) -> WorkerRecord:
    """The one worker there is.

    Args:
        identity: stable for one store.
        isolation: the confinement of steps.
        platforms: that it runs steps of, its own first.
        policies: by which it frees space.
    """
    return WorkerRecord(
        ID=identity,
        Labels={
            f"{_LABEL}executor": "oci",
            f"{_LABEL}hostname": os.uname().nodename,
            f"{_LABEL}network": "host",
            f"{_LABEL}oci.process-mode": "sandbox",
            f"{_LABEL}selinux.enabled": "false",
            f"{_LABEL}apparmor.profile": "",
            f"{_LABEL}snapshotter": "overlayfs",
            "pybuild.isolation": isolation,
            **labels,
        },
        platforms=[platform_message(p) for p in platforms],
        GCPolicy=[_policy_message(policy) for policy in policies],
        BuildkitVersion=version(),
    )


def _policy_message(policy: Policy) -> GCPolicy:
    return GCPolicy(
        all=policy.all,
        keepDuration=int((policy.keep_duration_s or 0) * _NS),
        filters=policy.filters,
        reservedSpace=policy.reserved_space,
        maxUsedSpace=policy.max_used_space or 0,
        minFreeSpace=policy.min_free_space or 0,
    )
