"""The tree of a container as it is handed to a worker [CTR-85]."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.disk.locks import born
from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.state import RUNNING, ContainerState
from pybuild.containers.trees import tree_of
from pybuild.engine.host import SystemClock
from pybuild.executor.zygote import procstatus
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.volumes.mountpoint import settled
from pybuild.volumes.reading import read_bind

CONFIG = ContainerConfig(id="ab" * 32, name="web", image="app", manifest="", image_id="", deltas=())


class Running(Container):
    """A container whose process is ours, or was of our number."""

    seen = ContainerState(RUNNING, pid=os.getpid())

    def state(self) -> ContainerState:
        return self.seen


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", SystemClock()) as opened:
        yield opened


def test_the_root_of_another_process_of_its_number_is_not_taken_for_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's root could be this machine's, and `cp` would write there."""
    monkeypatch.setattr(procstatus, "inner", int)  # ours is this machine's, as a supervisor's is
    one = Running("/nowhere", CONFIG)
    Running.seen = Running.seen._replace(born=born(os.getpid()))
    with tree_of(store, one, "/") as (tree, fds):
        assert tree.runs
        assert os.path.samestat(os.fstat(fds[0]), os.stat("/"))
    Running.seen = Running.seen._replace(born=born(os.getpid()) + 1)
    with pytest.raises(EnvironmentFault, match="of container web cannot be reached: it has just"):
        tree_of(store, one, "/").__enter__()


def test_nothing_is_left_where_a_volume_is_gone(store: Store) -> None:
    config = CONFIG._replace(mounts=settled([read_bind("gone:/v")], (), []))
    Running.seen = ContainerState()

    def left() -> list[str]:
        names = os.listdir(os.path.join(store.root, "tmp"))
        return sorted(name for name in names if not name.startswith("trash"))

    before = left()
    with pytest.raises(UserError, match="get gone: no such volume"):
        tree_of(store, Running("/nowhere", config), "/").__enter__()
    assert left() == before
