"""The build server as a process, driven by its protocol [remote-api 1-8, DMN]."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.buildkit.pb import content as content_pb
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.errors import SourceDetail, VertexDetail, details_of, parse_status
from pybuild.client.filesend import ToDirectory, ToStream
from pybuild.client.filesync import file_sync
from pybuild.client.secrets import secrets
from pybuild.client.session import ClientSession
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.buildsites import (
    CONTROL,
    Built,
    Client,
    Daemon,
    client,
    daemon,
    on,
    pybuild_with_base,
)
from tests.harness import Pybuild, write
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def pybuild(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    return pybuild_with_base(tmp_path_factory.mktemp("daemon"))


@pytest.fixture(scope="module")
def server(pybuild: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    with daemon(
        pybuild, tmp_path_factory.mktemp("s"), "--allow-insecure-entitlement", "network.host"
    ) as found:
        yield found


def test_it_says_what_it_is(server: Daemon) -> None:
    async def use(c: Client) -> None:
        info = pb.InfoResponse.FromString(await c.call("Info"))
        assert info.buildkitVersion.version.startswith("v0.")
        workers = pb.ListWorkersResponse.FromString(await c.call("ListWorkers"))
        (worker,) = workers.record
        assert worker.platforms[0].OS == "linux"
        assert [policy.all for policy in worker.GCPolicy] == [False, False, False, True]
        assert worker.GCPolicy[0].keepDuration == 48 * 3600 * 10**9 and worker.GCPolicy[0].filters
        assert worker.Labels["org.mobyproject.buildkit.worker.executor"] == "oci"

    on(server, use)


def test_after_its_builds_the_store_is_as_after_those_of_the_command_line(
    pybuild: Pybuild, server: Daemon, tmp_path: Path
) -> None:
    """GC-5, KEY-11: limits are looked at, and memos of older results are dropped."""
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nCOPY a /\n", a="a\n")
    stamp, memos = pybuild.store / "gc-stamp", pybuild.store / "memo"
    pybuild("build", "-t", "app", context)
    assert any(memos.iterdir())
    stamp.unlink(missing_ok=True)
    os.utime(pybuild.store / "store.json", (0, 0))  # it was made long ago

    async def use(c: Client) -> None:
        await c.build(context)
        assert any(memos.iterdir())
        await c.build(context, attrs={"no-cache": ""})

    on(server, use)
    assert stamp.exists()
    assert not any(memos.iterdir())


def test_a_directory_comes_back(server: Daemon, tmp_path: Path) -> None:
    context = write(
        tmp_path / "c",
        **{
            "Dockerfile": "FROM base:1 AS b\nRUN echo hello > /x\nFROM scratch\nCOPY --from=b /x /\nCOPY a /a\n",
            "a/one": "1",
            "a/two": "2",
            ".dockerignore": "a/two\n",
        },
    )

    async def use(c: Client) -> None:
        out = tmp_path / "out"
        target = {0: ToDirectory(str(out))}
        built = await c.build(context, exporters=[("local", {})], targets=target)
        assert (out / "x").read_text() == "hello\n"
        assert sorted(path.name for path in (out / "a").iterdir()) == ["one"]
        assert "[internal] load build context" in built.names()
        assert all(vertex.HasField("completed") for vertex in built.vertexes.values())
        again = await c.build(context, exporters=[("local", {})], targets=target)
        cached = {v.name for v in again.vertexes.values() if v.cached}
        assert {"[b 2/2] RUN echo hello > /x", "[stage-1 2/2] COPY a /a"} <= cached

    on(server, use)


def test_an_archive_is_the_image_that_the_command_line_makes(
    pybuild: Pybuild, server: Daemon, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nCOPY f /f\nLABEL a=b\n", f="x")
    epoch = "1700000000"
    plain = tmp_path / "plain.tar"
    pybuild(
        "build",
        "-o",
        f"type=oci,dest={plain}",
        "--build-arg",
        f"SOURCE_DATE_EPOCH={epoch}",
        context,
    )

    async def use(c: Client) -> None:
        data = io.BytesIO()
        attrs = {"build-arg:SOURCE_DATE_EPOCH": epoch}
        built = await c.build(
            context,
            attrs=attrs,
            exporters=[("oci", {})],
            targets={0: ToStream(lambda facts: _Keep(data))},
        )
        with tarfile.open(fileobj=io.BytesIO(data.getvalue())) as tar, tarfile.open(plain) as other:
            assert sorted(tar.getnames()) == sorted(other.getnames())
        assert built.response["containerimage.digest"].startswith("sha256:")

    on(server, use)


class _Keep:
    """A file of the client that stays readable."""

    def __init__(self, data: io.BytesIO) -> None:
        self._data = data

    def write(self, piece: bytes, /) -> int:
        return self._data.write(piece)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def test_secrets_reach_the_step_and_nothing_else(
    pybuild: Pybuild, server: Daemon, tmp_path: Path
) -> None:
    context = write(
        tmp_path / "c",
        Dockerfile='FROM base:1\nRUN --mount=type=secret,id=s test $(cat /run/secrets/s) = hunt""er22\n',
    )

    async def use(c: Client) -> None:
        await c.build(context, handlers=secrets({"s": lambda: b"hunter22"}))

    on(server, use)
    found = subprocess.run(
        ["grep", "-r", "-l", "hunter22", pybuild.store],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not found.stdout


def test_a_failure_names_the_line_and_the_step(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN echo why >&2; false\n")

    async def use(c: Client) -> None:
        built = Built()
        with pytest.raises(RpcError) as caught:
            await c.build(context, built=built)
        assert caught.value.code is Code.UNKNOWN
        assert "exit code: 1" in caught.value.message
        status = parse_status(caught.value.details)
        assert status is not None
        details = details_of(status)
        (source,) = [d for d in details if isinstance(d, SourceDetail)]
        assert (source.filename, source.ranges) == ("Dockerfile", ((2, 2),))
        assert source.data == (context / "Dockerfile").read_bytes()
        (vertex,) = [d for d in details if isinstance(d, VertexDetail)]
        assert built.vertexes[vertex.digest].name == "[2/2] RUN echo why >&2; false"
        assert b"why\n" in built.logs

    on(server, use)


def test_warnings_are_told_once_in_the_protocols_words(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1 as b\nFOO\n")

    async def use(c: Client) -> None:
        built = Built()
        with pytest.raises(RpcError, match="unknown instruction: FOO"):
            await c.build(context, built=built)
        (warning,) = built.warnings
        assert warning.short.startswith(b"FromAsCasing: ") and warning.short.endswith(b"(line 1)")
        assert built.vertexes[warning.vertex].name.startswith("[internal] load build definition")

    on(server, use)


@needs("nft")
def test_history_keeps_the_log_and_replays_it(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN echo for the record\n")

    async def use(c: Client) -> None:
        built = await c.build(context, ref="history-1", attrs={"no-cache": ""})
        records = await _history(c, "history-1")
        assert records[-1].numCompletedSteps == len(built.vertexes)
        replayed = Built()
        request = pb.StatusRequest(Ref="history-1").SerializeToString()
        async with c.channel.stream(CONTROL + "Status") as call:
            await call.send(request)
            await call.half_close()
            while (message := await call.receive()) is not None:
                replayed.take(message)
        assert replayed.logs == built.logs == b"for the record\n"
        delete = pb.UpdateBuildHistoryRequest(Ref="history-1", Delete=True)
        await c.call("UpdateBuildHistory", delete.SerializeToString())
        assert not await _history(c, "history-1")

    on(server, use)


def test_history_keeps_the_documents_of_an_image_and_not_its_layers(
    server: Daemon, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN echo x > /x\n")

    async def use(c: Client) -> None:
        exporters: list[tuple[str, dict[str, str]]] = [
            ("image", {}),
            ("image", {"annotation.a": "b"}),
        ]
        await c.build(context, ref="history-2", exporters=exporters)
        (record,) = await _history(c, "history-2")
        found = record.Result.Results
        assert sorted(found) == [0, 1] and found[0].digest != found[1].digest
        assert record.Result.ResultDeprecated == found[0]
        manifest = json.loads(await _content(c, found[1].digest))
        assert manifest["annotations"] == {"a": "b"}
        config = json.loads(await _content(c, manifest["config"]["digest"]))
        assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 2
        with pytest.raises(RpcError, match="not found"):
            await _content(c, manifest["layers"][0]["digest"])

    on(server, use)


async def _content(c: Client, digest: str) -> bytes:
    request = content_pb.ReadContentRequest(digest=digest).SerializeToString()
    found = bytearray()
    async with c.channel.stream("/containerd.services.content.v1.Content/Read") as call:
        await call.send(request)
        await call.half_close()
        while (message := await call.receive()) is not None:
            found += content_pb.ReadContentResponse.FromString(message).data
    return bytes(found)


async def _history(c: Client, ref: str) -> list[pb.BuildHistoryRecord]:
    request = pb.BuildHistoryRequest(Ref=ref, EarlyExit=True).SerializeToString()
    found: list[pb.BuildHistoryRecord] = []
    async with c.channel.stream(CONTROL + "ListenBuildHistory") as call:
        await call.send(request)
        await call.half_close()
        while (message := await call.receive()) is not None:
            found.append(pb.BuildHistoryEvent.FromString(message).record)
    return found


def test_entitlements_are_the_servers_to_give(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN --network=host true\n")

    async def use(c: Client) -> None:
        await c.build(context, entitlements=["network.host"])
        with pytest.raises(RpcError, match="entitlement network.host is not allowed"):
            await c.build(context)
        with pytest.raises(RpcError, match="entitlement security.insecure is not allowed"):
            await c.build(context, entitlements=["security.insecure"])

    on(server, use)


def test_equal_steps_of_two_clients_run_once(server: Daemon, tmp_path: Path) -> None:
    shared = "FROM base:1\nRUN sleep 1; echo $RANDOM > /shared\n"
    contexts = [write(tmp_path / name, Dockerfile=shared + f"LABEL n={name}\n") for name in "ab"]

    async def one(context: Path) -> str:
        async with client(server.address) as c:
            out = tmp_path / f"out-{context.name}"
            await c.build(context, exporters=[("local", {})], targets={0: ToDirectory(str(out))})
            return (out / "shared").read_text()

    async def both() -> list[str]:
        return list(await asyncio.gather(*map(one, contexts)))

    assert len(set(asyncio.run(both()))) == 1


def test_a_session_that_is_not_there_is_waited_for_and_missed(server: Daemon) -> None:
    async def use(c: Client) -> None:
        request = pb.SolveRequest(Ref="lonely", Session="nobody", Frontend="dockerfile.v0")
        with pytest.raises(RpcError, match="no active session for nobody"):
            await c.call("Solve", request.SerializeToString())

    on(server, use)


def test_a_session_may_serve_several_builds(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nCOPY Dockerfile /\n")

    async def use(c: Client) -> None:
        offered = file_sync({"context": str(context), "dockerfile": str(context)})
        async with ClientSession(offered).open(c.channel) as session:

            async def solve(number: int) -> None:
                request = pb.SolveRequest(
                    Ref=f"many-{number}",
                    Session=session.id,
                    Frontend="dockerfile.v0",
                    FrontendAttrs={"image-resolve-mode": "local", "label:n": str(number)},
                )
                await c.call("Solve", request.SerializeToString())

            await asyncio.gather(*(solve(number) for number in range(5)))

    on(server, use)


def test_disk_usage_lists_what_builds_left(server: Daemon, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN echo usage > /x\n")

    async def use(c: Client) -> None:
        await c.build(context)
        usage = pb.DiskUsageResponse.FromString(await c.call("DiskUsage"))
        assert any("echo usage" in record.Description for record in usage.record)
        assert json.dumps(sorted(record.ID for record in usage.record))

    on(server, use)
