"""JSON lines on standard input and output: how the processes of this room speak with pybuild."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from typing import Any

_MOST_LINE = 1 << 20


class Parent:
    """The process that started us. Standard output is ours alone: what libraries print goes to standard error."""

    def __init__(self) -> None:
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._reader = asyncio.StreamReader(limit=_MOST_LINE)

    async def open(self) -> None:
        """Begin to read; where standard input is no pipe, nobody speaks, and nobody ends us by that."""
        mode = os.fstat(0).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return
        protocol = asyncio.StreamReaderProtocol(self._reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)

    def say(self, **message: Any) -> None:
        """Write one line. The other side reads for as long as it lives; when it is gone, so are we."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            os._exit(0)

    async def hear(self) -> dict[str, Any] | None:
        """Return the next line; None at the end."""
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message
