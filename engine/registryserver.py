"""The store served as a registry."""

from __future__ import annotations

import os
import sys

from pybuild.cache.disk.ownership import warning_of_key
from pybuild.cache.store import Store
from pybuild.engine.paths import certificate_directories
from pybuild.engine.servesettings import Serving
from pybuild.engine.settings import Settings
from pybuild.model.printable import in_log
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import DockerCredentials
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.server.access import EVERYBODY
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.serving import listening, until_stopped

_STEPS = ", every step of a Dockerfile on this machine too while steps share its network"


async def serve(store: Store, serving: Serving, settings: Settings) -> None:
    # Without mirrors: one of them may be this server.
    tables = {
        host: {key: value for key, value in table.items() if key != "mirrors"}
        for host, table in settings.registries.items()
    }
    async with (
        Client(
            Hosts(tables, certificate_directories=certificate_directories()),
            DockerCredentials(os.environ),
            clock=store.clock,
            environ=os.environ,
        ) as client,
        listening(Hosting(store, serving.server, client), serving.addresses) as taken,
    ):
        unsafe = warning_of_key(serving.server.key or serving.server.cert)
        if unsafe:
            warn(unsafe)
        for address in taken:
            sys.stderr.write(f"registry: serving {store.root} on {address}\n")
            if _is_open(serving):
                steps = "" if settings.network == "isolated" else _STEPS
                warn(f"anybody who reaches {address} may push and delete{steps}; see --htpasswd")
        await until_stopped()
        sys.stderr.write("registry: stopping\n")


def _is_open(serving: Serving) -> bool:
    """Whether people who did not log in may change something."""
    rules = serving.server.access.rules
    changes = {Permission.PUSH, Permission.DELETE}
    return not serving.server.read_only and any(
        EVERYBODY in rule.users and not changes.isdisjoint(rule.actions) for rule in rules
    )


def warn(message: str) -> None:
    sys.stderr.write(f"warning: {in_log(message)}\n")
