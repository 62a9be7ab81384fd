"""The calls between coordinators, workers and stores: their names and their small messages.

All are gRPC over our HTTP/2; a message is JSON by `wire`, but the bytes of blobs and of secrets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pybuild.cluster import wire
from pybuild.cluster.ticket import FORMAT, StepFault
from pybuild.model.contents import ContentDigest
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.model.selection import Selection
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

HELLO = "/pybuild.cluster.Steps/Hello"
BUILD = "/pybuild.cluster.Steps/Build"
RUN = "/pybuild.cluster.Steps/Run"
DIGEST = "/pybuild.cluster.Steps/Digest"
LAYER = "/pybuild.cluster.Store/Layer"
BLOB = "/pybuild.cluster.Store/Blob"
SECRET = "/pybuild.cluster.Home/Secret"

BUILD_ID = "x-pybuild-build"
"""The metadata that names the build of a call."""

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A worker, as it describes itself; a coordinator says only its format.

    Attributes:
        slots: steps that it runs at once.
        platforms: those of steps that it runs, its own first.
        memory_bytes: of the machine.
    """

    format: int = FORMAT
    version: str = ""
    slots: int = 0
    platforms: tuple[Platform, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestQuery:
    """A question for the digest of what *selection* picks from a stack of deltas."""

    deltas: tuple[str, ...]
    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestAnswer:
    """The digest, or why there is none."""

    content: ContentDigest | None = None
    fault: StepFault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerQuery:
    """A demand for a layer of a delta, in a compression."""

    delta: str
    compression: str
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAnswer:
    """A layer that was made, as a blob of the store that answers."""

    diff_id: Digest
    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBytesQuery:
    """A demand for the bytes of a layer of *delta*."""

    delta: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretQuery:
    """A demand for a secret that a running step's op names."""

    id: str


def read(kind: type[Q], message: bytes) -> Q:
    """Return a message of the other side.

    Raises:
        RpcError: it is none.
    """
    try:
        return wire.read(kind, message)
    except wire.Unreadable as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"{kind.__name__}: {error}") from error


def answering(kind: type[Q], answer: Callable[[Q, IncomingCall], Awaitable[object]]) -> Handler:
    """Return the handler of calls with one message *kind* and one answer."""

    async def handle(request: bytes, call: IncomingCall) -> bytes:
        return wire.write(await answer(read(kind, request), call))

    return unary(handle)
