"""A cluster on this machine: workers with stores of their own beside ours, and the engine's scheduler."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from pybuild.cluster.certificates import Certificates, make_certificates
from pybuild.cluster.child import LineChild, engine_command
from pybuild.cluster.members import Members
from pybuild.cluster.roles import Role
from pybuild.model.errors import EnvironmentFault

_READY = b"running worker on "
_START_S = 30.0
_END_S = 10.0
_LOOPBACK = "127.0.0.1"


class LocalCluster:
    """Workers of ours, which end with their context.

    Args:
        root: of our store; theirs are beside it.
        has_engine: steps begin by claims of a scheduler, which is started, too.
    """

    def __init__(self, root: str, config: str, count: int, slots: int, *, has_engine: bool) -> None:
        self._base = root.rstrip("/") + "-workers"
        self._config = config
        self._count, self._slots = count, slots
        self._has_engine = has_engine

    @asynccontextmanager
    async def running(self, members: Members, scratch: str) -> AsyncGenerator[Members]:
        """Start them; return all members of the cluster, which has *members* too.

        Args:
            scratch: a path that is ours while we live (`Store.scratch`), for certificates that end with us.
        """
        async with AsyncExitStack() as stack:
            words: tuple[str, ...] = ()
            if self._has_engine and not members.scheduler:
                scheduler, worker, ours = await stack.enter_async_context(_scheduler(scratch))
                words = ("--scheduler", scheduler.replace("tls:", "tcp:"))
                words += ("--tlscacert", worker.ca, "--tlscert", worker.cert)
                words += ("--tlskey", worker.key)
                count = members.count + self._count
                members = replace(members, scheduler=scheduler, claims=ours, count=count)
            own = await stack.enter_async_context(self._workers(words))
            if not words:
                members = replace(members, addresses=[*own, *members.addresses])
            yield members

    @asynccontextmanager
    async def _workers(self, words: Sequence[str]) -> AsyncGenerator[list[str]]:
        processes: list[asyncio.subprocess.Process] = []
        addresses: list[str] = []
        try:
            for number in range(1, self._count + 1):
                root = os.path.join(self._base, str(number))
                os.makedirs(root, mode=0o700, exist_ok=True)
                address = f"unix://{self._base}/{number}.sock"
                command = [sys.executable, "-P", "-m", "pybuild", "worker", "--root", root]
                processes.append(
                    await asyncio.create_subprocess_exec(
                        *command,
                        *("--addr", address, "--slots", str(self._slots), "--until-eof"),
                        *(("--config", self._config) if self._config else ()),
                        *words,
                        stdin=asyncio.subprocess.PIPE,  # it ends with us, however we end
                        stderr=asyncio.subprocess.PIPE,
                        start_new_session=True,
                    )
                )
                addresses.append(address)
            for process, address in zip(processes, addresses, strict=True):
                await _ready(process, address)
            followers = [asyncio.create_task(_follow(process)) for process in processes]
            try:
                yield addresses
            finally:
                for follower in followers:
                    follower.cancel()
        finally:
            await _end(processes)


@asynccontextmanager
async def _scheduler(directory: str) -> AsyncGenerator[tuple[str, Certificates, Certificates]]:
    """Start a scheduler; return its address, and certificates of workers and coordinator, which end with it.

    It listens on the loopback device, where anybody of this machine may connect; so it asks for certificates.
    """
    os.mkdir(directory, 0o700)
    try:
        members = [(role, _LOOPBACK) for role in (Role.SCHEDULER, Role.WORKER, Role.COORDINATOR)]
        paths = await asyncio.to_thread(make_certificates, directory, members, 3650)
        ca = os.path.join(directory, "ca.pem")
        its, worker, ours = (Certificates(ca=ca, cert=cert, key=key) for cert, key in paths)
        address = f"tls://{_LOOPBACK}:{_free_port()}"
        is_up = asyncio.Event()

        def hear(message: dict[str, Any]) -> None:
            if message:
                is_up.set()

        child = LineChild(engine_command("scheduler", "--addr", address, *its.words()), hear)
        child.open()
        try:
            try:
                async with asyncio.timeout(_START_S):
                    await is_up.wait()
            except TimeoutError:
                raise EnvironmentFault("the cluster's scheduler did not start") from None
            yield address, worker, ours
        finally:
            await child.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _ready(process: asyncio.subprocess.Process, address: str) -> None:
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(_START_S):
            while line := await process.stderr.readline():
                if line.startswith(_READY):
                    return
                said += line
    except TimeoutError:
        pass
    text = said.decode(errors="replace").strip()
    raise EnvironmentFault(f"worker {address} did not start: {text or 'it says nothing'}")


async def _follow(process: asyncio.subprocess.Process) -> None:
    """Pass on what a worker writes."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        sys.stderr.write(f"worker {process.pid}: {line.decode(errors='replace')}")


async def _end(processes: Sequence[asyncio.subprocess.Process]) -> None:
    running = [process for process in processes if process.returncode is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    waiting = [asyncio.create_task(process.wait()) for process in running]
    if waiting:
        _, stuck = await asyncio.wait(waiting, timeout=_END_S)
        if stuck:
            for process in running:
                if process.returncode is None:
                    process.kill()
            await asyncio.wait(stuck)
