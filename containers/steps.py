"""The order to the sandbox for a container's first process. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pybuild.containers.config import ContainerConfig
from pybuild.containers.order import TREE, WORK
from pybuild.executor import network
from pybuild.executor.steps.spec import StepMount, StepSpec


def step_of(
    config: ContainerConfig, path: str, lowers: Sequence[str], mounts: Sequence[StepMount]
) -> StepSpec:
    """Return the first process of the container whose directory is *path*; *lowers*: of its layers."""
    return StepSpec(
        lowers=tuple(lowers),
        upper=os.path.join(path, TREE),
        work=os.path.join(path, WORK),
        args=config.args,
        env=config.env,
        cwd=config.cwd,
        user=config.user,
        hostname=config.hostname,
        network=config.network,
        mounts=tuple(mounts),
        resolv_conf=config.resolv_conf.encode(),
        hosts=network.hosts(config.hostname, config.add_hosts).encode(),
        ulimits=config.ulimits,
        shm_size_bytes=config.shm_bytes,
        readonly=config.readonly,
        limits=config.limits,
    )
