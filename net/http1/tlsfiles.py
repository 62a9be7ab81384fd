"""Certificates of a server and of ours, as names of files; `tls` makes settings of them."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM files of a certificate of ours and its key, which may lie in the certificate's."""

    cert: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Tls:
    """The files that a server is verified by, and we by it; hashable, so that contexts can be kept.

    Attributes:
        only: the authorities of *ca*, if there are any, count alone; the system's do not.
    """

    insecure: bool = False
    ca: tuple[str, ...] = ()
    keypairs: tuple[KeyPair, ...] = ()
    only: bool = False
