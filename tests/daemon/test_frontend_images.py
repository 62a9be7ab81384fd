"""Frontends that are images: chosen by a file or a request, served over pipes, bounded [6, DIR-5]."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pybuild.buildkit.llb.write import write as written
from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.buildkit.pb.worker import WorkerRecord
from pybuild.builds.lookups import Lookups
from pybuild.client.filesync import file_sync
from pybuild.daemon.builds.frontendprocess import FrontendBounds, attend
from pybuild.daemon.builds.runningfrontend import DrivenBuild, RunningFrontend
from pybuild.daemon.control.bridge import BridgeService
from pybuild.executor.steps.container import ProcessSettings
from pybuild.model.errors import UserError
from pybuild.model.ops import FileOp, Mkfile, NetworkMode, ScratchSource, Vertex
from pybuild.model.reference import Reference
from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.status import Code, RpcError
from tests import watchdog
from tests.daemon.containersites import write_base
from tests.daemon.frontendimages import Bridge, Container, Program, contained
from tests.daemon.gateways import parked
from tests.daemon.test_serverbuilds import Client, with_server
from tests.executor.sandbox_helpers import skip_unless_possible

LABELS = "moby.buildkit.frontend."
INPUTS = f"{LABELS}caps={LABELS}inputs+forward"
Work = Callable[[Client, Container], Awaitable[None]]


def on_server(
    tmp_path: Path,
    patch: pytest.MonkeyPatch,
    program: Program,
    work: Work,
    label: str = INPUTS,
    **programs: Program,
) -> None:
    """Let *work* have a server with the frontends ``front:1`` and those of *programs*."""
    container = contained(patch, front=program, **programs)

    async def run(client: Client) -> None:
        for name in ("front", *programs):
            text = f"FROM scratch\nCOPY f /d/\nENV A=b\nWORKDIR /d\nLABEL {label}\n"
            await image(client, f"{name}:1", f'{text}ENTRYPOINT ["{name}", "x"]\n')
        await work(client, container)

    with_server(tmp_path, run)


async def image(client: Client, name: str, text: str) -> None:
    await client.build(text.encode(), tags=(Reference.parse(name),))


async def solve(client: Client, request: pb.SolveRequest) -> pb.Result:
    """Solve in a parked build with the client's directories."""
    folders = {"context": str(client.context), "dockerfile": str(client.context)}
    request.FrontendOpt["image-resolve-mode"] = "local"
    async with parked(client.channel, file_sync(folders)) as gate:
        return await gate.solve(request)


def source(**opts: str) -> pb.SolveRequest:
    return pb.SolveRequest(Frontend="gateway.v0", FrontendOpt={"source": "front:1", **opts})


async def refused(client: Client, request: pb.SolveRequest) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await solve(client, request)
    return raised.value


def write(path: str, data: bytes) -> ops.Definition:
    """A definition of one file."""
    op = FileOp(actions=(Mkfile(path=path, data=data),))
    return written(Vertex(op, (Vertex(ScratchSource()),)))


def test_a_file_is_built_by_the_frontend_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frontend has the request's attributes, solves, reads, warns, and says what the image is."""
    seen: list[Bridge] = []

    async def program(bridge: Bridge) -> int:
        seen.append(bridge)
        pong = pb.PongResponse.FromString(await bridge.call("Ping"))
        assert "gateway.exec" in {cap.ID for cap in pong.FrontendAPICaps} and pong.Workers
        made = await bridge.solve(Definition=write("/a", b"text"), Evaluate=True)
        read = pb.ReadFileRequest(Ref=made.ref.id, FilePath="/a").SerializeToString()
        assert pb.ReadFileResponse.FromString(await bridge.call("ReadFile", read)).Data == b"text"
        stat = pb.StatFileRequest(Ref=made.ref.id, Path="/a").SerializeToString()
        assert pb.StatFileResponse.FromString(await bridge.call("StatFile", stat)).stat.size == 4
        assert not pb.InputsResponse.FromString(await bridge.call("Inputs")).Definitions
        config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"by": "front"}}}
        await bridge.give(
            pb.Result(ref=made.ref, metadata={"containerimage.config": json.dumps(config).encode()})
        )
        return 0

    async def work(client: Client, container: Container) -> None:
        (client.context / "f.mock").write_text("# syntax=front:1 some words\nno: Dockerfile\n")
        request = pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"filename": "f.mock"})
        request.FrontendOpt["build-arg:X"] = "y"
        result = await solve(client, request)
        assert b'"by": "front"' in result.metadata["containerimage.config"] and result.ref.defs.defs
        (bridge,) = seen
        assert bridge.args == ("front", "x") and bridge.env["A"] == "b"
        assert bridge.opts["source"] == "front:1"
        assert bridge.opts["cmdline"] == "front:1 some words"
        assert bridge.opts["build-arg:X"] == "y"
        assert bridge.env["BUILDKIT_SESSION_ID"] and bridge.env["BUILDKIT_EXPORTEDPRODUCT"]
        (worker,) = json.loads(bridge.env["BUILDKIT_WORKERS"])
        assert worker["platforms"][0]["os"] == "linux" and worker["buildkitVersion"]["version"]
        (op,) = container.ops
        assert op.settings.network is NetworkMode.NONE
        assert [mount.target for mount in op.mounts] == ["/", "/run/config/buildkit/metadata"]
        request.FrontendOpt["build-arg:BUILDKIT_SYNTAX"] = "front:1 z"
        await solve(client, request)
        assert seen[1].opts["cmdline"] == "front:1 z"
        (client.context / "j").write_text('{"syntax": "front:1", "x": [1]}\nrest')
        result = await solve(
            client, pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"filename": "j"})
        )
        assert result.ref.id and seen[2].opts["cmdline"] == "front:1"

    on_server(tmp_path, monkeypatch, program, work)


