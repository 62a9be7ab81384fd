"""A child process that speaks JSON lines, started again whenever it ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

_AGAIN_S = 0.25
_END_S = 5.0
_MOST_LINE = 1 << 20

Hear = Callable[[dict[str, Any]], None]


def engine_command(module: str, *words: str) -> list[str]:
    """Return the command of a program of `pybuild.cluster.dask`."""
    return [sys.executable, "-P", "-m", f"pybuild.cluster.dask.{module}", *words]


class LineChild:
    """A program that runs until we close it, and is started again until then.

    Args:
        hear: is called with each line; with an empty one when the process has ended.
    """

    def __init__(self, command: Sequence[str], hear: Hear) -> None:
        self._command = command
        self._hear = hear
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start it."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def say(self, **message: Any) -> None:
        """Write a line; while no process runs it is lost."""
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _keep(self) -> None:
        while True:
            with suppress(OSError):  # there is no room for a process now
                await self._run()
            self._hear({})
            await asyncio.sleep(_AGAIN_S)

    async def _run(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=_MOST_LINE,
        )
        assert process.stdout is not None
        try:
            with suppress(ValueError, RecursionError):  # a line that is too long, or no JSON
                while (line := await process.stdout.readline()).endswith(b"\n"):
                    self._hear(json.loads(line))
        finally:
            self._process = None
            await _end(process, process.stdout)


async def _end(process: asyncio.subprocess.Process, said: asyncio.StreamReader) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            while await said.read(1 << 16):
                pass  # who writes cannot end
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
