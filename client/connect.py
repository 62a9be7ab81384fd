"""Connects to a build server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pybuild.client.builders import BuilderRecord
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.grpc.channel import Channel
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.net.tls import make_context

_CONNECT_S = 20.0
_FAREWELL_S = 0.2


@asynccontextmanager
async def connected(builder: BuilderRecord) -> AsyncGenerator[Channel]:
    """Give a connection; leaving the context ends it without waiting for a server that hangs.

    Raises:
        UsageError: the address or a certificate cannot be used.
        EnvironmentFault: nobody answers, or it is somebody else.
    """
    channel = await _connect(builder)
    try:
        yield channel
    except EnvironmentFault as error:
        if channel.closed.is_set() and not error.hints and (hint := _missing(builder)):
            raise error.hinting(hint) from error.__cause__
        raise
    finally:
        await asyncio.wait((asyncio.create_task(channel.close()),), timeout=_FAREWELL_S)


def _missing(builder: BuilderRecord) -> str:
    """Return the likely want of a server that closes the connection at once."""
    if builder.address.startswith("unix://") or builder.cert:
        return ""
    if builder.uses_tls:
        return "it may want a certificate of ours: --tlscert and --tlskey"
    return "it may want TLS: --tlscacert, and --tlscert and --tlskey"


async def _connect(builder: BuilderRecord) -> Channel:
    address = builder.address
    if not address.startswith(("unix://", "tcp://")):
        raise UsageError(f'invalid address "{address}": expected unix://PATH or tcp://HOST:PORT')
    context = client_context(builder) if builder.uses_tls else None
    try:
        async with asyncio.timeout(_CONNECT_S):
            return await Channel.connect(
                address, ssl=context, server_hostname=builder.server_name or None
            )
    except TimeoutError as error:
        raise EnvironmentFault(f"cannot connect to {builder.shown}: no answer") from error
    except ssl.SSLCertVerificationError as error:
        from pybuild.net.http1.faults import mend_of_certificate

        reason = error.verify_message or str(error)
        hint = mend_of_certificate(error, "it") or "give its authority with --tlscacert"
        raise EnvironmentFault(
            f"cannot connect to {builder.shown}: certificate of the server: {reason}", hints=[hint]
        ) from error
    except PermissionError as error:
        raise EnvironmentFault(
            f"cannot connect to {builder.shown}: permission denied",
            hints=["only who runs the server, or root, may write to its socket"],
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EnvironmentFault(
            f"cannot connect to {builder.shown}: {reason}",
            hints=["start a server there: pybuild daemon --addr ADDR"],
        ) from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def client_context(builder: BuilderRecord) -> ssl.SSLContext:
    """Return our side of TLS; without an authority the system's are trusted.

    Raises:
        UsageError: a file cannot be used.
    """
    if builder.key and not builder.cert:
        raise UsageError("TLS: a key without a certificate", hints=["give it with --tlscert"])
    return make_context(
        Tls(
            ca=(builder.ca,) if builder.ca else (),
            keypairs=(KeyPair(builder.cert, builder.key),) if builder.cert else (),
            only=True,
        )
    )