def test_labels_say_what_a_frontend_can_and_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def program(bridge: Bridge) -> int:
        inputs = pb.InputsResponse.FromString(await bridge.call("Inputs")).Definitions
        ref = (await bridge.solve(Definition=inputs["in"])).ref
        await bridge.give(pb.Result(ref=ref))
        return 0

    async def work(client: Client, container: Container) -> None:
        error = await refused(client, source(**{"frontend.caps": "some.cap"}))
        assert error.code == Code.UNIMPLEMENTED and "some.cap" in error.message
        request = source()
        request.FrontendInputs["in"].CopyFrom(write("/b", b""))
        assert (await refused(client, request)).code == Code.UNIMPLEMENTED
        text = f"FROM scratch\nCOPY f /\nLABEL {INPUTS} {LABELS}network.none=false\n"
        await image(client, "other:1", text + 'ENTRYPOINT ["front"]\n')
        request.FrontendOpt["source"] = "other:1"
        assert (await solve(client, request)).ref.id
        assert [op.settings.network for op in container.ops] == [NetworkMode.DEFAULT]

    on_server(tmp_path, monkeypatch, program, work, label="a=b")


def test_a_frontend_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign: list[str] = []

    async def program(bridge: Bridge) -> int:
        match bridge.opts["do"]:
            case "die":
                os.write(bridge.stdio[2], b"first\nno such thing: x\n\n")
                return 3
            case "nothing":
                return 0
            case "error":
                await bridge.give(error=Status(code=Code.NOT_FOUND, message="no recipe"))
                return 1
            case "late":
                await bridge.give(pb.Result())
                return 4
            case "twice":
                await bridge.give(pb.Result())
                await bridge.give(pb.Result())
            case "foreign":
                await bridge.give(pb.Result(ref=pb.Ref(id=foreign[0])))
            case "foreign-read":
                read = pb.ReadFileRequest(Ref=foreign[0], FilePath="/a")
                await bridge.call("ReadFile", read.SerializeToString())
            case "loop":
                try:
                    await bridge.solve(Frontend="gateway.v0", FrontendOpt=bridge.opts)
                except RpcError as error:
                    await bridge.give(error=Status(code=error.code, message=error.message))
            case what:
                raise AssertionError(what)
        return 0

    async def work(client: Client, container: Container) -> None:
        async def says(what: str) -> str:
            return (await refused(client, source(do=what))).message

        assert await says("die") == "frontend front:1 failed with exit code 3: no such thing: x"
        assert await says("nothing") == "frontend front:1 ended without a result"
        error = await refused(client, source(do="error"))
        assert (error.code, error.message) == (Code.NOT_FOUND, "no recipe")
        assert await says("late") == "frontend front:1 failed with exit code 4"
        assert "the build has its result" in await says("twice")
        assert await says("loop") == "frontends may call one another 8 deep"
        folders = {"context": str(client.context), "dockerfile": str(client.context)}
        async with parked(client.channel, file_sync(folders)) as gate:
            made = await gate.solve(pb.SolveRequest(Definition=write("/a", b"x")))
            foreign.append(made.ref.id)
            for what in ("foreign", "foreign-read"):
                request = source(do=what, **{"image-resolve-mode": "local"})
                with pytest.raises(RpcError, match=f"{made.ref.id}"):
                    await gate.solve(request)
        (client.context / "Dockerfile").write_text("FROM scratch\n# x\n")
        (client.context / "g").write_text("# check=skip=all\n# syntax=front:9\nFROM scratch\n")
        request = pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"filename": "g"})
        assert "front:9" in (await refused(client, request)).message
        for bad in ("", "A:B:C", "\0"):
            assert (await refused(client, source(source=bad))).code == Code.UNKNOWN
        assert "cannot be handed" in (await refused(client, source(do="a\0b"))).message

    on_server(tmp_path, monkeypatch, program, work)


