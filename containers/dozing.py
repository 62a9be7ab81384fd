"""A monitor's process: at work, or asleep until something comes for its container [MON-4].

Each page that Python writes to is a monitor's own. So a monitor that has had nothing to do for a while
has the spawner fork another, which does nothing but wait for what is to wake it, and ends when that one
is there. Woken, it adopts the container, as one does whose predecessor was killed.
"""

from __future__ import annotations

import os
import select
import time

from pybuild.containers import keeping
from pybuild.containers.calls import tell
from pybuild.containers.monitor import Monitor
from pybuild.executor.zygote import worker
from pybuild.executor.zygote.faults import Fault
from pybuild.networks import tidying
from pybuild.networks.helper import is_left, wakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import NoReturn

    from pybuild.containers.keeping import Adopted, SpawnerLine
    from pybuild.containers.order import ContainerOrder, StreamAttachment

_PAUSE_S = 1.0
_UNWATCHED = frozenset({keeping.LOCK, keeping.STDIN})


def become_monitor(
    order: ContainerOrder,
    home: int,
    answer: _socket.socket | None,
    keeper: SpawnerLine,
    attached: Sequence[tuple[_socket.socket, StreamAttachment]],
    adopted: Adopted | None,
) -> NoReturn:
    """Run *order* to its end, or until it can be left to a monitor that sleeps.

    Args:
        home: the container's directory, open.
        answer: hears that it has started, or why not.
        keeper: what holds our descriptors for the next monitor.
        attached: those who are there from the first byte on.
        adopted: what the monitor before has left; the container runs.
    """
    os.setsid()
    monitor: Monitor | None = None
    try:
        if adopted is not None and adopted.dozes:
            _doze(adopted, keeper)
        monitor = Monitor(order, home, answer, keeper, adopted)
        for line, attachment in attached:
            monitor.attach_first(line, attachment)
        if adopted is not None:
            monitor.adopt(adopted)
        else:
            monitor.start()
        monitor.serve()
        if monitor.is_alone and order.networks is not None:
            tidying.tidy(order.networks.folder, tidying.bridges_of(order.networks.folder))
    except (OSError, Fault, ValueError) as error:
        if answer is not None:
            tell(answer, worker.fault_message(error))
        if monitor is not None:
            monitor.children.kill_all()
        if adopted is not None:  # it runs, and another tries it
            os.write(2, f"container {order.id[:12]}: {error}\n".encode())
            time.sleep(_PAUSE_S)
            os._exit(1)
    # A monitor that ends by itself has nothing to hand over that it did not say.
    os._exit(0)


def _doze(adopted: Adopted, keeper: SpawnerLine) -> None:
    """Wait until anything comes, and touch as little memory as can be."""
    poller = select.poll()
    poller.register(keeper.fileno(), select.POLLIN)
    for name, fd in adopted.fds.items():
        if name not in _UNWATCHED and (wakes(name) or not is_left(name)):
            poller.register(fd, select.POLLIN)
    poller.poll()
