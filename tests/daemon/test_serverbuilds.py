"""Builds by a server, from the client's request to its outputs: both in this process, without steps [7].

Each takes a third of a second at most, and nothing else of the quick tests tells this room's mistakes.
"""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.cache.space.prune import Policy
from pybuild.client.ask import ask
from pybuild.client.build import build
from pybuild.client.builders import BuilderRecord
from pybuild.client.checks import answer_of
from pybuild.client.connect import connected
from pybuild.client.disk import facts, prune, usage
from pybuild.client.explain import reports
from pybuild.daemon.buildservices import services
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.control.settings import ServerSettings
from pybuild.daemon.sockets import unix_socket
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.exporter.output import parse_output
from pybuild.frontend.question import Question
from pybuild.model.descriptor import OCI_INDEX
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.reference import Reference
from pybuild.net.doorway import Doorway
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.server import GrpcServer
from pybuild.remotecache.options import cache_from, cache_to

NAME = Reference.parse("app:1")
COPY = b"FROM scratch\nCOPY f /d/\n"


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[BuilderRecord]:
    """Serve a store of its own on a socket."""
    async with Engine(Settings(root=str(folder / "server"))) as engine:
        server = BuildServer(engine, ServerSettings())
        grpc = GrpcServer(services(server))
        path = folder / "s"
        bound = unix_socket(str(path))
        bound.listen(8)
        door = Doorway(grpc.protocol, grpc.admission, bound)
        try:
            yield BuilderRecord("", f"unix://{path}")
        finally:
            door.close()
            await grpc.close(0)
            await door.closed()
            await server.close()
            path.unlink()


@dataclass
class Client:
    """A client of one server, and a directory to build."""

    record: BuilderRecord
    channel: Channel
    context: Path
    events: list[Event] = field(default_factory=list[Event])

    async def build(self, dockerfile: bytes = COPY, **asked: Any) -> BuildResult:
        (self.context / "Dockerfile").write_bytes(dockerfile)
        self.events.clear()
        request = BuildRequest(context=str(self.context), **asked)
        return await build(self.channel, request, self.events.append)

    def names(self) -> list[str]:
        """The steps that were shown, by their names."""
        return [event.name for event in self.events if isinstance(event, VertexAdded)]


def with_server(tmp_path: Path, work: Callable[[Client], Awaitable[None]]) -> None:
    context = tmp_path / "c"
    context.mkdir()
    (context / "f").write_text("1")

    async def run() -> None:
        async with served(tmp_path) as record, connected(record) as channel:
            await work(Client(record, channel, context))

    asyncio.run(run())


@pytest.mark.slow
def test_an_image_stays_on_the_server_and_is_found_again(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        first = await client.build(tags=(NAME,))
        assert first.image is not None and first.image_id is not None
        assert "[1/1] COPY f /d/" in client.names()
        assert ("[1/1] COPY f /d/", "DONE") in first.steps
        assert first.metadata["containerimage.digest"] == first.image.digest
        again = await client.build(tags=(NAME,))
        assert (again.image, again.image_id) == (first.image, first.image_id)
        assert ("[1/1] COPY f /d/", "CACHED") in again.steps
        assert ("[1/1] COPY f /d/", "DONE") in (await client.build(no_cache=True)).steps
        (client.context / "f").write_text("2")
        assert (await client.build()).image_id != first.image_id

    with_server(tmp_path, work)


def test_results_come_to_the_client(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        outputs = (
            parse_output(f"type=local,dest={tmp_path}/out"),
            parse_output(f"type=tar,dest={tmp_path}/out.tar"),
            parse_output(f"type=oci,dest={tmp_path}/oci.tar"),
            parse_output(f"type=oci,tar=false,dest={tmp_path}/layout"),
        )
        await client.build(outputs=outputs)
        assert (tmp_path / "out/d/f").read_text() == "1"
        with tarfile.open(tmp_path / "out.tar") as archive:
            assert archive.getnames() == ["d", "d/f"]
        with tarfile.open(tmp_path / "oci.tar") as archive:
            assert {"oci-layout", "index.json"} <= set(archive.getnames())
        [entry] = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
        assert (tmp_path / "layout/blobs/sha256" / entry["digest"].partition(":")[2]).exists()

    with_server(tmp_path, work)


def test_contexts_secrets_and_attestations_of_a_client(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        named = tmp_path / "n"
        named.mkdir()
        (named / "g").write_text("named")
        result = await client.build(
            b"ARG A=0\nFROM scratch\nCOPY --from=n g /\nLABEL a=$A\n",
            named_contexts={"n": str(named)},
            build_args={"A": "1"},
            attestations=AttestOptions(provenance=Provenance(full=True)),
        )
        assert result.image is not None and result.image.media_type == OCI_INDEX
        assert "[context n] load from client" in client.names()

    with_server(tmp_path, work)


def test_a_cache_goes_to_a_directory_of_the_client_and_comes_from_there(tmp_path: Path) -> None:
    place = str(tmp_path / "cache")

    async def fill(client: Client) -> None:
        await client.build(cache_to=(cache_to("local", {"dest": place, "mode": "max"}),))
        assert os.listdir(place)

    with_server(tmp_path, fill)
    (tmp_path / "other").mkdir()

    async def use(client: Client) -> None:
        result = await client.build(cache_from=(cache_from("local", {"src": place}),))
        assert ("[1/1] COPY f /d/", "CACHED") in result.steps

    with_server(tmp_path / "other", use)


def test_errors_of_a_build_are_the_clients(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(UserError, match='"absent" is not in the context'):
            await client.build(b"FROM scratch\nCOPY absent /d/\n")
        with pytest.raises(UserError, match="unknown instruction: BLA"):
            await client.build(b"FROM scratch\nBLA\n")
        with pytest.raises(UserError, match=r"security\.insecure is not allowed"):
            await client.build(allow=frozenset({"security.insecure"}))
        with pytest.raises(UserError, match='target stage "none" could not be found'):
            await client.build(target="none")

    with_server(tmp_path, work)


def test_questions_are_answered_without_a_build(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        (client.context / "Dockerfile").write_text("ARG A=1\nFROM scratch as X\nCOPY f /\n")
        request = BuildRequest(context=str(client.context))
        for question in Question:
            metadata, offered = await ask(client.channel, request, question)
            assert answer_of(question, metadata, offered.filenames) is not None

    with_server(tmp_path, work)


def test_why_steps_ran_and_what_takes_room_is_told(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        assert await reports(client.channel) == []
        await client.build()
        assert len(await reports(client.channel, everything=True)) == 1
        records = await usage(client.record, ())
        assert records and sum(record.size for record in records) > 0
        assert (await facts(client.record)).version
        freed: list[object] = []
        assert await prune(client.record, Policy(all=True), freed.append) > 0
        assert freed

    with_server(tmp_path, work)
