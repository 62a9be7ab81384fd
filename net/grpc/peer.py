"""The other side of a connection, and the owner that it acts as."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pybuild.model.dataclass import dataclass
from pybuild.net.doorway import uid_of
from pybuild.net.grpc.certificate import identity, units

ANONYMOUS = "anonymous"
_NOBODY = 0xFFFF_FFFF  # the kernel's word for a user that it does not know


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection.

    Attributes:
        kind: "unix", "tcp" or "tunnel".
        address: of the other side, as far as it has one.
        owner: as whom it acts: a user of this machine, a certificate, or everybody who gives
            none. Equal owners share sessions, builds and history, others nothing. Inside a tunnel
            there is none.
        refusal: why it may call nothing; empty where it may.
        units: the organizational units of its certificate.
    """

    kind: str = "tunnel"
    address: str = ""
    owner: str = ""
    refusal: str = ""
    units: tuple[str, ...] = ()


def user(uid: int) -> str:
    """Return the owner that a user of this machine is, by the Unix socket."""
    return f"uid:{uid}"


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return the other side of a connected socket, after TLS where there is any."""
    own = transport.get_extra_info("socket")
    if own is not None and own.family == socket.AF_UNIX:
        uid = uid_of(own)
        if uid == _NOBODY:
            return Peer("unix", refusal="the kernel does not say which user this is")
        return Peer("unix", owner=user(uid))
    at = transport.get_extra_info("peername")
    address = f"{at[0]}:{at[1]}" if isinstance(at, tuple) else ""
    return _remote(address, transport.get_extra_info("ssl_object"))


def _remote(address: str, tls: Any) -> Peer:
    certificate: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
    if certificate is None:  # only where the server lets in who has none
        return Peer("tcp", address, ANONYMOUS)
    try:
        name, parts = identity(certificate), units(certificate)
    except ValueError as error:
        return Peer("tcp", address, refusal=f"the client's certificate cannot be read: {error}")
    if not name:
        return Peer(
            "tcp", address, refusal="the client's certificate has neither a subject nor other names"
        )
    return Peer("tcp", address, f"certificate:{name}", units=parts)
