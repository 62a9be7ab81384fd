"""Containers that a client's frontend makes, and the processes that it has in them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.client.secrets import secrets
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.containersites import Process, Site, processes_of, site, write_base
from tests.daemon.test_serverbuilds import Client, with_server
from tests.executor.sandbox_helpers import processes_with, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def on_site(tmp_path: Path, work: Callable[[Site], Awaitable[None]]) -> None:
    """Let *work* have a parked build with a base."""
    skip_unless_possible()
    context = tmp_path / "base"
    write_base(context)
    known = secrets({"word": lambda: b"s3cret"})

    async def run(client: Client) -> None:
        async with site(client, context, known) as made:
            await work(made)

    with_server(tmp_path, run)


def test_processes_share_a_tree_and_have_streams_of_their_own(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        run = site.processes.run
        container = await site.container(
            ops.Mount(dest="/cache", mountType=ops.CACHE, cacheOpt=ops.CacheOpt(ID="c")),
            ops.Mount(dest="/memory", mountType=ops.TMPFS),
            ops.Mount(dest="/scratch"),
            extraHosts=[ops.HostIP(Host="some.host", IP="169.254.11.22")],
            hostname="box",
        )
        first, waiting = await site.processes.start(container, "cat", stdin=None, fds=(0, 1))
        assert await run(container, "sh", "-c", "echo out; echo err >&2; exit 3") == (
            *(3, b"out\n", b"err\n"),
        )
        assert await run(container, "sh", "-c", "cat > /made", stdin=b"text") == (0, b"", b"")
        assert await run(container, "cat", "/made") == (0, b"text", b"")
        assert (await run(container, "sh", "-c", "touch /scratch/a; echo 1 > /cache/f"))[0] == 0
        script = "cat /etc/hosts; hostname; id -u; pwd"
        code, out, _ = await run(
            container, "sh", "-c", script, meta={"user": "app", "cwd": "/tmp", "env": ["A=b"]}
        )
        assert code == 0 and b"169.254.11.22\tsome.host" in out
        assert out.endswith(b"box\n1000\n/tmp\n")
        secret = ops.SecretEnv(ID="word", name="WORD")
        assert (await run(container, "sh", "-c", "echo $WORD", secretenv=[secret]))[
            1
        ] == b"s3cret\n"
        assert await site.file(container, "/made") == b"text"
        assert await site.file(container, "f", mount=1) == b"1\n"
        with pytest.raises(RpcError, match="only trees and cache mounts"):
            await site.file(container, "x", mount=2)
        assert await site.file(container, "a", mount=3) == b""
        with pytest.raises(RpcError, match="out of bounds"):
            await site.file(container, "x", mount=9)
        request = pb.ReadDirRequest(Ref=container, DirPath="/", MountIndex=3).SerializeToString()
        listed = pb.ReadDirResponse.FromString(await site.gate.call("ReadDirContainer", request))
        assert [entry.path for entry in listed.entries] == ["a"]
        stat = pb.StatFileRequest(Ref=container, Path="/made").SerializeToString()
        answer = pb.StatFileResponse.FromString(await site.gate.call("StatFileContainer", stat))
        assert answer.stat.size == 4
        await site.processes.send(first, File=pb.FdMessage(Data=b"bye"))
        await site.processes.send(first, File=pb.FdMessage(EOF=True))
        assert await waiting.ended() == (0, b"bye", b"")
        code, _, _ = await run(container, "true")
        assert code == 255
        await site.release(container)

    on_site(tmp_path, work)


@pytest.mark.slow
def test_a_process_may_have_a_terminal_of_the_clients_size(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        container = await site.container()
        id, shell = await site.processes.start(container, "sh", tty=True, meta={"env": ["PS1=%"]})
        await shell.says(b"%")
        await site.processes.send(id, Resize=pb.ResizeMessage(Rows=40, Cols=80))
        await site.processes.send(id, File=pb.FdMessage(Data=b"stty size; echo $TERM\n"))
        await shell.says(b"40 80\r\nxterm\r\n")
        await site.processes.send(id, File=pb.FdMessage(Data=b"exit 9\n"))
        assert (await shell.ended())[0] == 9

    on_site(tmp_path, work)


def test_signals_reach_processes_and_release_ends_them(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        container = await site.container()
        mark = f"9{os.getpid()}"
        _, first = await site.processes.start(container, "sleep", mark)
        script = f"trap 'exit 7' HUP; echo x; while :; do sleep 0.01; done; # {mark}"
        id, caught = await site.processes.start(container, "sh", "-c", script)
        await caught.says(b"x")
        await site.processes.send(id, Signal=pb.SignalMessage(Name="HUP"))
        assert (await caught.ended())[0] == 7
        with pytest.raises(RpcError) as raised:
            await site.release(container)
        assert raised.value.code == Code.CANCELLED
        code, _, _ = await first.ended()
        assert code == 255 and first.exit is not None
        assert first.exit.Error.message == "context canceled"
        assert processes_with(mark) == []

    on_site(tmp_path, work)


@pytest.mark.slow
def test_all_processes_end_with_the_client(tmp_path: Path) -> None:
    """A client goes without a word, with the container made and a process that is not read."""
    skip_unless_possible()
    mark = f"11{os.getpid()}"
    context = tmp_path / "base"
    write_base(context)

    async def work(client: Client) -> None:
        async with site(client, context) as made:
            container = await made.container()
            script = f"while :; do echo {mark}; done"
            await made.processes.start(container, "sh", "-c", script)
            async with processes_of(client, made.gate) as others:
                _, other = await others.start(container, "sleep", mark)
                assert other.exit is None
            async with asyncio.timeout(60):
                while len(processes_with(f"sleep\0{mark}")):
                    await asyncio.sleep(0.05)
            assert processes_with(mark)
        async with asyncio.timeout(60):
            while processes_with(mark):
                await asyncio.sleep(0.05)

    with_server(tmp_path, work)


def test_entitlements_hold_for_processes_too(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        container = await site.container()
        _, process = await site.processes.start(container, "true", Security=ops.INSECURE)
        assert (await process.ended())[0] == 255 and process.exit is not None
        assert "security.insecure is not allowed" in process.exit.Error.message
        _, odd = await site.processes.start(await site.container(), "true", Security=2)
        assert (await odd.ended())[0] == 255 and odd.exit is not None
        assert odd.exit.Error.message == "invalid security mode: 2"
        hosted = await site.container(Network=ops.HOST)
        _, process = await site.processes.start(hosted, "true")
        assert (await process.ended())[0] == 255 and process.exit is not None
        assert "network.host is not allowed" in process.exit.Error.message

    on_site(tmp_path, work)


BAD: list[tuple[pb.ExecMessage, Code]] = [
    (pb.ExecMessage(), Code.INVALID_ARGUMENT),
    (pb.ExecMessage(ProcessID="a"), Code.NOT_FOUND),
    (pb.ExecMessage(ProcessID="a", File=pb.FdMessage(Data=b"x")), Code.NOT_FOUND),
    (pb.ExecMessage(ProcessID="a", Resize=pb.ResizeMessage()), Code.NOT_FOUND),
    (pb.ExecMessage(ProcessID="a", Signal=pb.SignalMessage(Name="HUP")), Code.NOT_FOUND),
    (pb.ExecMessage(ProcessID="a", Init=pb.InitMessage()), Code.NOT_FOUND),
    (pb.ExecMessage(ProcessID="a", Init=pb.InitMessage(ContainerID="no")), Code.NOT_FOUND),
]


@pytest.mark.slow
def test_messages_that_make_no_sense_end_their_stream_and_nothing_else(tmp_path: Path) -> None:
    skip_unless_possible()
    context = tmp_path / "base"
    write_base(context)

    async def work(client: Client) -> None:
        async with site(client, context) as made:
            container = await made.container()

            async def refused(*messages: pb.ExecMessage) -> Code:
                async with processes_of(client, made.gate, hears=False) as others:
                    for message in messages:
                        others.known[message.ProcessID] = Process()
                        await others.send_raw(message)
                    with pytest.raises(RpcError) as raised:
                        async with asyncio.timeout(60):
                            await others.hear()
                return raised.value.code

            for message, code in BAD:
                assert await refused(message) == code, message
            begun = pb.InitMessage(ContainerID=container, Meta=ops.Meta(args=["cat"]), Fds=[0])
            start = pb.ExecMessage(ProcessID="a", Init=begun)
            assert await refused(start, start) == Code.ALREADY_EXISTS
            for last, code in (
                (pb.ExecMessage(ProcessID="a", Started=pb.StartedMessage()), Code.INVALID_ARGUMENT),
                (pb.ExecMessage(ProcessID="a", Done=pb.DoneMessage()), Code.INVALID_ARGUMENT),
                (
                    pb.ExecMessage(ProcessID="a", Signal=pb.SignalMessage(Name="NO" * 9999)),
                    Code.INVALID_ARGUMENT,
                ),
                (pb.ExecMessage(ProcessID="a", File=pb.FdMessage(Fd=7)), Code.OUT_OF_RANGE),
            ):
                again = await made.container()
                begun.ContainerID = again
                start = pb.ExecMessage(ProcessID="a", Init=begun)
                assert await refused(start, last) == code, last
            for mounts in (
                [ops.Mount(dest="/", mountType=ops.TMPFS)],
                [ops.Mount(dest="/")],
                [ops.Mount(dest="/", resultID="no")],
                [ops.Mount(dest="/", resultID=made.base), ops.Mount(dest="/", resultID=made.base)],
                [ops.Mount(dest="/", resultID=made.base), ops.Mount(dest="/x", mountType=9)],
                [],
            ):
                request = pb.NewContainerRequest(ContainerID="c", Mounts=mounts)
                with pytest.raises(RpcError):
                    await made.gate.call("NewContainer", request.SerializeToString())
            with pytest.raises(RpcError) as raised:
                await made.gate.call(
                    "NewContainer",
                    pb.NewContainerRequest(ContainerID=container).SerializeToString(),
                )
            assert raised.value.code == Code.ALREADY_EXISTS
            with pytest.raises(RpcError, match="not found"):
                await made.release("no")
            odd = await made.container()
            assert (await made.processes.run(odd, "sh", "-c", "echo ok"))[1] == b"ok\n"

    with_server(tmp_path, work)


STEP = (
    "FROM scratch\nCOPY root/ /\n"
    "RUN --mount=type=bind,target=/in,source=root/etc,rw --mount=type=cache,target=/c "
    "echo left > /left && exit 3\n"
)


def test_the_trees_of_a_step_that_failed_can_be_looked_into(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        (tmp_path / "base/Failing").write_text(STEP)
        (tmp_path / "base/Other").write_text("FROM scratch\nCOPY root/ /\nRUN exit 4\n")
        request = pb.SolveRequest(Frontend="dockerfile.v0", Evaluate=True)
        request.FrontendOpt["filename"] = "Other"
        with pytest.raises(RpcError, match="exit code: 4") as raised:
            await site.gate.solve(request)
        assert len(solve_detail(raised.value)["mountIDs"]) == 1
        request.FrontendOpt["filename"] = "Failing"
        request.Evaluate = False
        definition = (await site.gate.solve(request)).ref.defs
        request.Evaluate = True
        with pytest.raises(RpcError, match="exit code: 3") as raised:
            await site.gate.solve(request)
        solve = solve_detail(raised.value)
        step = solve["op"]["exec"]
        assert step["meta"]["args"][-1].startswith("echo left")
        # Debuggers find the step in the definition by its digest.
        inputs = [one.digest for one in ops.Op.FromString(definition.defs[-2]).inputs]
        assert [one["digest"] for one in solve["op"]["inputs"]] == inputs
        assert [mount["dest"] for mount in step["mounts"]] == ["/", "/c", "/in"]
        assert len(solve["inputIDs"]) == len(solve["mountIDs"]) == 3
        before, after = solve["inputIDs"][0], solve["mountIDs"][0]
        run = site.processes.run
        assert (await run(await site.container(root=after), "cat", "/left"))[1] == b"left\n"
        assert (await run(await site.container(root=before), "cat", "/left"))[0] == 1

    on_site(tmp_path, work)


def solve_detail(error: RpcError) -> dict[str, Any]:
    """Return the detail ``errdefs.Solve`` of an error."""
    status = Status.FromString(error.details)
    (value,) = [d.value for d in status.details if d.type_url.endswith("/errdefs.Solve+json")]
    found: dict[str, Any] = json.loads(value)
    return found
