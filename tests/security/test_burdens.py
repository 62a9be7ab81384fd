"""One client of a build server asks for what takes for ever; another one builds meanwhile.

Each burden is laid on the server for as long as the other's build takes, which has to come to its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.net.grpc.calls import Call
from pybuild.net.grpc.status import RpcError
from tests.daemon.buildsites import CONTROL
from tests.security.tenants import Stage, Tenant, stage

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
SEND = "/moby.filesync.v1.FileSend/DiffCopy"
SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
# More than the threads that wait for work, on any machine.
MANY = 40
BACKTRACKING = "description~=(a|a)*(a+)+\x00"


@pytest.fixture(scope="module")
def server() -> Generator[Stage]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with stage("own", "socket", "builtin") as found:
        yield found


def under(server: Stage, burden: Callable[[Tenant], Coroutine[Any, Any, None]]) -> None:
    """Let one client lay *burden* on the server; the other one builds meanwhile."""

    async def run() -> None:
        async with server.tenants() as (a, b):
            task = asyncio.create_task(burden(a))
            try:
                async with asyncio.timeout(120):
                    await a_while(b)
                    got = await b.build("FROM base\nRUN echo made > /x\n", attrs={"no-cache": ""})
                    assert got.files.get("x") == "made\n", got.error
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    asyncio.run(run())


async def a_while(tenant: Tenant) -> None:
    """Let the burden arrive: it is there when many questions have been answered behind it."""
    for _ in range(50):
        await tenant.channel.unary(CONTROL + "Info", b"", timeout=60)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def building(
    a: Tenant, folder: Path, dockerfile: str, method: str, kind: str = ""
) -> AsyncGenerator[None]:
    """Have *a* build, and never answer when *method* of its session is called."""

    async def never(call: Call) -> None:
        await call.send_headers()
        await asyncio.Event().wait()

    where = folder / os.urandom(6).hex()
    where.mkdir()
    (where / "Dockerfile").write_text(dockerfile)
    offered = {**file_sync({"context": str(where), "dockerfile": str(where)}), method: never}
    async with ClientSession(offered).open(a.channel) as session:
        request = pb.SolveRequest(
            Ref=os.urandom(8).hex(),
            Session=session.id,
            Frontend="dockerfile.v0",
            Exporters=[pb.Exporter(Type=kind)] if kind else [],
        )
        with suppress(RpcError):
            await a.channel.unary(CONTROL + "Solve", request.SerializeToString(), timeout=300)
        yield


async def all_at_once(works: list[Awaitable[None]]) -> None:
    await asyncio.gather(*works)


def test_patterns_that_backtrack_for_ever(server: Stage) -> None:
    async def burden(a: Tenant) -> None:
        await a.build(f"FROM base\nRUN echo {'a' * 60} > /x\n")
        usage = pb.DiskUsageRequest(filter=[BACKTRACKING]).SerializeToString()
        assert await a.channel.unary(CONTROL + "DiskUsage", usage, timeout=60) == b""
        prune = pb.PruneRequest(filter=[BACKTRACKING]).SerializeToString()
        assert await a.stream(CONTROL + "Prune", prune) == []
        bad = pb.DiskUsageRequest(filter=["id~=("]).SerializeToString()
        with pytest.raises(RpcError, match="missing"):
            await a.channel.unary(CONTROL + "DiskUsage", bad, timeout=60)

    under(server, burden)


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local"])
def test_results_that_nobody_takes(server: Stage, tmp_path: Path, kind: str) -> None:
    async def one(a: Tenant) -> None:
        text = "FROM base\nRUN head -c 9000000 /dev/urandom > /big\n"
        async with building(a, tmp_path, text, SEND, kind):
            pass

    async def burden(a: Tenant) -> None:
        await all_at_once([one(a) for _ in range(MANY if kind in ("oci", "docker") else 8)])

    under(server, burden)


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=secret,id=s echo {}",
        "ADD http://127.0.0.1:1/{} /",
        "ADD http://127.0.0.1:1/{}.git /",
    ],
)
def test_secrets_that_nobody_tells(server: Stage, tmp_path: Path, line: str) -> None:
    async def one(a: Tenant, number: int) -> None:
        text = "FROM base\n" + line.format(number) + "\n"
        async with building(a, tmp_path, text, SECRET):
            pass

    async def burden(a: Tenant) -> None:
        await all_at_once([one(a, number) for number in range(MANY)])

    under(server, burden)
