"""A container's file tree, handed to a worker: its layers, what it wrote, its volumes, or its living root."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from pybuild.cache.disk.locks import born
from pybuild.cache.store import Store
from pybuild.containers.container import Container
from pybuild.containers.order import TREE
from pybuild.containers.state import ContainerState
from pybuild.containers.treejobs import ContainerTree
from pybuild.executor.zygote import procstatus
from pybuild.model.errors import EnvironmentFault
from pybuild.volumes.mountpoint import MountKind
from pybuild.volumes.volumes import Volumes


@contextmanager
def tree_of(
    store: Store, container: Container, mount_dir: str, *, bare: bool = False, name: str = ""
) -> Generator[tuple[ContainerTree, list[int]]]:
    """Give a worker's view of the tree, and the descriptors that go with it.

    Args:
        bare: without volumes, and as it is in the store, also where the container runs.
        name: as whoever asks calls the container, for messages; its own otherwise.

    Raises:
        EnvironmentFault: the root directory of a container that runs cannot be opened.
        UserError: one of its volumes is not there any more.
    """
    fds: list[int] = []
    scratch = ""
    state = container.state()
    runs = bool(state.pid) and not bare
    try:
        if runs:
            fds.append(_root(container, state))
        elif not bare:
            scratch = store.scratch("tree")
            for path in (scratch, f"{scratch}/work", f"{scratch}/upper"):
                os.mkdir(path, 0o755)
        yield (
            ContainerTree(
                name=name or container.config.name,
                lowers=tuple(map(store.deltas.path, container.config.deltas)),
                upper=os.path.join(container.path, TREE),
                mount_dir=mount_dir,
                scratch=scratch,
                volumes=() if runs or bare else tuple(_volumes(store, container)),
                runs=runs,
            ),
            fds,
        )
    finally:
        for fd in fds:
            os.close(fd)
        if scratch:
            store.discard(scratch)


def _root(container: Container, state: ContainerState) -> int:
    """Return its root directory; a number that another process has by now is not believed."""
    problem = "it has just ended"
    try:
        fd = os.open(
            f"/proc/{procstatus.inner(state.pid)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except FileNotFoundError:
        pass
    except OSError as error:
        problem = (error.strerror or "").lower()
    else:
        if born(state.pid) == state.born:
            return fd
        os.close(fd)
    raise EnvironmentFault(
        f"the files of container {container.config.name} cannot be reached: {problem}",
        hints=["stop it, and copy then"],
    )


def _volumes(store: Store, container: Container) -> Iterable[tuple[str, str, str, bool]]:
    """Return the directories that are mounted, the path of each that is, its place, and whether it can only be read; outer ones first."""
    known = Volumes(store)
    for mount in sorted(container.config.mounts, key=lambda one: one.target.split("/")):
        if mount.kind != MountKind.TMPFS:
            step = known.step_mount(mount)
            yield step.source, step.selector, mount.target, step.readonly
