"""Runtime bundles: an image's file tree, and the configuration for an OCI runtime [OUT, IMG-18]."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pybuild.engine.engine import Engine
from pybuild.executor.files.encode import encode_copy
from pybuild.executor.files.values import DeltaStack
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.model.ops import Copy
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.executor.files import apply
else:
    apply = WorkerModule("pybuild.executor.files.apply")


async def write_bundle(
    engine: Engine,
    snapshot: Snapshot,
    config: Mapping[str, Any],
    directory: str,
    rootless: bool,
) -> None:
    from pybuild.exporter.directories import make_output
    from pybuild.image.runtimespec import write_bundle

    # Made and closed for its looks at who made the links on the way.
    os.close(make_output(directory))
    rootfs = os.path.join(os.path.abspath(directory), "rootfs")
    os.makedirs(rootfs)
    lowers = await engine.layers().ensure(snapshot.deltas, lambda event: None)
    whole = encode_copy(Copy(input=0, source="/", dest="/"), is_scratch=True)
    inputs = {0: DeltaStack(lowers)}
    work = job(apply.apply, engine.mount_dir(), rootfs, inputs=inputs, actions=[whole])
    await engine.workers.call(work)
    os.close(make_output(directory))
    write_bundle(directory, config, rootless=rootless or os.geteuid() != 0)
