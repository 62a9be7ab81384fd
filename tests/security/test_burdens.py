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
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.daemon.control.tenant import MOST_BUILDS
from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL
from tests.security.tenants import BRIDGE, Stage, Tenant, stage

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


def under(
    server: Stage, burden: Callable[[Tenant], Coroutine[Any, Any, None]], *, ends: bool = False
) -> None:
    """Let one client lay *burden* on the server; the other one builds meanwhile.

    Args:
        ends: the burden comes to an end, which is waited for.
    """

    async def run() -> None:
        async with server.tenants() as (a, b):
            task = asyncio.create_task(burden(a))
            try:
                async with asyncio.timeout(120):
                    await a_while(b)
                    got = await b.build("FROM base\nRUN echo made > /x\n", attrs={"no-cache": ""})
                    assert got.files.get("x") == "made\n", got.error
                    if ends or task.done():
                        await task
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

    async def never(call: IncomingCall) -> None:
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

    under(server, burden, ends=True)


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


async def answered(a: Tenant, ref: str, definition: llb.Definition) -> str:
    """Have a parked build answer for *definition*; return what is said against that."""
    request = gateway.SolveRequest(Definition=definition, allowResultReturn=True)
    metadata = Metadata({"buildkit-controlapi-buildid": ref})
    try:
        await a.channel.unary(
            BRIDGE + "Solve", request.SerializeToString(), metadata=metadata, timeout=60
        )
    except RpcError as error:
        assert error.code is Code.RESOURCE_EXHAUSTED, error
        return error.message
    return ""


def test_definitions_that_are_kept(server: Stage) -> None:
    """Definitions are kept as long as their build goes on, so their size has a bound."""
    builder = Builder()
    source = builder.add(llb.Op(source=llb.SourceOp(identifier="local://x")))
    definition = builder.end(source)
    definition.Source.infos.add(filename="x", data=bytes(15 << 20))

    async def burden(a: Tenant) -> None:
        ref = os.urandom(8).hex()
        request = pb.SolveRequest(Ref=ref).SerializeToString()
        parked = asyncio.create_task(a.channel.unary(CONTROL + "Solve", request, timeout=300))
        said = [await answered(a, ref, definition) for _ in range(20)]
        assert said[0] == "" and "more than 256 MiB" in said[-1]
        parked.cancel()
        await asyncio.gather(parked, return_exceptions=True)
        last = ""
        for _ in range(200):  # when it has ended there is room again
            ref = os.urandom(8).hex()
            request = pb.SolveRequest(Ref=ref).SerializeToString()
            parked = asyncio.create_task(a.channel.unary(CONTROL + "Solve", request, timeout=300))
            last = await answered(a, ref, definition)
            parked.cancel()
            await asyncio.gather(parked, return_exceptions=True)
            if not last:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(last)

    under(server, burden, ends=True)


def test_builds_that_wait_for_ever(server: Stage) -> None:
    async def burden(a: Tenant) -> None:
        async def one() -> str:
            request = pb.SolveRequest(Ref=os.urandom(8).hex()).SerializeToString()
            try:
                await a.channel.unary(CONTROL + "Solve", request, timeout=300)
            except RpcError as error:
                return error.message
            return ""

        tasks = [asyncio.create_task(one()) for _ in range(MOST_BUILDS + 20)]
        done, waiting = await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        try:
            while len(done) < 20:
                more, waiting = await asyncio.wait(
                    waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED
                )
                done |= more
            assert {task.result() for task in done} == {
                f"{MOST_BUILDS} builds are under way already"
            }
            await asyncio.Event().wait()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    under(server, burden)
