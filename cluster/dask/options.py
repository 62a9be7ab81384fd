"""The arguments of this room's processes, and Dask's settings in them."""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import dask.config
from distributed import Security

from pybuild.cluster.dask.roles import RoleSecurity
from pybuild.cluster.roles import Role

_SETTINGS: dict[str, Any] = {
    "distributed.admin.pdb-on-err": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.comm.compression": None,
    "distributed.comm.timeouts.connect": "5s",
    "distributed.comm.timeouts.tcp": "15s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.allowed-failures": 0,  # who runs a step again is the coordinator's to say
    "distributed.scheduler.http.routes": [],
    "distributed.scheduler.preload": [],
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": "30s",
    "distributed.worker.http.routes": [],
    "distributed.worker.preload": [],
    "distributed.worker.profile.enabled": False,
}


def read_options(program: str, arguments: Sequence[str], *names: str) -> argparse.Namespace:
    """Return the options of a process: those of TLS, and *names*. Dask's settings are ours from here on."""
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    for name in ("tls-ca-file", "tls-cert", "tls-key"):
        parser.add_argument(f"--{name}", default="")
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    dask.config.set(_SETTINGS)
    return parser.parse_args(arguments)


def security_of(options: argparse.Namespace, *roles: Role) -> Security:
    """Return the certificates of a process: with an authority, only who has one of its own with one of *roles* is spoken to."""
    if not options.tls_ca_file:
        return Security(require_encryption=False)
    files: dict[str, Any] = {"tls_ca_file": options.tls_ca_file}
    for role in ("scheduler", "worker", "client"):
        files[f"tls_{role}_cert"] = options.tls_cert
        files[f"tls_{role}_key"] = options.tls_key or options.tls_cert
    return RoleSecurity(roles, **files)
