"""Containers of busybox in a store, for tests of rooms that run some."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pybuild.cache.store import Store
from pybuild.containers.attaching import Attached
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.logreading import read_log
from pybuild.containers.names import new_id
from pybuild.containers.order import ExecOrder
from pybuild.model.border import packed
from tests.clocks import FakeClock
from tests.executor.sandbox_helpers import make_base, skip_unless_possible

ENV = ("PATH=/bin", "A=b")


class BusyboxContainers(Containers):
    """The containers of a store that holds one layer, a busybox."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        active = store.deltas.begin()
        Path(active.fs).rmdir()
        make_base(Path(active.fs))
        self._layer = store.deltas.commit(active)

    def make(self, script: str, name: str = "one", **fields: Any) -> Container:
        """Make a container whose first process is a shell with *script*."""
        config = ContainerConfig(
            id=new_id(), name=name, image="base", manifest="", deltas=(self._layer,),
            cmd=("sh", "-c", script), env=ENV, network="none", hostname="here",
        )  # fmt: skip
        return self.create(config._replace(**fields))


@contextmanager
def busybox_containers(root: Path) -> Generator[BusyboxContainers]:
    """Yield the containers of a store; none of them is left, nor a process of theirs."""
    skip_unless_possible()
    with Store.open(str(root), FakeClock()) as store:
        made = BusyboxContainers(store)
        try:
            yield made
        finally:
            for one in made.list():
                made.remove(one, force=True)


def lines(container: Container) -> Sequence[tuple[str, str]]:
    """Return what a container has written so far, each line behind the name of its stream."""
    found = read_log(container, follow=False, tail=None, since="", until="")
    return [(one.stream, one.text) for one in found]


def until(is_so: Callable[[], bool]) -> None:
    """Return when it is so."""
    while not is_so():
        time.sleep(0.005)


def execute(container: Container, *words: str, **fields: Any) -> int | None:
    """Return the status of a command that is executed in a container."""
    line = container.connect()
    assert line is not None
    with line:
        attached = Attached(line, stdin=False, terminal=False, keys=None)
        attached.say("exec", packed(ExecOrder(words, ENV, "/", "")._replace(**fields)))
        return attached.follow()
