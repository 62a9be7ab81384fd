"""Clients of one build server get of each other nothing but equal steps [remote-api 3, 4]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.filesend import ToDirectory, file_send
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL, Client, Daemon, client, daemon
from tests.harness import Pybuild, write

GATEWAY = "/moby.buildkit.v1.frontend.LLBBridge/"
pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path_factory.mktemp("d")
    with daemon(Pybuild(where / "store"), where) as found:
        yield found


async def answer(c: Client, session: str) -> llb.Definition:
    """Return the definition that the frontend gives a client that only asks for one."""
    ref = os.urandom(8).hex()
    request = pb.SolveRequest(Ref=ref, Session=session)
    solving = asyncio.create_task(c.call("Solve", request.SerializeToString()))
    metadata = Metadata({"buildkit-controlapi-buildid": ref})
    asked = gateway.SolveRequest(
        Frontend="dockerfile.v0", allowResultReturn=True, allowResultArrayRef=True
    )
    data = await c.channel.unary(GATEWAY + "Solve", asked.SerializeToString(), metadata=metadata)
    found = gateway.SolveResponse.FromString(data).result.ref
    nothing = gateway.ReturnRequest(result=gateway.Result())
    await c.channel.unary(GATEWAY + "Return", nothing.SerializeToString(), metadata=metadata)
    await solving
    return found.defs


def test_a_definition_that_is_handed_out_names_its_session(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="1")

    async def run() -> tuple[str, list[str]]:
        offered = file_sync({"context": str(context), "dockerfile": str(context)})
        async with (
            client(server.address) as c,
            ClientSession(offered).open(c.channel) as session,
        ):
            definition = await answer(c, session.id)
            ops = [llb.Op.FromString(data) for data in definition.defs]
            named = [op.source.attrs["local.session"] for op in ops if op.HasField("source")]
            return session.id, named

    id, named = asyncio.run(run())
    assert named == [id]


def directory(name: str, **attrs: str) -> llb.Definition:
    """Return the definition of a directory of a client."""
    builder = Builder()
    source = llb.SourceOp(identifier=f"local://{name}", attrs=attrs)
    return builder.end(builder.add(llb.Op(source=source)))


def test_an_input_is_read_from_the_session_that_it_names(server: Daemon, tmp_path: Path) -> None:
    """Two targets of one file each call their directory "context" (`docker buildx bake`)."""
    theirs = write(tmp_path / "theirs", f="theirs", only="x")
    text = "FROM scratch\nCOPY --from=x . /x/\nCOPY . /own/\n"
    ours = write(tmp_path / "ours", Dockerfile=text, f="ours")
    out = tmp_path / "out"

    async def run() -> Mapping[str, str]:
        async with (
            client(server.address) as c,
            ClientSession(dict(file_sync({"context": str(theirs)}))).open(c.channel) as first,
            ClientSession(
                {
                    **file_sync({"context": str(ours), "dockerfile": str(ours)}),
                    **file_send({0: ToDirectory(str(out))}),
                }
            ).open(c.channel) as second,
        ):
            request = pb.SolveRequest(
                Ref=os.urandom(8).hex(),
                Session=second.id,
                Frontend="dockerfile.v0",
                FrontendAttrs={"context:x": "input:x"},
                FrontendInputs={"x": directory("context", **{"local.session": first.id})},
                Exporters=[pb.Exporter(Type="local")],
            )
            await c.call("Solve", request.SerializeToString())
        return {
            str(path.relative_to(out)): path.read_text()
            for path in out.rglob("*")
            if path.is_file()
        }

    assert asyncio.run(run()) == {
        "x/f": "theirs", "x/only": "x", "own/f": "ours", "own/Dockerfile": text,
    }  # fmt: skip


def test_who_would_drive_a_build_that_failed_at_once_does_not_wait(server: Daemon) -> None:
    async def run() -> None:
        async with client(server.address) as c:
            ref = os.urandom(8).hex()
            metadata = Metadata({"buildkit-controlapi-buildid": ref})
            request = pb.SolveRequest(Ref=ref, FrontendAttrs={"attest:provenance": "mode=none"})
            ping = partial(c.channel.unary, GATEWAY + "Ping", b"", metadata=metadata)
            async with asyncio.timeout(60):
                early = asyncio.create_task(ping())
                with pytest.raises(RpcError, match="invalid mode"):
                    await c.call("Solve", request.SerializeToString())
                for waiting in (early, ping()):
                    with pytest.raises(RpcError) as caught:
                        await waiting
                    assert caught.value.code is Code.NOT_FOUND

    asyncio.run(run())


def test_history_keeps_no_credentials_of_urls(server: Daemon, tmp_path: Path) -> None:
    url = "http://user:hunter2@127.0.0.1:1/x.git"
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")

    async def run() -> dict[str, str]:
        async with client(server.address) as c:
            await c.build(context, attrs={"build-arg:FROM": url}, ref="told")
            request = pb.BuildHistoryRequest(EarlyExit=True, Ref="told").SerializeToString()
            async with c.channel.stream(CONTROL + "ListenBuildHistory") as call:
                await call.send(request)
                await call.half_close()
                data = await call.receive()
                assert data is not None
            return dict(pb.BuildHistoryEvent.FromString(data).record.FrontendAttrs)

    assert asyncio.run(run())["build-arg:FROM"] == "http://127.0.0.1:1/x.git"
