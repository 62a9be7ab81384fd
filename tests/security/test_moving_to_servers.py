"""Contexts that move while a client sends them to a build server, our own client and one that is not."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.client.filesend import ToDirectory
from pybuild.net.grpc.status import RpcError
from tests.daemon.buildsites import Daemon, client, daemon
from tests.e2e.remotes import Remote
from tests.harness import Pybuild, write
from tests.security.movements import ALL_AT_ONCE, MOVEMENTS, Movement, moving, tree
from tests.security.test_moving_contexts import COPY_ALL, NOT_THERE, context_of

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    where = tmp_path_factory.mktemp("server")
    with daemon(Pybuild(where / "store"), where) as found:
        yield found


@pytest.fixture(scope="module")
def remote(server: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote(tmp_path_factory.mktemp("client") / "store", host=server.address)


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda movement: movement.name)
def test_a_foreign_clients_context_is_built_as_it_was_sent(
    server: Daemon, tmp_path: Path, movement: Movement
) -> None:
    """The files that the client sent are built, though they change meanwhile: it knows the protocol alone, and builds twice on one server."""
    context = context_of(tmp_path, COPY_ALL)

    async def main() -> None:
        async with client(server.address) as c:
            with moving(context, movement):
                for _ in range(2):
                    try:
                        await c.build(context)
                    except RpcError as error:
                        assert movement.may_be_missing and NOT_THERE.search(error.message), error
            await c.build(
                context,
                exporters=[("local", {})],
                targets={0: ToDirectory(str(tmp_path / "out"))},
            )
            assert tree(tmp_path / "out/c") == tree(context)

    asyncio.run(main())


def test_our_client_sends_what_moves(remote: Remote, tmp_path: Path) -> None:
    context = context_of(tmp_path, COPY_ALL)
    with moving(context, ALL_AT_ONCE):
        for _ in range(2):
            remote("build", context)
    remote("build", "-o", tmp_path / "out", context)
    assert tree(tmp_path / "out/c") == tree(context)


def test_the_log_of_a_remote_build_may_lie_in_its_context(remote: Remote, tmp_path: Path) -> None:
    context = context_of(tmp_path, COPY_ALL)
    with (context / "build.log").open("wb") as log:
        done = subprocess.run(
            remote.command("build", "--progress=plain", "."),
            cwd=context,
            stdout=log,
            stderr=log,
            env=remote.environment,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, (context / "build.log").read_text()


def test_a_named_context_moves_to_a_server(remote: Remote, tmp_path: Path) -> None:
    main = write(tmp_path / "main", Dockerfile="FROM scratch\nCOPY --from=other . /c\n")
    context = context_of(tmp_path, "")
    words = ("build", "--build-context", f"other={context}", main)
    with moving(context, ALL_AT_ONCE):
        remote(*words)
    remote(*words, "-o", tmp_path / "out")
    assert tree(tmp_path / "out/c") == tree(context)
