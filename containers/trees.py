"""A container's file tree, handed to a worker: its layers, what it wrote, its volumes, or its living root."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from pybuild.cache.store import Store
from pybuild.containers.container import Container
from pybuild.containers.order import TREE
from pybuild.containers.treejobs import ContainerTree
from pybuild.model.errors import EnvironmentFault
from pybuild.volumes.mountpoint import MountKind
from pybuild.volumes.volumes import Volumes


@contextmanager
def tree_of(
    store: Store, container: Container, mount_dir: str, *, bare: bool = False
) -> Generator[tuple[ContainerTree, list[int]]]:
    """Give a worker's view of the tree, and the descriptors that go with it.

    Args:
        bare: without volumes, and as it is in the store, also where the container runs.

    Raises:
        EnvironmentFault: the root directory of a container that runs cannot be opened.
    """
    fds: list[int] = []
    scratch = ""
    state = container.state()
    runs = bool(state.pid) and not bare
    if runs:
        try:
            fds.append(
                os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            )
        except OSError as error:
            raise EnvironmentFault(
                f"the files of container {container.config.name} cannot be reached: "
                f"{(error.strerror or '').lower()}",
                hints=["stop it, and copy then"],
            ) from error
    elif not bare:
        scratch = store.scratch("tree")
        for path in (scratch, f"{scratch}/work", f"{scratch}/upper"):
            os.mkdir(path, 0o755)
    volumes: list[tuple[str, str, str]] = []
    if not (runs or bare):
        known = Volumes(store)
        for mount in sorted(container.config.mounts, key=lambda one: one.target.split("/")):
            if mount.kind is not MountKind.TMPFS:
                step = known.step_mount(mount)
                volumes.append((step.source, step.selector, mount.target))
    try:
        yield (
            ContainerTree(
                name=container.config.name,
                lowers=tuple(map(store.deltas.path, container.config.deltas)),
                upper=os.path.join(container.path, TREE),
                mount_dir=mount_dir,
                scratch=scratch,
                volumes=tuple(volumes),
                runs=runs,
            ),
            fds,
        )
    finally:
        for fd in fds:
            os.close(fd)
        if scratch:
            store.discard(scratch)