def test_a_frontend_keeps_nobody_waiting() -> None:
    """A result that a frontend has returned counts, whatever it does with its process and its streams."""

    async def attended(program: Program) -> tuple[str, int]:
        frontend = RunningFrontend(cast(DrivenBuild, SimpleNamespace(offered={})), {}, Lookups())

        async def find(_: IncomingCall) -> RunningFrontend:
            return frontend

        async def worker() -> WorkerRecord:
            return WorkerRecord()

        container = Container({"front": program})
        handlers = BridgeService(find, worker).handlers()
        bounds = FrontendBounds(silence_s=0.2, leave_s=0.05)
        settings = ProcessSettings(args=("front",))
        try:
            result = await attend("f", container, settings, handlers, frontend, bounds)
        except UserError as error:
            return error.message, container.cancelled
        return str(result.metadata), container.cancelled

    async def nonsense(bridge: Bridge) -> int:
        os.write(bridge.stdio[1], b"Hello, HTTP/1.1!\r\n\r\n" * 9)
        return await forever(bridge)

    async def forever(bridge: Bridge) -> int:
        await asyncio.Event().wait()
        return 0

    async def stays(bridge: Bridge) -> int:
        await bridge.give(pb.Result(metadata={"a": b"b"}))
        return await forever(bridge)

    async def floods(bridge: Bridge) -> int:
        os.set_blocking(bridge.stdio[2], False)
        with suppress(BlockingIOError):
            while True:
                os.write(bridge.stdio[2], b"x" * 100_000 + b"\n")
                await asyncio.sleep(0)
        return 1

    async def work() -> None:
        assert await attended(nonsense) == ("frontend f closed its connection without a result", 1)
        assert await attended(forever) == ("frontend f made no call for 0 s", 1)
        assert await attended(stays) == ("{'a': b'b'}", 1)
        message, _ = await attended(floods)
        assert message.startswith("frontend f failed with exit code 1: xxx") and len(message) < 400

    with watchdog.ends():
        asyncio.run(work())


@pytest.mark.slow
def test_a_client_that_goes_ends_its_frontend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()

    async def program(bridge: Bridge) -> int:
        await bridge.call("Ping")
        started.set()
        await asyncio.Event().wait()
        return 0

    async def work(client: Client, container: Container) -> None:
        going = asyncio.create_task(solve(client, source()))
        async with asyncio.timeout(60):
            await started.wait()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        async with asyncio.timeout(60):
            while not container.cancelled:
                await asyncio.sleep(0.01)
        assert (await client.build()).image is not None

    on_server(tmp_path, monkeypatch, program, work)


SAYS = "ls /sys/class/net; id -u; pwd; head -c 3 /run/config/buildkit/metadata/frontend.bin | wc -c"


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.sandbox
def test_its_program_runs_in_the_sandbox(tmp_path: Path) -> None:
    """Alone with its standard streams; what it writes last to the third one is why it failed."""
    skip_unless_possible()
    context = tmp_path / "base"
    write_base(context)
    script = f"echo $({SAYS}; echo $BUILDKIT_FRONTEND_OPT_0) >&2; exit 5"
    text = (
        f"FROM scratch\nCOPY root/ /\nWORKDIR /tmp\nENTRYPOINT {json.dumps(['sh', '-c', script])}\n"
    )

    async def work(client: Client) -> None:
        shutil.copytree(context / "root", client.context / "root", symlinks=True)
        await image(client, "front:1", text)
        message = (await refused(client, source())).message
        known = "lo 0 /tmp 3 image-resolve-mode=local"
        assert message == f"frontend front:1 failed with exit code 5: {known}"

    with_server(tmp_path, work)
