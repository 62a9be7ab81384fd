"""Credential helpers: programs that keep logins for others, ``docker-credential-NAME`` [REG-4]."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_LIMIT_BYTES = 1 << 20


def is_helper_name(name: str) -> bool:
    """Whether *name* can be the end of a program's name, and nothing else."""
    return bool(_NAME.match(name))


async def run_helper(
    name: str, action: str, request: bytes, environ: Mapping[str, str], timeout_s: float
) -> tuple[int, bytes]:
    """Run a helper; return its exit status and its (bounded) answer.

    Args:
        action: ``get``, ``store``, ``erase`` or ``list``.

    Raises:
        FileNotFoundError: there is no such program. TimeoutError: it did not end, and was killed.
        OSError: it cannot be run, or answers without end.
    """
    process = await asyncio.create_subprocess_exec(
        f"docker-credential-{name}",
        action,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # helpers of some makers print secrets there
        env=dict(environ),
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(request)
                await process.stdin.drain()
            process.stdin.close()
            output = bytearray()
            while piece := await process.stdout.read(65536):
                output += piece
                if len(output) > _LIMIT_BYTES:
                    raise OSError(0, "answers without end")
            return await process.wait(), bytes(output)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
