"""The removal of a container that goes when it has ended: by its monitor, in a process of its own [CTR-36]."""

from __future__ import annotations

import os

from pybuild.executor.zygote import worker


def remove_in_child(root: str, id: str) -> None:
    """Remove the container *id*, if it is there, in a process that imports what that takes.

    Args:
        root: the store's directory.
    """
    if not os.path.lexists(f"{root}/containers/{id}"):
        return
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        from pybuild.cache.store import Store
        from pybuild.containers.containers import Containers
        from pybuild.engine.host import SystemClock

        with Store.open(root, SystemClock()) as store:
            containers = Containers(store)
            containers.remove(containers.find(id), volumes=True)
    except BaseException as error:  # noqa: BLE001 - must not unwind into the monitor's loop
        os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
    finally:
        os._exit(0)
