"""Networks that nobody is on any more, taken out of the kernel: for the store's spawner, which does it when it rests.

A bridge and a table that are made and removed for each container cost 100 ms, nearly all of it the kernel's
waits until no processor uses them. So they stay until no container has begun or ended for a moment.
"""

from __future__ import annotations

import os

from pybuild.cache.disk.locks import locked
from pybuild.networks import kernelstate, pod
from pybuild.networks.records import NetworkFiles


def tidy(folder: str) -> None:
    """Leave nothing in the kernel of the networks in a folder but what containers are on.

    Raises:
        Fault, OSError: it cannot be; the next command that looks at networks does it.
    """
    store = NetworkFiles(folder)
    if not os.path.exists(store.lock):
        return  # nobody has ever been on any
    with locked(store.lock):
        if pod.is_used():
            if not pod.is_held(folder):
                return  # they have gone with it
            pod.enter(store)
        kernelstate.sweep(store)
