"""A whole server in this process: where it listens, builds of sessions and images by Docker's API, its end [DMN-1, ENG-39, EP-11, EP-14, EP-15]."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import stat
import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.places import EnginePlace
from pybuild.client.docker.requests import EngineRefusal, Requests
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.daemon.process import docker_addresses, serve
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Daemon, Settings
from pybuild.model.errors import UsageError, UserError
from pybuild.net.grpc.channel import Channel
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.daemon.peers import open_store

TEXT = "FROM scratch\nARG A\nLABEL a=$A\nCOPY f /d/\n"
Query = Mapping[str, str | int | bool | list[str]]


class Server:
    """A client of a server that runs in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests = Requests(EnginePlace(url=f"unix://{folder}/docker"))

    async def lines(self, path: str, query: Query, body: Any = None) -> list[dict[str, Any]]:
        def work() -> list[dict[str, Any]]:
            return list(self.requests.lines("POST", path, query, body))

        return await asyncio.to_thread(work)

    async def ask(self, method: str, path: str, query: Query | None = None) -> Any:
        return await asyncio.to_thread(self.requests.ask, method, path, query)

    async def image(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("GET", f"/images/{name}/json")
        return found

    async def refusal(self, work: Awaitable[Any]) -> str:
        with pytest.raises((EngineRefusal, UserError)) as caught:
            await work
        status = f"{caught.value.status} " if isinstance(caught.value, EngineRefusal) else ""
        return status + caught.value.message


@asynccontextmanager
async def running(
    folder: Path, *, addresses: Sequence[str] | None = None, daemon: Daemon | None = None
) -> AsyncGenerator[Server]:
    """Run a server until the block ends, and have it end by a signal as a service manager's does."""
    begun, ended = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def within(engine: Engine) -> AsyncGenerator[None]:
        begun.set()
        yield
        ended.set()

    settings = Settings(root=str(folder / "store"), daemon=daemon or Daemon())
    given = [f"unix://{folder}/buildkit"] if addresses is None else addresses
    docker = [f"unix://{folder}/docker"]
    serving = serve(settings, given, insecure=False, docker=docker, within=within)
    task = asyncio.create_task(serving)
    try:
        async with asyncio.timeout(60):
            paths = [one.removeprefix("unix://") for one in (*given, *settings.daemon.addresses)]
            paths.append(f"{folder}/docker")
            while not task.done() and not all(os.path.exists(path) for path in paths):
                await asyncio.sleep(0.002)
            if task.done():
                task.result()
            assert begun.is_set() and not ended.is_set()
            yield Server(folder)
            os.kill(os.getpid(), signal.SIGTERM)
            await task
            assert ended.is_set()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def archive(**files: str) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    data.seek(0)
    return data


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def all() -> None:
        await work()

    asyncio.run(all())


def test_it_listens_says_where_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        async with running(tmp_path) as server:
            assert stat.S_IMODE((tmp_path / "buildkit").stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "docker").stat().st_mode) & 0o7 == 0
            assert (await server.ask("GET", "/version"))["ApiVersion"]
            channel = await Channel.connect(f"unix://{tmp_path}/buildkit")
            await channel.close()

    run(work)
    assert not (tmp_path / "buildkit").exists() and not (tmp_path / "docker").exists()
    said = capfd.readouterr().err.splitlines()
    assert said.count(f"running server on unix://{tmp_path}/buildkit") == 1
    assert said.count(f"running Docker's API on unix://{tmp_path}/docker") == 1
    assert not [line for line in said if line.startswith("warning")]


def test_its_addresses_are_those_of_its_settings_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Daemon(addresses=(f"unix://{tmp_path}/of-settings",))

    async def work() -> None:
        async with running(tmp_path, addresses=[], daemon=settings):
            assert (tmp_path / "of-settings").is_socket()
            assert not (tmp_path / "buildkit").exists()

    run(work)
    assert not (tmp_path / "of-settings").exists()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert docker_addresses("", ["unix:///b"]) == ["unix:///b"]
    assert docker_addresses("/a", ["unix:///b"]) == ["unix:///a", "unix:///b"]
    for user, path in ((0, "/run/docker.sock"), (7, "/run/user/7/docker.sock")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert docker_addresses("auto", []) == [f"unix://{path}"]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert docker_addresses("auto", []) == ["unix:///run/docker.sock"]


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        (
            "tcp://127.0.0.1:0",
            "a TCP address without TLS lets anybody build as this user",
            "give --tlscert and --tlskey, or say --insecure",
        ),
        (
            "fd://",
            "no socket was handed to this process",
            "start it by a socket unit of systemd: pybuild daemon units prints one",
        ),
    ],
)
def test_an_address_that_cannot_be(tmp_path: Path, address: str, message: str, hint: str) -> None:
    async def work() -> None:
        with pytest.raises(UsageError) as caught:
            await serve(Settings(root=str(tmp_path / "store")), [address], insecure=False)
        assert caught.value.message == f"{address}: {message}"
        assert caught.value.hints == (hint,)

    run(work)


