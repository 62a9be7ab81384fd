"""The address of the engine that ``docker`` would use: $DOCKER_HOST, its context, or its socket."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from pybuild.cache.disk.ownership import doubt_of_file
from pybuild.cache.disk.plainfile import plain
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError

_SOCKET = "/var/run/docker.sock"
_SCHEMES = ("unix:///", "tcp://")


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's address: ``unix://`` or ``tcp://``; *certificates* is a directory, or empty."""

    url: str
    certificates: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether nobody can listen there, as there is no socket."""
        path = self.url.removeprefix("unix://")
        return path != self.url and not os.path.exists(path)


def address_of(
    environ: Mapping[str, str], context: str = "", *, schemes: tuple[str, ...] = _SCHEMES
) -> Address:
    """Return the engine's address; whether anybody listens there is another question.

    Args:
        context: by name, in place of the one in use; ``default`` is the socket.
        schemes: the beginnings of the addresses that the caller can speak to.

    Raises:
        UsageError: there is no such context, or its address cannot be understood.
    """
    folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", ""), ".docker")
    requested = context or environ.get("DOCKER_CONTEXT", "")
    host = environ.get("DOCKER_HOST", "")
    if host and not requested:
        verifies = environ.get("DOCKER_TLS_VERIFY", "") not in ("", "0", "false")
        certificates = environ.get("DOCKER_CERT_PATH", "") or folder
        return _checked(host, certificates if verifies else "", schemes)
    name = requested or _context_in_use(folder)
    if name and name != "default":
        return _context(folder, name, schemes)
    rootless = os.path.join(environ.get("XDG_RUNTIME_DIR", ""), "docker.sock")
    if not os.path.exists(_SOCKET) and os.path.isabs(rootless) and os.path.exists(rootless):
        return Address(f"unix://{rootless}")
    return Address(f"unix://{_SOCKET}")


def _checked(url: str, certificates: str, schemes: tuple[str, ...]) -> Address:
    if not url.startswith(schemes):
        raise UsageError(
            f'Docker engine "{url}": expected unix:///PATH or tcp://HOST:PORT',
            hints=(
                ["write an archive instead: -o type=docker,dest=FILE"]
                if schemes == _SCHEMES
                else ["or ssh://HOST"]
            ),
        )
    return Address(url, certificates)


def _context_in_use(folder: str) -> str:
    try:
        path = os.path.join(folder, "config.json")
        with open(path, "rb", opener=plain) as file:
            name: Any = json.load(file).get("currentContext")
        if name and doubt_of_file(path):
            return ""  # as its logins are not used: images would go to somebody else
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _context(folder: str, name: str, schemes: tuple[str, ...]) -> Address:
    hashed = hashlib.sha256(name.encode()).hexdigest()
    try:
        path = os.path.join(folder, "contexts", "meta", hashed, "meta.json")
        with open(path, "rb", opener=plain) as file:
            host: Any = json.load(file)["Endpoints"]["docker"]["Host"]
        why = doubt_of_file(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f'docker context "{name}" not found') from error
    if why:
        raise UsageError(f'docker context "{name}" is not used: {why}')
    tls = os.path.join(folder, "contexts", "tls", hashed, "docker")
    return _checked(str(host), tls if os.path.isdir(tls) else "", schemes)
