"""The roles of the cell's certificates in Dask's connections: each process speaks to the others that it needs, alone.

Dask asks for a certificate of the authority, and no more: with a worker's one could be the scheduler, or a
coordinator. The role is the subject's unit, as everywhere in a cluster (`pybuild.cluster.certificates`).
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from distributed import Security

from pybuild.cluster.roles import Role, units_of


class RoleSecurity(Security):  # type: ignore[misc]
    """Certificates, and the roles of those who are spoken to, whoever has called whom."""

    def __init__(self, roles: tuple[Role, ...], **files: Any) -> None:
        super().__init__(require_encryption=True, **files)
        self._socket = type("RoleSocket", (_RoleSocket,), {"roles": roles})

    def _get_tls_context(self, tls: Any, purpose: Any) -> Any:
        context: Any = super()._get_tls_context(tls, purpose)
        context.sslsocket_class = self._socket
        return context


class _RoleSocket(ssl.SSLSocket):
    """A connection that fails in its handshake where the other side has none of the *roles*."""

    roles: tuple[Role, ...] = ()

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        units = units_of(self.getpeercert())
        if not units.intersection(self.roles):
            others = " or ".join(self.roles)
            text = (
                f"the role of its certificate is {' '.join(sorted(units)) or 'none'}, not {others}"
            )
            raise ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, text)


def for_roles(call: Callable[..., Any], *roles: Role) -> Callable[..., Awaitable[Any]]:
    """Return a call of Dask's that is done for these roles, where there are certificates."""

    async def handle(comm: Any, **message: Any) -> Any:
        certificate = comm.extra_info.get("peercert")
        if certificate is not None and not units_of(certificate).intersection(roles):
            raise PermissionError(f"this call is for a {' or '.join(roles)}")
        return await call(comm, **message)

    return handle
