"""TLS before a protocol of ours, where each side may end what it says and go on hearing.

asyncio's own TLS takes a client's close_notify for the end of the connection, and drops what we
still have to say; a client of Docker's API says with it that standard input is at its end.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from pybuild.net.doorway import Visit

_PIECE_BYTES = 1 << 16


class TlsVisit(asyncio.Protocol):
    """A connection of which *inner* sees what is in TLS; as a `Doorway` sees it.

    Args:
        context: of a server.
    """

    def __init__(self, inner: Visit, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._coming = ssl.MemoryBIO()
        self._going = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._coming, self._going, server_side=True)
        self._raw: asyncio.Transport | None = None
        self._above: TlsTransport | None = None
        self._heard_all = False

    # --- for the door ---------------------------------------------------------------------------

    @property
    def protocol(self) -> asyncio.BaseProtocol:
        return self

    @property
    def begun(self) -> asyncio.Event:
        return self._inner.begun

    @property
    def gone(self) -> asyncio.Event:
        return self._inner.gone

    def idle_since(self) -> float | None:
        return self._inner.idle_since()

    def leave(self) -> None:
        self._inner.leave()

    def abort(self) -> None:
        if self._raw is not None:
            self._raw.abort()

    # --- for the loop ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)  # uvloop's own are no subclasses

    def data_received(self, data: bytes) -> None:
        self._coming.write(data)
        if self._above is None:
            self._shake_hands()
        self.read()

    def eof_received(self) -> bool:
        """Close: who ends what it says and wants to hear the rest ends its TLS alone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._above is not None:
            self._above.get_protocol().connection_lost(exc)
        else:
            self._inner.begun.set()
            self._inner.gone.set()

    def pause_writing(self) -> None:
        if self._above is not None:
            self._above.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        if self._above is not None:
            self._above.get_protocol().resume_writing()

    # --- both ways ------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        raw = self._raw
        assert raw is not None
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return
        except (ssl.SSLError, ssl.CertificateError):
            self.flush()  # the alert that says why
            raw.close()
            return
        self.flush()
        self._above = TlsTransport(self, raw, self._inner.protocol)
        self._inner.protocol.connection_made(self._above)

    def read(self) -> None:
        """Hand on what has come, as long as it is taken."""
        above = self._above
        while above is not None and above.is_reading() and not self._heard_all:
            try:
                data = self.tls.read(_PIECE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                above.abort()
                return
            if not data:
                self._heard_all = True
                if not cast(asyncio.Protocol, above.get_protocol()).eof_received():
                    above.close()
                break
            cast(asyncio.Protocol, above.get_protocol()).data_received(data)
        self.flush()  # answers of TLS itself, such as new keys

    def flush(self) -> None:
        """Send what TLS has ready."""
        if self._raw is not None and (data := self._going.read()) and not self._raw.is_closing():
            self._raw.write(data)


class TlsTransport(asyncio.Transport):
    """The transport that the protocol inside TLS has."""

    def __init__(
        self, below: TlsVisit, raw: asyncio.Transport, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__()
        self._below = below
        self._raw = raw
        self._protocol = protocol
        self._said_all = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about the connection below, or its TLS."""
        return self._below.tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._said_all or self._raw.is_closing():
            return
        view = memoryview(data).cast("B")
        while view:
            view = view[self._below.tls.write(view) :]
        self._below.flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that there comes no more; what the other side says is still heard."""
        if not self._said_all:
            self._said_all = True
            with suppress(
                ssl.SSLError
            ):  # it wants the other side's, too, which comes when it comes
                self._below.tls.unwrap()
            self._below.flush()

    def close(self) -> None:
        self.write_eof()
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()
        asyncio.get_running_loop().call_soon(self._below.read)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()
