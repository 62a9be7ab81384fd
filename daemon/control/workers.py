"""This server's description: the worker record and the version that clients gate features on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence

from pybuild.buildkit.llb.write import platform_message
from pybuild.buildkit.pb.worker import BuildkitVersion, CDIDevice, GCPolicy, WorkerRecord
from pybuild.cache.space.prune import Policy
from pybuild.executor.devices import ListedDevice
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
    devices: Sequence[ListedDevice],
) -> WorkerRecord:
    """The one worker there is.

    Args:
        identity: stable for one store.
        isolation: the confinement of steps.
        platforms: that it runs steps of, its own first.
        policies: by which it frees space.
        devices: that its steps may have.
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
        CDIDevices=[
            CDIDevice(Name=one.name, AutoAllow=one.is_free, Annotations=one.annotations)
            for one in devices
        ],
    )


def worker_json(record: WorkerRecord) -> str:
    """Return the list of this one worker as frontends in containers read it."""
    policies = [
        {
            "all": one.all,
            "filter": list(one.filters),
            "keepDuration": one.keepDuration,
            "reservedSpace": one.reservedSpace,
            "maxUsedSpace": one.maxUsedSpace,
            "minFreeSpace": one.minFreeSpace,
        }
        for one in record.GCPolicy
    ]
    platforms = [
        {"architecture": one.Architecture, "os": one.OS, "variant": one.Variant}
        for one in record.platforms
    ]
    described = record.BuildkitVersion
    worker = {
        "id": record.ID,
        "labels": dict(record.Labels),
        "platforms": [{name: text for name, text in one.items() if text} for one in platforms],
        "gcPolicy": policies,
        "buildkitVersion": {
            "package": described.package,
            "version": described.version,
            "revision": described.revision,
            "dockerfileVersion": described.dockerfileVersion,
        },
        "cdiDevices": [],
    }
    return json.dumps([worker], separators=(",", ":"))


def _policy_message(policy: Policy) -> GCPolicy:
    return GCPolicy(
        all=policy.all,
        keepDuration=int((policy.keep_duration_s or 0) * _NS),
        filters=policy.filters,
        reservedSpace=policy.reserved_space,
        maxUsedSpace=policy.max_used_space or 0,
        minFreeSpace=policy.min_free_space or 0,
    )
