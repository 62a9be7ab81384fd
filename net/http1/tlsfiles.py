"""How a server proves itself, and we to it, as names of files; `tls` makes settings of it."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of a client certificate and its key, PEM."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server proves itself, and we to it; hashable, so that contexts can be kept."""

    insecure: bool = False
    ca: tuple[str, ...] = ()
    keypairs: tuple[KeyPair, ...] = ()
