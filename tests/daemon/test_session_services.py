"""Logins, secrets, agents, uploads and stores of a client, both ends real."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.client.auth import auth
from pybuild.client.content import BlobDirectory, content
from pybuild.client.secrets import METHOD as SECRET
from pybuild.client.secrets import secrets
from pybuild.client.ssh import ssh
from pybuild.client.upload import upload
from pybuild.daemon.session.auth import SessionCredentials
from pybuild.daemon.session.content import SessionContent
from pybuild.daemon.session.secrets import SessionSecrets
from pybuild.daemon.session.ssh import SessionAgents
from pybuild.daemon.session.upload import pull
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, InternalError, UserError
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from pybuild.registry.client.credentials import (
    Credential,
    FetchedToken,
    StaticCredentials,
    TokenSource,
)
from tests.daemon.peers import connected, open_store

# --- logins ---------------------------------------------------------------------------------------


class Tokens(StaticCredentials):
    """Credentials that fetch tokens, too."""

    async def fetch_token(
        self, host: str, realm: str, service: str, scopes: Sequence[str]
    ) -> FetchedToken | None:
        if host != "docker.io":
            return None
        return FetchedToken(token=f"{host} {realm} {service} {' '.join(scopes)}", expires_in=9)


def test_logins_of_the_client_are_found_under_the_names_that_clients_use() -> None:
    known = Tokens(
        {
            "docker.io": Credential("me", "pw"),
            "r.example": Credential(identity_token="id"),
        }
    )

    async def run() -> None:
        async with connected(auth(known)) as session:
            found = SessionCredentials(session)
            assert isinstance(found, TokenSource)
            assert await found.find("docker.io") == Credential("me", "pw")
            assert await found.find("r.example") == Credential(identity_token="id")
            assert await found.find("other.example") is None
            token = await found.fetch_token("docker.io", "https://auth", "reg", ["a:b:pull"])
            assert token == FetchedToken(token="docker.io https://auth reg a:b:pull", expires_in=9)
            assert await found.fetch_token("r.example", "https://auth", "", []) is None
            assert found.problems == ()
        async with connected({}) as session:
            assert await SessionCredentials(session).find("docker.io") is None

    asyncio.run(run())


def test_a_client_that_cannot_say_who_it_is_is_anonymous_and_that_is_noted() -> None:
    async def fails(data: bytes, call: IncomingCall) -> bytes:
        del data, call
        raise RpcError(Code.UNKNOWN, "keychain is locked")

    async def garbage(data: bytes, call: IncomingCall) -> bytes:
        del data, call
        return b"\xff"

    async def run() -> None:
        method = "/moby.filesync.v1.Auth/Credentials"
        async with connected({method: unary(fails)}) as session:
            found = SessionCredentials(session)
            assert await found.find("r.example") is None
            assert found.problems == ("the client's credentials for r.example: keychain is locked",)
        async with connected({method: unary(garbage)}) as session:
            found = SessionCredentials(session)
            assert await found.find("r.example") is None
            assert "cannot be read" in found.problems[0]

    asyncio.run(run())


# --- secrets --------------------------------------------------------------------------------------


def _unreadable() -> bytes:
    raise PermissionError(13, "Permission denied")


def test_secrets_are_asked_for_from_a_thread() -> None:
    known: dict[str, Callable[[], bytes]] = {
        "token": lambda: b"s3cret",
        "shut": _unreadable,
        "long": lambda: bytes(600 << 10),
    }

    async def run() -> None:
        async with connected(secrets(known)) as session:
            found = SessionSecrets([session], asyncio.get_running_loop())
            read = await asyncio.to_thread(found.get, "token")
            assert read is not None and read() == b"s3cret"
            assert await asyncio.to_thread(found.get, "missing") is None
            assert not await asyncio.to_thread(lambda: "missing" in found)
            with pytest.raises(UserError, match="secret shut: cannot read"):
                await asyncio.to_thread(found.get, "shut")
            with pytest.raises(EnvironmentFault, match="longer than"):
                await asyncio.to_thread(found.get, "long")
            with pytest.raises(InternalError, match="event loop"):
                found.get("token")
            assert list(found) == []

    asyncio.run(run())


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.UNIMPLEMENTED])
def test_two_codes_mean_that_there_is_no_secret(code: Code) -> None:
    async def none(data: bytes, call: IncomingCall) -> bytes:
        del data, call
        raise RpcError(code, "none")

    async def run() -> None:
        for handlers in ({SECRET: unary(none)}, {}):
            async with connected(handlers) as session:
                found = SessionSecrets([session], asyncio.get_running_loop())
                assert await asyncio.to_thread(found.get, "x") is None

    asyncio.run(run())


# --- agents ---------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


def test_what_is_said_to_an_agent_is_said_to_the_clients(store: Store, tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    heard: list[bytes] = []

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            heard.append(data)
            writer.write(data.upper())
        writer.write(b"bye")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(shout, path)
        handlers = ssh({"default": path, "dead": str(tmp_path / "nobody")})
        async with connected(handlers) as session, SessionAgents(session, store) as agents:
            found = await agents.offer(["default", "missing", "dead"])
            assert [agent.id for agent in found] == ["dead", "default"]
            assert all(agent.raw for agent in found)
            for text in (b"one", b"two"):  # a call for each connection
                reader, writer = await asyncio.open_unix_connection(found[1].socket)
                writer.write(text)
                assert await reader.readexactly(3) == text.upper()
                writer.write_eof()
                assert await reader.read() == b"bye"
                writer.close()
            big = os.urandom(1 << 20)
            reader, writer = await asyncio.open_unix_connection(found[1].socket)
            writer.write(big)
            assert await reader.readexactly(len(big)) == big.upper()
            writer.close()
            reader, writer = await asyncio.open_unix_connection(found[0].socket)
            assert await reader.read() == b""
            writer.close()
            where = os.path.dirname(os.readlink(os.path.dirname(found[0].socket)))
        assert heard[:2] == [b"one", b"two"]
        assert os.path.isdir(where)
        server.close()

    asyncio.run(run())
    with socket.socket(socket.AF_UNIX) as closed, pytest.raises(OSError):
        closed.connect("/proc/self/fd/99/s0")


def test_a_client_without_agents_offers_none(store: Store) -> None:
    async def run() -> None:
        async with connected({}) as session, SessionAgents(session, store) as agents:
            assert await agents.offer(["default"]) == ()

    asyncio.run(run())


# --- uploads --------------------------------------------------------------------------------------


def test_an_upload_is_read_to_its_end() -> None:
    data = os.urandom(1_000_000)

    async def run() -> None:
        async with connected(upload({"abc": lambda: io.BytesIO(data)})) as session:
            pieces = [piece async for piece in pull(session, "abc")]
            assert b"".join(pieces) == data
            with pytest.raises(UserError, match="no upload 'x'"):
                [piece async for piece in pull(session, "/x")]

    asyncio.run(run())


def test_a_piece_that_is_none_is_an_error() -> None:
    async def handle(call: IncomingCall) -> None:
        await call.send(b"\xff\xff")

    async def run() -> None:
        async with connected({"/moby.upload.v1.Upload/Pull": handle}) as session:
            with pytest.raises(UserError, match="cannot be read"):
                [piece async for piece in pull(session, "abc")]

    asyncio.run(run())


# --- stores ---------------------------------------------------------------------------------------


async def _pieces(data: bytes, size: int) -> AsyncGenerator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _digest(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_blobs_go_to_the_client_and_come_back(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    digest = _digest(data)
    stores = {
        "export": BlobDirectory(str(tmp_path), writable=True),
        "oci:x": BlobDirectory(str(tmp_path)),
    }

    async def run() -> None:
        async with connected(content(stores)) as session:
            there = SessionContent(session, "export")
            assert there.offered()
            assert await there.info(digest) is None
            assert await there.list() == []
            assert await there.write(digest, size, _pieces(data, 70_000))
            assert not await there.write(digest, size, _pieces(data, 70_000))
            layout = SessionContent(session, "oci:x")
            found = await layout.info(digest)
            assert found is not None and found.size == size
            assert [one.digest for one in await layout.list()] == [digest]
            assert b"".join([piece async for piece in layout.read(digest)]) == data
            if size > 10:
                part = [piece async for piece in layout.read(digest, 3, 5)]
                assert b"".join(part) == data[3:8]
            with pytest.raises(UserError, match="for reading"):
                await layout.write(_digest(b"x"), 1, _pieces(b"x", 1))
        assert os.listdir(tmp_path / "blobs" / "sha256") == [digest.hex]

    asyncio.run(run())


def test_blobs_that_are_not_what_they_should_be_are_not_kept(tmp_path: Path) -> None:
    stores = {"export": BlobDirectory(str(tmp_path), writable=True)}

    async def run() -> None:
        async with connected(content(stores)) as session:
            there = SessionContent(session, "export")
            with pytest.raises(UserError, match="unexpected digest"):
                await there.write(_digest(b"other"), 4, _pieces(b"data", 2))
            with pytest.raises(EnvironmentFault, match="instead of 9"):
                await there.write(_digest(b"data"), 9, _pieces(b"data", 2))
            with pytest.raises(UserError, match="unknown content store"):
                await SessionContent(session, "local:/etc").info(_digest(b""))
            with pytest.raises(UserError, match="not found"):
                [piece async for piece in there.read(_digest(b""))]
            bad = Digest("sha256:../../../etc/passwd")
            with pytest.raises(UserError, match="invalid digest"):
                await there.info(bad)
            async with asyncio.timeout(60):  # the client hears that a transfer broke off by and by
                while os.listdir(tmp_path / "blobs" / "sha256"):
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_client_that_sends_other_parts_than_were_asked_for_is_refused() -> None:
    from pybuild.buildkit.pb.content import ReadContentResponse

    async def handle(call: IncomingCall) -> None:
        await call.send(ReadContentResponse(offset=7, data=b"x").SerializeToString())

    handlers: dict[str, Handler] = {"/containerd.services.content.v1.Content/Read": handle}

    async def run() -> None:
        async with connected(handlers) as session:
            with pytest.raises(UserError, match="cannot be read"):
                [piece async for piece in SessionContent(session, "x").read(_digest(b""))]

    asyncio.run(run())


def test_a_store_whose_name_no_call_can_carry_is_refused() -> None:
    async def run() -> None:
        async with connected({}) as session:
            for name in ("local:\u00e9", "local:a\nb"):
                with pytest.raises(UserError, match="non-printable ASCII"):
                    SessionContent(session, name)

    asyncio.run(run())
