"""Networks that nobody is on any more, taken out of the kernel: for the store's spawner, which does it when it rests.

A bridge and a table that are made and removed for each container cost 100 ms, nearly all of it the kernel's
waits until no processor uses them. So they stay until no container has begun or ended for a moment.
"""

from __future__ import annotations

import os

from pybuild.cache.disk.locks import locked
from pybuild.networks import kernelstate, pod
from pybuild.networks.records import NetworkFiles


def bridges_of(folder: str) -> frozenset[tuple[str, str]]:
    """Return the table and the bridge of each network in a folder: of a store that is deleted nothing else tells."""
    store = NetworkFiles(folder)
    try:
        return frozenset((store.table, one.bridge) for one in store.networks() if one.bridge)
    except OSError:
        return frozenset()


def tidy(folder: str, known: frozenset[tuple[str, str]] = frozenset()) -> None:
    """Leave nothing in the kernel of the networks in a folder but what containers are on.

    Args:
        known: the `bridges_of` the folder when containers were started.

    Raises:
        Fault, OSError: it cannot be; the next command that looks at networks does it.
    """
    store = NetworkFiles(folder)
    if os.path.exists(store.lock):
        with locked(store.lock):
            if pod.is_used():
                if not pod.is_held(folder):
                    return  # they have gone with it
                pod.enter(store)
            kernelstate.sweep(store)
    if not pod.is_used():
        present = bridges_of(folder)
        kernelstate.remove_deleted(known - present, {table for table, _ in present})
