"""Certificates of a cluster: an authority of its own, and a role in each certificate that it signs.

The role is the subject's organizational unit. A worker runs steps for coordinators, and lends layers to
both; so who has stolen a worker's key can run nothing on the others with it.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Collection, Sequence

from pybuild.cluster.roles import Role
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.certificates import Authority, SigningKey
from pybuild.net.grpc.certificate import valid_until
from pybuild.net.grpc.peer import Peer, user
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.net.tls import make_context, server_context

ORGANIZATION = "pybuild"
_AUTHORITY = "pybuild cluster"
_AUTHORITY_DAYS = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The files by which the machines of a cluster know each other: all have one of the same authority."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    def server(self) -> ssl.SSLContext:
        """Return the TLS settings of who listens.

        Raises:
            UsageError: a file is missing or cannot be read, or the certificate has expired.
        """
        if not (self.ca and self.cert):
            raise UsageError(
                "workers on TCP need certificates, and give work to nobody without",
                hints=["give --tlscacert, --tlscert and --tlskey, or listen on unix://PATH"],
            )
        context = server_context(KeyPair(self.cert, self.key), self.ca, protocols=["h2"])
        self._check()
        return context

    def client(self) -> ssl.SSLContext | None:
        """Return the TLS settings of who connects; None without certificates.

        Raises:
            UsageError: as `server`.
        """
        if not (self.ca and self.cert):
            return None
        pair = KeyPair(self.cert, self.key)
        context = make_context(Tls(ca=(self.ca,), keypairs=(pair,), only=True))
        self._check()
        return context

    def words(self) -> tuple[str, ...]:
        """Return the arguments by which the engine's processes get the same files."""
        if not (self.ca and self.cert):
            return ()
        return (
            *("--tls-ca-file", self.ca),
            *("--tls-cert", self.cert),
            *("--tls-key", self.key or self.cert),
        )

    def _check(self) -> None:
        """Raise where ours has expired: the other side would say only that it hangs up."""
        until = valid_until(_first_certificate(self.cert))
        if until < time.time():
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until))
            raise UsageError(
                f"certificate {self.cert} has expired at {at}",
                hints=["make new ones with pybuild cluster certs"],
            )


def _first_certificate(path: str) -> bytes:
    with open(path, encoding="ascii", errors="replace") as file:
        text = file.read()
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") : text.index(end)] + end)


def trusts(peer: Peer, roles: Collection[Role]) -> bool:
    """Return whether a worker works for *peer*: its own user, root, or who has a certificate of one of *roles*."""
    if peer.kind == "unix":
        return peer.owner in (user(os.geteuid()), user(0))
    is_certified = peer.kind == "tcp" and peer.owner.startswith("certificate:")
    return is_certified and any(role in peer.units for role in roles)


def make_certificates(
    directory: str, members: Sequence[tuple[Role, str]], days: int
) -> list[tuple[str, str]]:
    """Make certificates and keys of *members* (role and host), and an authority where there is none yet.

    Returns:
        The paths of each certificate and its key, in the order of *members*.

    Raises:
        EnvironmentFault: the directory cannot be written; UsageError: the authority there is not ours.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        authority = _authority(directory, days)
        made: list[tuple[str, str]] = []
        for role, host in members:
            certificate, key = authority.of_member(ORGANIZATION, role, host)
            name = os.path.join(directory, f"{role}-{host.replace(':', '_')}")
            paths = f"{name}.pem", f"{name}-key.pem"
            _write(paths[0], certificate, 0o644)
            _write(paths[1], key, 0o600)
            made.append(paths)
    except OSError as error:
        raise EnvironmentFault(f"cannot write {directory}: {error.strerror}") from error
    return made


def _authority(directory: str, days: int) -> Authority:
    ca, key = os.path.join(directory, "ca.pem"), os.path.join(directory, "ca-key.pem")
    try:
        with open(key, encoding="ascii") as file:
            own = SigningKey.from_pem(file.read())
    except FileNotFoundError:
        authority = Authority(_AUTHORITY, _AUTHORITY_DAYS)
        _write(key, authority.key.pem(), 0o600)
        _write(ca, authority.certificate, 0o644)
        own = authority.key
    except ValueError as error:
        raise UsageError(
            f"{key}: {error}", hints=["take another directory for an authority of its own"]
        ) from error
    return Authority(_AUTHORITY, days, own)


def _write(path: str, text: str, mode: int) -> None:
    """Write a file that nobody else may read before it has its mode."""
    new = path + ".new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with open(fd, "w", encoding="ascii") as file:
        os.fchmod(fd, mode)
        file.write(text)
    os.replace(new, path)
