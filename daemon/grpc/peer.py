"""Who is on the other side of a connection."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """How a connection came.

    Attributes:
        kind: "unix", "tcp" or "tunnel".
        address: of the other side, as far as it has one.
        subject: common name of the client's certificate, after TLS with one.
    """

    kind: str = "tunnel"
    address: str = ""
    subject: str | None = None
