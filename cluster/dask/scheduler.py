"""Dask's scheduler, guarded: ``python -m pybuild.cluster.dask.scheduler --addr tcp://HOST:PORT``.

Says its address in a line when it listens.
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import dask.config
from distributed import Scheduler

from pybuild.cluster.dask import guard
from pybuild.cluster.dask.options import read_options, security_of
from pybuild.cluster.dask.parent import Parent
from pybuild.cluster.roles import Role


async def serve(arguments: Sequence[str]) -> None:
    """Schedule claims until a signal or the end of standard input."""
    options = read_options("scheduler", arguments, "addr")
    parent = Parent()
    await parent.open()
    scheme, _, rest = options.addr.partition("://")
    host, _, port = rest.rpartition(":")
    if options.tls_ca_file:
        scheme = "tls"
    with _brief_directory():
        scheduler = Scheduler(
            host=host.strip("[]"),
            port=int(port),
            protocol=scheme,
            security=security_of(options, Role.COORDINATOR, Role.WORKER),
            dashboard=False,
            extensions={},
            dashboard_address="127.0.0.1:0",
        )
    guard.limit(scheduler)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with scheduler:
        parent.say(address=scheduler.address)

        async def read() -> None:
            while await parent.hear() is not None:
                pass
            stop.set()

        reading = asyncio.create_task(read())
        await stop.wait()
        reading.cancel()


@contextmanager
def _brief_directory() -> Generator[None]:
    """Have the directory that a server of Dask makes be gone when it is made: nothing is ever in it.

    It would be in one of /tmp that any user may have made, and modules are imported from it before all others.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pybuild-scheduler-") as scratch,
        dask.config.set({"temporary-directory": scratch}),
    ):
        yield
    sys.path[:] = [path for path in sys.path if not path.startswith(scratch + os.sep)]


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
