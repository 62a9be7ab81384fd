"""Addresses where Docker's API is served, and what a client has to show there [ENG-42]."""

from __future__ import annotations

import grp
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.daemon.sockets import is_loopback, read_address, unix_socket
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.doorway import BACKLOG, listen_tcp
from pybuild.net.http1.tlsfiles import KeyPair
from pybuild.net.tls import server_context

if TYPE_CHECKING:
    from pybuild.engine.settings import Daemon
    from pybuild.net.activation import HandedSocket

_GROUP = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestPlace:
    """A socket that listens.

    Attributes:
        shown: its address.
        host: as it was written, empty where it is no TCP.
        tls: None where there is none.
    """

    shown: str
    listener: socket.socket
    host: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches it may do everything."""
        return bool(self.host) and (self.tls is None or self.tls.verify_mode != ssl.CERT_REQUIRED)


class PlaceMaker:
    """Makes places by the server's settings.

    Args:
        insecure: who sets this up says that everybody whom the addresses reach may do everything.

    Raises:
        UsageError: a certificate cannot be used.
    """

    def __init__(self, daemon: Daemon, *, insecure: bool) -> None:
        self._tls: ssl.SSLContext | None = None
        if daemon.cert:
            pair = KeyPair(daemon.cert, daemon.key)
            self._tls = server_context(pair, daemon.ca, protocols=["http/1.1"])
        self._insecure = insecure

    async def listen(self, address: str) -> Sequence[RestPlace]:
        """Listen on an address.

        Raises:
            UsageError: everybody could do everything there, or there is no such address.
            EnvironmentFault: it cannot be had.
        """
        parts = read_address(address)
        try:
            if parts.scheme == "unix":
                bound = unix_socket(parts.path)
                _admit_group(parts.path)
                bound.listen(BACKLOG)
                return [RestPlace(shown=address, listener=bound)]
            host = parts.hostname or ""
            self._check(address, host)
            bounds = await listen_tcp(parts.hostname, parts.port or 0, BACKLOG)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {address}: {error.strerror or error}"
            ) from error
        shown = address
        if not parts.port:  # one of the kernel's choice
            shown = address.removesuffix(":0") + f":{bounds[0].getsockname()[1]}"
        return [
            RestPlace(shown=shown, listener=one, host=host or "*", tls=self._tls) for one in bounds
        ]

    def handed(self, one: HandedSocket) -> RestPlace:
        """Take a socket of the service manager's as a place.

        Raises:
            UsageError: everybody could do everything there.
        """
        if not one.host:
            return RestPlace(shown=one.shown, listener=one.socket)
        self._check(one.shown, one.host)
        return RestPlace(shown=one.shown, listener=one.socket, host=one.host, tls=self._tls)

    def _check(self, address: str, host: str) -> None:
        mutual = self._tls is not None and self._tls.verify_mode == ssl.CERT_REQUIRED
        if mutual or self._insecure or (self._tls is None and is_loopback(host)):
            return
        raise UsageError(
            f"{address}: Docker's API on TCP lets everybody who reaches it be this user"
            + (" who shows no certificate" if self._tls is not None else ""),
            hints=["give --tlscacert, --tlscert and --tlskey, or say --insecure"],
        )


def _admit_group(path: str) -> None:
    """Let the group ``docker`` connect, where there is one and we may say so."""
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
        os.chmod(path, 0o660)
