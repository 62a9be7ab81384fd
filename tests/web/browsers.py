"""A real browser, driven over two pipes by the protocol of its developer tools."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ANSWER_S = 120.0


class Browser:
    """One page of a browser; waits for whatever it asks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport) -> None:
        self._reader = reader
        self._writer = writer
        self._last = 0
        self._session = ""
        self.complaints: list[str] = []

    async def begin(self) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            async with asyncio.timeout(ANSWER_S):
                data = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if data.get("id") == self._last:
                return data.get("result", {})  # empty where the page has been left meanwhile
            if data.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(data["params"]))

    async def open(self, address: str) -> None:
        await self.call("Page.navigate", url=address)

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds in the page, of which it may be another one by then."""
        async with asyncio.timeout(ANSWER_S):
            while not await self.value(expression):
                await asyncio.sleep(0.05)

    async def look(self, width: int, *, dark: bool) -> None:
        """Show the page at a width, in light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """Return the page as a PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def browsing(profile: Path) -> AsyncGenerator[Browser]:
    """Run Debian's chromium with a new profile."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    program = (
        f"exec timeout -k 5 300 chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe "
        f'--user-data-dir="$1" 3<&{theirs_in} 4>&{theirs_out}'
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", program, "bash", str(profile),
        env={**os.environ, "HOME": str(profile)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(theirs_in, theirs_out),
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    incoming, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb")
    )
    outgoing, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(ours_out, "wb"))
    try:
        browser = Browser(reader, outgoing)
        await browser.begin()
        yield browser
    finally:
        outgoing.close()
        incoming.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()
