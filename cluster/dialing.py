"""Channels to other workers, opened when first needed and again when they broke."""

from __future__ import annotations

import asyncio
import ssl

from pybuild.cluster.roles import Role
from pybuild.net.grpc.channel import Channel

_CONNECT_S = 5.0


class WorkerAddress:
    """An address of a worker, and the channel to it."""

    def __init__(self, address: str, tls: ssl.SSLContext | None) -> None:
        self.address = address
        self._tls = tls
        self._lock = asyncio.Lock()
        self._channel: Channel | None = None

    async def channel(self) -> Channel:
        """Return the open channel.

        Raises:
            OSError: nobody answers there.
        """
        async with self._lock:
            if self._channel is None or self._channel.closed.is_set():
                await self.close()
                self._channel = await dial(self.address, self._tls)
            return self._channel

    async def close(self) -> None:
        """Close the channel, if there is one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


class WorkerAddresses:
    """All addresses that a process has dialled."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._known: dict[str, WorkerAddress] = {}

    def get(self, address: str) -> WorkerAddress:
        """Return the one that is *address*."""
        if address not in self._known:
            self._known[address] = WorkerAddress(address, self._tls)
        return self._known[address]

    async def close(self) -> None:
        """Close every channel."""
        for one in self._known.values():
            await one.close()


async def dial(address: str, tls: ssl.SSLContext | None) -> Channel:
    """Connect to a worker.

    Raises:
        OSError: nobody answers there, or shows the wrong certificate.
    """
    is_local = address.startswith("unix://")
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if not is_local and tls is None:
        raise ConnectionRefusedError("workers on TCP need certificates, and none were given here")
    try:
        async with asyncio.timeout(_CONNECT_S):  # TimeoutError is an OSError
            channel = await Channel.connect(
                address,
                ssl=None if is_local else tls,
                server_hostname=None if is_local else host,
            )
    except ssl.SSLCertVerificationError as error:
        raise ConnectionRefusedError(f"its certificate: {error.verify_message}") from error
    except TimeoutError:
        raise TimeoutError(f"no answer for {_CONNECT_S:.0f} s") from None
    if not is_local and Role.WORKER not in channel.peer.units:
        roles = ", ".join(channel.peer.units) or "none"
        await channel.close()
        raise ConnectionRefusedError(f"its certificate is no worker's; its role is: {roles}")
    return channel
