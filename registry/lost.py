"""What goes wrong below HTTP, sorted by what can be done about it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.registry.answer import BadAnswer
from pybuild.registry.connection import Cut
from pybuild.registry.dialing import PLAIN_REASONS
from pybuild.registry.faults import RegistryFault, printable

if TYPE_CHECKING:
    from yarl import URL

_DIALS = 3  # a host that is not there should be said soon


class ConnectionLost(RegistryFault):
    """No connection, a cut one or silence; worth another try.

    Attributes:
        unsent: the request surely had no effect.
        tries: how many tries are worth it in all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        hints: Sequence[str] = (),
        unsent: bool = False,
        tries: int = 1000,
    ) -> None:
        super().__init__(message, status=status, hints=hints)
        self.unsent = unsent
        self.tries = tries


class NotTls(ConnectionLost):
    """The TLS handshake failed in a way that a plain HTTP server causes."""


def lost(error: Exception, idle_s: float, url: URL | None = None) -> Exception:
    """Sort what went wrong below HTTP; programming errors come back as they are."""
    where = f" ({printable(url.authority)})" if url is not None else ""
    match error:
        case RegistryFault():
            return error
        case TimeoutError():
            return ConnectionLost(f"no answer for {idle_s:g} s{where}")
        case Cut():
            return ConnectionLost(f"connection cut{where}")
        case OSError():
            return ConnectionLost(f"{_os_reason(error, 'connection cut')}{where}")
        case BadAnswer() | ValueError():
            return RegistryFault(f"answer cannot be read: {printable(str(error), 120)}{where}")
        case _:
            return error


def undialled(error: OSError, url: URL) -> RegistryFault:
    """Sort why there is no connection."""
    where = f" ({printable(url.authority)})"
    secure = url.scheme == "https"
    match error:
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or str(error)
            return RegistryFault(
                f"certificate verify failed: {printable(reason)}{where}",
                hints=[f'give its authority as ca of registry."{url.authority}"'],
            )
        case ssl.SSLError():
            reason = error.reason or str(error)
            if reason in PLAIN_REASONS:
                return NotTls(
                    f"server gave HTTP response to HTTPS client{where}",
                    hints=[f'set http = true for registry."{url.authority}"'],
                    unsent=True,
                    tries=1,
                )
            return NotTls(f"TLS: {printable(reason.lower().replace('_', ' '))}{where}", unsent=True)
        case socket.gaierror():
            return ConnectionLost(f"no such host{where}", unsent=True, tries=_DIALS)
        case _:
            reason = _os_reason(error, "cannot connect")
            hung_up = isinstance(error, ConnectionResetError | BrokenPipeError)
            if secure and (hung_up or url.explicit_port is None):
                return NotTls(f"{reason}{where}", unsent=True)
            return ConnectionLost(f"{reason}{where}", unsent=True, tries=_DIALS)


def _os_reason(error: OSError, otherwise: str) -> str:
    """The system's words for it; asyncio has its own, with addresses in them."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return otherwise
