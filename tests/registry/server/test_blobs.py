"""Blobs come in by every way the specification has, and go out whole or in part [end-2..6, end-10..14]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from pybuild.cache.repositories.repositories import listed
from pybuild.model.digest import Digest
from pybuild.model.trust import trusting
from pybuild.registry.server.settings import ClientLimits, RegistrySettings
from tests.descriptors import none_left_open
from tests.registry.conftest import run
from tests.registry.server.serving import Served, served, sha512
from tests.registry.servers import Authority

DATA = bytes(range(256)) * 8


def left_over(one: Served) -> list[str]:
    """Uploads and half-written files that are still there."""
    uploads = listed(str(Path(one.store.root) / "registry" / "uploads"))
    temporary = [name for name in listed(one.store.tmp.path) if not name.endswith(".lock")]
    return [*uploads, *temporary]


def test_a_blob_in_one_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            digest = Digest.of(DATA)
            pushed = await one.ask("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", DATA)
            assert pushed.status == 201
            assert pushed.headers["Location"] == f"/v2/a/b/blobs/{digest}"
            assert pushed.headers["Docker-Content-Digest"] == digest
            got = await one.ask("GET", pushed.headers["Location"])
            assert (got.status, got.body) == (200, DATA)
            assert got.headers["Docker-Content-Digest"] == digest
            assert left_over(one) == []

    run(work())


def test_a_blob_by_post_and_put_also_as_sha512(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            for digest in (Digest.of(DATA), sha512(DATA)):
                begun = await one.ask("POST", "/v2/a/blobs/uploads/")
                assert begun.status == 202
                place = begun.headers["Location"]
                put = await one.ask("PUT", place, DATA, digest=digest)
                assert put.status == 201
                assert (await one.ask("GET", f"/v2/a/blobs/{digest}")).body == DATA
            assert left_over(one) == []

    run(work())


def test_a_blob_in_chunks(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            first = await one.ask("PATCH", place, DATA[:1000], {"Content-Range": "0-999"})
            assert (first.status, first.headers["Range"]) == (202, "0-999")
            again = await one.ask("PATCH", place, DATA[:1000], {"Content-Range": "0-999"})
            assert again.status == 416
            gap = await one.ask("PATCH", place, DATA[1001:], {"Content-Range": "1001-2047"})
            assert gap.status == 416
            status = await one.ask("GET", place)
            assert (status.status, status.headers["Range"]) == (204, "0-999")
            assert status.headers["Location"] == place
            streamed = await one.ask("PATCH", place, DATA[1000:2000])
            assert streamed.headers["Range"] == "0-1999"
            late = await one.ask(
                "PUT", place, DATA[2001:], {"Content-Range": "2001-2047"}, digest=Digest.of(DATA)
            )
            assert late.status == 416
            last = await one.ask(
                "PUT", place, DATA[2000:], {"Content-Range": "2000-2047"}, digest=Digest.of(DATA)
            )
            assert last.status == 201
            assert (await one.ask("GET", last.headers["Location"])).body == DATA
            assert (await one.ask("GET", place)).status == 404

    run(work())


def test_an_upload_survives_the_server(tmp_path: Path) -> None:
    """The next one, or another on the same store, goes on where the file ends."""

    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            await one.ask("PATCH", place, DATA[:1000])
        async with served(tmp_path) as one, served(tmp_path) as other:
            assert (await one.ask("GET", place)).headers["Range"] == "0-999"
            await one.ask("PATCH", place, DATA[1000:2000])
            put = await other.ask("PUT", place, DATA[2000:], digest=Digest.of(DATA))
            assert put.status == 201
            assert (await one.ask("GET", put.headers["Location"])).body == DATA

    run(work())


def test_what_came_of_a_cut_chunk_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            host, _, port = one.host.partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            head = f"PATCH {place} HTTP/1.1\r\nHost: {one.host}\r\nContent-Length: 2048\r\n\r\n"
            writer.write(head.encode() + DATA[:1000])
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            while (await one.ask("GET", place)).headers["Range"] != "0-999":
                await asyncio.sleep(0.01)
            # The bytes are there before the server has noticed that no more come.
            while (
                put := await one.ask("PUT", place, DATA[1000:], digest=Digest.of(DATA))
            ).status == 409:
                await asyncio.sleep(0.01)
            assert put.status == 201

    run(work())


@pytest.mark.parametrize("way", ["post", "put"])
def test_a_wrong_digest_leaves_nothing(tmp_path: Path, way: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            wrong = Digest.of(b"something else")
            if way == "post":
                answer = await one.ask("POST", f"/v2/a/blobs/uploads/?digest={wrong}", DATA)
            else:
                place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
                answer = await one.ask("PUT", place, DATA, digest=wrong)
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
            assert left_over(one) == []
            assert list(one.store.blobs.list()) == []

    run(work())


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?digest=sha256:x", "DIGEST_INVALID"),
        ("?digest=md5:" + "0" * 32, "DIGEST_INVALID"),
        ("?digest-algorithm=md5", "DIGEST_INVALID"),
        ("?mount=../../etc/passwd&from=b", "DIGEST_INVALID"),
    ],
)
def test_a_strange_digest_is_refused(tmp_path: Path, query: str, code: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            answer = await one.ask("POST", f"/v2/a/blobs/uploads/{query}", DATA)
            assert (answer.status, answer.code) == (400, code)
            assert left_over(one) == []

    run(work())


def test_a_chunk_that_is_longer_than_its_range_leaves_the_upload_as_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            await one.ask("PATCH", place, DATA[:1000])
            answer = await one.ask("PATCH", place, endless(), {"Content-Range": "1000-1999"})
            assert (answer.status, answer.code) == (400, "SIZE_INVALID")
            short = await one.ask("PATCH", place, chunked(b"few"), {"Content-Range": "1000-1999"})
            assert (short.status, short.code) == (400, "SIZE_INVALID")
            assert (await one.ask("GET", place)).headers["Range"] == "0-999"
            put = await one.ask("PUT", place, DATA[1000:], digest=Digest.of(DATA))
            assert put.status == 201

    run(work())


def test_a_chunk_that_goes_beyond_the_limit_leaves_the_upload_as_it_was(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(blob_bytes=1 << 20), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            await one.ask("PATCH", place, DATA[:1000])
            assert (await one.ask("PATCH", place, endless())).status == 413
            assert (await one.ask("GET", place)).headers["Range"] == "0-999"

    run(work())


async def endless() -> AsyncGenerator[bytes]:
    while True:
        yield b"x" * 65536


async def chunked(data: bytes) -> AsyncGenerator[bytes]:
    yield data


def test_a_blob_over_the_limit_is_refused(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(blob_bytes=1000), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            digest = Digest.of(DATA)
            said = await one.ask("POST", f"/v2/a/blobs/uploads/?digest={digest}", DATA)
            assert (said.status, said.code) == (413, "SIZE_INVALID")
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            unsaid = await one.ask("PATCH", place, chunked(DATA))
            assert unsaid.status == 413
            assert (await one.ask("GET", place)).headers["Range"] == "0-0"

    run(work())


def test_a_body_that_hardly_moves_is_given_up(tmp_path: Path) -> None:
    async def drip() -> AsyncGenerator[bytes]:
        for _ in range(1000):
            yield b"x"
            await asyncio.sleep(0.02)

    settings = RegistrySettings(limits=ClientLimits(idle_s=0.1, least_bytes=100), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            answer = None
            while answer is None:  # on a busy machine a request may be too slow to begin
                with suppress(aiohttp.ClientError):
                    place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
                    answer = await one.ask("PATCH", place, drip())
            assert answer.status == 408

    run(work())


def test_an_upload_that_waits_keeps_no_file_open(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            await one.ask("POST", "/v2/a/blobs/uploads/")
            with none_left_open():
                for _ in range(3):
                    await one.ask("POST", "/v2/a/blobs/uploads/")

    run(work())


def test_uploads_are_counted(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(uploads=2), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            places = [
                (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
                for _ in range(2)
            ]
            refused = await one.ask("POST", "/v2/a/blobs/uploads/")
            assert (refused.status, refused.code) == (429, "TOOMANYREQUESTS")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await one.ask("DELETE", places[0])).status == 204
            assert (await one.ask("PATCH", places[0], b"x")).status == 404
            assert (await one.ask("POST", "/v2/a/blobs/uploads/")).status == 202

    run(work())


def test_an_upload_belongs_to_one_repository(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            other = place.replace("/v2/a/", "/v2/b/")
            for method in ("GET", "PATCH", "DELETE"):
                answer = await one.ask(method, other)
                assert answer.status == 404
            put = await one.ask("PUT", other, DATA, digest=Digest.of(DATA))
            assert (put.status, put.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    run(work())


def test_two_writers_of_one_upload_do_not_mix(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            begun, end = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncGenerator[bytes]:
                yield DATA[:1000]
                begun.set()
                await end.wait()
                yield DATA[1000:]

            first = asyncio.create_task(one.ask("PATCH", place, slow()))
            await begun.wait()
            second = await one.ask("PATCH", place, b"in between")
            while second.status != 409:  # it came before the first, which has to say so then
                second = await one.ask("PATCH", place, b"")
            end.set()
            assert (await first).status == 202
            assert second.code == "BLOB_UPLOAD_INVALID"

    run(work())


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=0-9", 206, DATA[:10]),
        ("bytes=2000-", 206, DATA[2000:]),
        ("bytes=-8", 206, DATA[-8:]),
        ("bytes=0-99999", 206, DATA),
        ("bytes=99999-", 416, None),
    ],
)
def test_ranges_of_a_blob(tmp_path: Path, wanted: str, status: int, body: bytes | None) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            digest = await one.push_blob("a", DATA)
            answer = await one.ask("GET", f"/v2/a/blobs/{digest}", headers={"Range": wanted})
            assert answer.status == status
            if body is not None:
                assert answer.body == body
                assert answer.headers["Content-Range"].endswith(f"/{len(DATA)}")
            head = await one.ask("HEAD", f"/v2/a/blobs/{digest}")
            assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))

    run(work())


def test_a_blob_is_seen_only_where_it_was_pushed_or_mounted(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            digest = await one.push_blob("a", DATA)
            hidden = await one.ask("GET", f"/v2/b/blobs/{digest}")
            assert (hidden.status, hidden.code) == (404, "BLOB_UNKNOWN")
            mounted = await one.ask("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a")
            assert mounted.status == 201
            assert (await one.ask("GET", mounted.headers["Location"])).body == DATA
            found = await one.ask("POST", f"/v2/c/blobs/uploads/?mount={digest}")
            assert found.status == 201
            nowhere = await one.ask("POST", f"/v2/d/blobs/uploads/?mount={digest}&from=e")
            assert nowhere.status == 202
            assert (await one.ask("DELETE", f"/v2/a/blobs/{digest}")).status == 202
            assert (await one.ask("GET", f"/v2/a/blobs/{digest}")).status == 404
            assert (await one.ask("DELETE", f"/v2/a/blobs/{digest}")).status == 404
            assert (await one.ask("GET", f"/v2/b/blobs/{digest}")).status == 200

    run(work())


def test_what_the_builder_stored_is_not_served(tmp_path: Path) -> None:
    """A layer of a build is private until somebody pushes it."""

    async def work() -> None:
        async with served(tmp_path) as one:
            digest = one.store.blobs.put(b"of a build")
            assert (await one.ask("GET", f"/v2/a/blobs/{digest}")).status == 404
            mounted = await one.ask("POST", f"/v2/a/blobs/uploads/?mount={digest}")
            assert mounted.status == 202

    run(work())


def test_a_compressed_blob_is_stored_as_it_came(tmp_path: Path) -> None:
    """A Content-Encoding is a property of the transfer that nobody asked us to undo."""

    async def work() -> None:
        async with served(tmp_path) as one:
            digest = Digest.of(DATA)
            answer = await one.ask(
                "POST",
                f"/v2/a/blobs/uploads/?digest={digest}",
                chunked(DATA),
                {"Content-Encoding": "gzip"},
            )
            assert answer.status == 201

    run(work())


def test_a_client_that_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(idle_s=0.1), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            host, _, port = one.host.partition(":")
            for said in (b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(said)
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    pass
                writer.close()

    run(work())


def test_connections_are_counted(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(connections=2), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            host, _, port = one.host.partition(":")
            kept = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            writer.close()
            for _, other in kept:
                other.close()
                await other.wait_closed()
            while True:
                try:
                    assert (await one.ask("GET", "/v2/")).status == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)

    run(work())


@pytest.mark.slow
def test_who_expects_to_continue_is_told_to_only_where_it_may(tmp_path: Path) -> None:
    async def first_line(one: Served, path: str) -> bytes:
        host, _, port = one.host.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        writer.write(head.encode())
        line = await reader.readline()
        writer.close()
        return line

    async def work() -> None:
        async with served(tmp_path) as one:
            path = "/v2/a/manifests/v1"
            assert await first_line(one, path) == b"HTTP/1.1 100 Continue\r\n"
            assert b" 400 " in await first_line(one, "/v2/A/manifests/v1")
        async with served(tmp_path, RegistrySettings(read_only=True, grace_s=0.2)) as one:
            assert b" 405 " in await first_line(one, path)

    run(work())


@pytest.mark.slow
def test_the_silent_before_tls_are_counted_and_crowd_out_only_their_own(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    settings = RegistrySettings(cert=str(authority.cert), key=str(authority.key), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path / "store", settings) as one:
            host, _, port = one.host.partition(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
            with suppress(ConnectionError):
                assert await silent[0][0].read() == b"", "whoever waits longest goes"
            url = f"https://{one.host}/v2/"
            async with one.session.get(url, ssl=trusting(str(authority.ca))) as answer:
                assert answer.status == 200
            for _, writer in silent:
                writer.close()

    run(work())