def test_an_open_port_is_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def said(network: str) -> str:
        settings = replace(Settings(root=str(tmp_path / "store")), network=network)
        task = asyncio.create_task(serve(settings, ["tcp://127.0.0.1:0"], insecure=True))
        lines = ""
        async with asyncio.timeout(60):
            while "running server" not in lines and not task.done():
                await asyncio.sleep(0.002)
                lines += capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
        await task
        return lines + capfd.readouterr().err

    warning = "warning: everybody who reaches tcp://127.0.0.1:0 builds here as this user"
    steps = ", every step of a Dockerfile on this machine too while steps share its network"
    running = "running server on tcp://127.0.0.1:0\n"
    assert asyncio.run(said("host")) == f"{running}{warning}{steps}; see --tlscacert\n"
    assert asyncio.run(said("isolated")) == f"{running}{warning}; see --tlscacert\n"


def traced(lines: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return the image's id that lines say, and whether they have BuildKit's progress."""
    ids = [line["aux"]["ID"] for line in lines if line.get("id") == "moby.image.id"]
    return "".join(ids), any(line.get("id") == "moby.buildkit.trace" for line in lines)


def test_builds_of_sessions_have_the_context_of_the_client_or_of_a_body(tmp_path: Path) -> None:
    context = tmp_path / "c"
    context.mkdir()
    (context / "f").write_text("1")
    (context / "Dockerfile").write_text(TEXT)

    async def work() -> None:
        async with running(tmp_path) as server:
            channel = await Channel.connect(f"unix://{tmp_path}/buildkit")
            offered = file_sync({"context": str(context), "dockerfile": str(context)})
            try:
                async with ClientSession(offered).open(channel) as session:
                    await build(server, session.id)
            finally:
                await channel.close()

    async def build(server: Server, session: str) -> None:
        of_session: dict[str, Any] = {
            "version": "2",
            "session": session,
            "remote": "client-session",
        }
        args = {"buildargs": json.dumps({"A": "1"})}
        nowhere = json.dumps([{"Type": "cacheonly", "Attrs": {}}])
        kept = await server.lines("/build", {**of_session, **args, "q": True, "outputs": nowhere})
        assert traced(kept) == ("", True)
        lines = await server.lines("/build", {**of_session, **args, "q": True, "t": "app:1"})
        image, has_trace = traced(lines)
        assert has_trace and image.startswith("sha256:")
        assert [line["stream"] for line in lines if "stream" in line] == [f"{image}\n"]
        found = await server.image("app:1")
        assert found["Id"] == image and found["Config"]["Labels"] == {"a": "1"}

        body = archive(Dockerfile="FROM scratch\nLABEL b=c\nCOPY f /\n", f="2")
        of_body = {"version": "2", "session": session, "t": "body:1"}
        lines = await server.lines("/build", of_body, body)
        assert traced(lines)[1] and not [line for line in lines if "stream" in line]
        assert (await server.image("body:1"))["Config"]["Labels"] == {"b": "c"}

        body.seek(0)
        upload = {"version": "2", "session": session, "buildid": "upload-request:x"}
        later = {**of_body, "remote": "upload-request", "buildid": "x", "t": "upload:1"}
        building = asyncio.create_task(server.lines("/build", later))
        await server.lines("/build", upload, body)
        await building
        assert (await server.image("upload:1"))["Id"] == (await server.image("body:1"))["Id"]

        (context / "Dockerfile").write_text("FROM scratch\nCOPY absent /\n")
        failed = await server.refusal(server.lines("/build", of_session))
        assert '"/absent": not found' in failed or '"absent" is not in the context' in failed
        none = {**of_session, "session": ""}
        message = "400 a build by BuildKit needs a session"
        assert await server.refusal(server.lines("/build", none)) == message
        cancelling = server.ask("POST", "/build/cancel", {"id": "x"})
        assert await server.refusal(cancelling) == "404 build x was not found"

    run(work)


def test_images_go_to_registries_and_archives_and_come_from_them(tmp_path: Path) -> None:
    async def work() -> None:
        with open_store(tmp_path / "registry") as store:
            hosting = Hosting(store, RegistrySettings())
            async with listening(hosting, ["127.0.0.1:0"]) as taken, running(tmp_path) as server:
                await move(server, taken[0].removeprefix("http://"))

    async def move(server: Server, host: str) -> None:
        name = f"{host}/a/b"
        body = archive(Dockerfile="FROM scratch\nLABEL b=c\nCOPY f /\n", f="2")
        await server.lines("/build", {"t": [f"{name}:1", f"{name}:2"]}, body)
        made = await server.image(f"{name}:1")

        lines = await server.lines(f"/images/{name}/push", {"tag": "1"})
        assert lines[0] == {"status": f"The push refers to repository [{name}]"}
        assert {"Pushing", "Pushed"} >= {line["status"] for line in lines[1:-2]}
        aux = lines[-1]["aux"]
        assert lines[-2]["status"] == f"1: digest: {aux['Digest']} size: {aux['Size']}"
        assert aux["Tag"] == "1"
        absent = server.lines("/images/absent/push", {"tag": "1"})
        assert await server.refusal(absent) == (
            "404 An image does not exist locally with the tag: absent"
        )
        both = await server.lines(f"/images/{name}/push", {})
        assert [line["aux"]["Tag"] for line in both if "aux" in line] == ["1", "2"]

        again = await server.lines("/images/create", {"fromImage": name, "tag": "1"})
        assert again[0] == {"status": "Pulling from a/b", "id": "1"}
        assert again[-2]["status"] == f"Digest: {aux['Digest']}"
        assert again[-1]["status"] == f"Status: Image is up to date for {name}:1"
        await server.ask("DELETE", f"/images/{name}:1")
        await server.ask("DELETE", f"/images/{name}:2")
        pulled = await server.lines("/images/create", {"fromImage": name, "tag": "1"})
        assert pulled[-1]["status"] == f"Status: Downloaded newer image for {name}:1"
        assert (await server.image(f"{name}:1"))["Id"] == made["Id"]
        unknown = server.lines("/images/create", {"fromImage": name, "tag": "absent"})
        assert await server.refusal(unknown) == (
            f"404 manifest for {name}:absent not found: manifest unknown"
        )
        await through_archive(server, name, made["Id"])

    async def through_archive(server: Server, name: str, id: str) -> None:
        await server.ask("POST", f"/images/{name}:1/tag", {"repo": "other", "tag": "3"})

        def saved(path: str, query: Query) -> bytes:
            with server.requests.asking("GET", path, query) as response:
                return response.read()

        data = await asyncio.to_thread(saved, "/images/get", {"names": f"{name},other:3"})
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            [one] = json.load(tar.extractfile("manifest.json") or io.BytesIO())
            assert sorted(one["RepoTags"]) == sorted([f"{name}:1", "other:3"])
        single = await asyncio.to_thread(saved, "/images/other:3/get", {})
        with tarfile.open(fileobj=io.BytesIO(single)) as tar:
            [one] = json.load(tar.extractfile("manifest.json") or io.BytesIO())
            assert one["RepoTags"] == ["other:3"]
        none = server.ask("GET", "/images/get")
        assert await server.refusal(none) == "400 no images were named"
        await server.ask("DELETE", "/images/other:3")
        await server.ask("DELETE", f"/images/{name}:1")
        loaded = await server.lines("/images/load", {}, io.BytesIO(data))
        shown = "".join(line["stream"] for line in loaded)
        assert "Loaded image: other:3\n" in shown and f"Loaded image: {name}:1\n" in shown
        assert (await server.image("other:3"))["Id"] == id
        imported = {"fromSrc": "-", "repo": "imported", "tag": "1", "changes": "LABEL i=j"}
        await server.lines("/images/create", imported, archive(f="3"))
        assert (await server.image("imported:1"))["Config"]["Labels"] == {"i": "j"}
        refused = {
            f"x@sha256:{'0' * 64}": "refusing to create a tag with a digest reference",
            "sha256:1": "refusing to create an ambiguous tag using digest algorithm as name",
            "UPPER": "invalid reference format",
        }
        for repo, message in refused.items():
            asked = {"fromSrc": "-", "repo": repo}
            refusal = await server.refusal(server.lines("/images/create", asked))
            assert refusal == f"400 {message}"

    run(work)
