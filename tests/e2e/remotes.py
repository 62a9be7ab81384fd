"""A server and a client of it, both pybuild, each with a store of its own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.buildsites import Daemon, daemon
from tests.daemon.libraries import library
from tests.harness import Pybuild, leftovers


@dataclass(frozen=True)
class Remote(Pybuild):
    """Runs each command on a server."""

    host: str = ""

    def command(self, *words: str | Path) -> list[str]:
        return super().command("-H", self.host, *words)


@pytest.fixture(scope="module")
def there(base_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pybuild]:
    """The store of the server, empty; what Docker Hub would have is the base image."""
    where = tmp_path_factory.mktemp("there")
    with library() as hub:
        hub.of_store(base_store, "docker.io/library/base:latest", "library/base", "latest")
        config = where / "pybuild.toml"
        config.write_text(f'[registry."docker.io"]\nmirrors = ["{hub.host}"]\n')
        yield Pybuild(where / "store", config)


@pytest.fixture(scope="module")
def server(there: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    """A server that grants one entitlement; it must end well and leave nothing."""
    allow = ("--allow-insecure-entitlement", "network.host")
    with daemon(there, tmp_path_factory.mktemp("s"), *allow) as found:
        yield found
        assert found.stop() == 0
    assert leftovers(there.store) == []


@pytest.fixture
def remote(pybuild: Pybuild, server: Daemon) -> Remote:
    """The command line with ``-H``; what it keeps here goes to this test's own store."""
    return Remote(pybuild.store, host=server.address)
