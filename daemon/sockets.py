"""Sockets that the server listens on: made so that nobody else can take their places."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pybuild.cache.disk.ownership import doubt, refuses
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.doorway import BACKLOG, Doorway, listen_tcp

if TYPE_CHECKING:
    import ssl

    from pybuild.net.grpc.server import GrpcServer


def read_address(address: str) -> SplitResult:
    """Return the parts of ``unix://PATH`` or ``tcp://HOST:PORT``.

    Raises:
        UsageError: it is none of them.
    """
    try:
        parts = urlsplit(address)
        is_tcp = parts.scheme == "tcp" and parts.port is not None
    except ValueError as error:
        raise UsageError(f"invalid address {address}: {error}") from error
    if is_tcp or (parts.scheme == "unix" and parts.path):
        return parts
    raise UsageError(f"invalid address {address}: expected unix://PATH or tcp://HOST:PORT")


def is_loopback(host: str) -> bool:
    """Return whether this machine alone reaches *host*: a number, or ``localhost``."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def unix_socket(path: str) -> socket.socket:
    """Bind *path* for this user alone; a socket that nobody listens on any more is replaced."""
    folder = os.path.dirname(path) or "/"
    os.makedirs(folder, mode=0o711, exist_ok=True)
    mode = os.stat(folder).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"cannot listen on unix://{path}: everybody may put another socket in its place",
            hints=[f"take a directory that only you may write to, or chmod o-w {folder}"],
        )
    mistrust = doubt(path)
    if refuses(mistrust):
        raise UsageError(
            f"cannot listen on unix://{path}: {mistrust.text}, "
            "and could put another socket in its place",
            hints=["take a directory that only you may change, such as one in /run"],
        )
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            if _has_server(path):
                raise EnvironmentFault(f"cannot listen on unix://{path}: a server is there")
            os.unlink(path)
    except FileNotFoundError:
        pass
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(bound.fileno(), 0o600)  # the file is made with it: it is never open to others
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    return bound


def _has_server(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def remove_socket(address: str) -> None:
    """Remove the socket of an address that we do not listen on any more; one of a server that has followed stays."""
    parts = urlsplit(address)
    if parts.scheme == "unix" and not _has_server(parts.path):
        try:
            os.unlink(parts.path)
        except FileNotFoundError:
            pass


async def listeners_at(address: str) -> list[socket.socket]:
    """Listen at an address, of which a name of TCP may have several.

    Raises:
        EnvironmentFault: something else listens there, or nobody may.
    """
    parts = read_address(address)
    try:
        if parts.scheme == "unix":
            bound = unix_socket(parts.path)
            bound.listen(BACKLOG)
            return [bound]
        return await listen_tcp(parts.hostname, parts.port or 0, BACKLOG)
    except OSError as error:
        raise EnvironmentFault(f"cannot listen on {address}: {error.strerror or error}") from error


def door_of(grpc: GrpcServer, bound: socket.socket, context: ssl.SSLContext | None) -> Doorway:
    """Return the door of a server at a socket that listens; a Unix socket goes without TLS."""
    tls = None if bound.family == socket.AF_UNIX else context
    return Doorway(grpc.protocol, grpc.admission, bound, tls)
