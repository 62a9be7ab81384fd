"""The file that names a cluster: its workers, their scheduler, our certificate, workers to start here.

```toml
workers = ["tcp://w1.example:8373", "tcp://w2.example:8373"]
scheduler = "tcp://s.example:8786"  # knows the other workers

[tls]  # paths beside the file
ca = "ca.pem"
cert = "coordinator-here.example.pem"
key = "coordinator-here.example-key.pem"

[local]  # workers on this machine, which a daemon starts and ends
workers = 3
slots = 2
engine = "dask"
```
"""

from __future__ import annotations

import os

from pybuild.cluster.certificates import Certificates
from pybuild.cluster.local import LocalCluster
from pybuild.cluster.members import Members, has_engine, host_and_port, require_engine
from pybuild.engine.settings import Settings
from pybuild.engine.table import Table, read_toml
from pybuild.model.errors import UsageError


def read_cluster(path: str, settings: Settings) -> tuple[Members, LocalCluster | None]:
    """Return the members of the cluster that a file names, and the workers that are to be started here.

    Raises:
        UsageError: the file cannot be read, or names none.
    """
    table = Table(path, "", read_toml(path))
    table.only(("workers", "scheduler", "tls", "local"))
    tls, local = table.child("tls"), table.child("local")
    tls.only(("ca", "cert", "key"))
    local.only(("workers", "slots", "engine"))
    folder = os.path.dirname(os.path.abspath(path))
    ca, cert, key = (name and os.path.join(folder, name) for name in map(tls.text, _TLS))
    certificates = Certificates(ca=ca, cert=cert, key=key)
    workers, scheduler, count = table.words("workers"), "", local.number("workers")
    for address in workers:
        if not address.startswith(("unix://", "tcp://")):
            raise table.wrong("workers", "a list of unix://PATH and tcp://HOST:PORT", address)
    if given := table.text("scheduler"):
        require_engine()
        try:
            place = host_and_port(given)
        except ValueError:
            raise table.wrong("scheduler", "tcp://HOST:PORT", given) from None
        scheduler = ("tls://" if certificates.words() else "tcp://") + place
    if not (workers or scheduler or count):
        raise UsageError(
            f"{path} names no workers", hints=['workers = ["tcp://HOST:PORT"] names some']
        )
    members = Members(workers, certificates, scheduler)
    if not count:
        return members, None
    engine = local.choice("engine", ("dask", "none") if has_engine() else ("none", "dask"))
    if engine == "dask":
        require_engine()
    slots = local.number("slots", 2)
    own = LocalCluster(settings.root, settings.config, count, slots, has_engine=engine == "dask")
    return members, own


_TLS = ("ca", "cert", "key")
