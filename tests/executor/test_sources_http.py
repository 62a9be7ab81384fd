"""Files by http from a real server on loopback, friendly and hostile [ADD-4..6, KEY-4, SEC-3]."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import re
import tarfile
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.executor.sources.download import Limits
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.ops import HttpSource
from tests.executor.fileservers import QUICK, WHEN, fixed, serving, source
from tests.executor.sourcesites import SourceSite, on_site


def test_a_file_is_private_and_as_old_as_the_server_says(tmp_path: Path) -> None:
    """[ADD-4]"""

    async def body(site: SourceSite) -> None:
        async with serving(fixed(Last_Modified=WHEN)) as server:
            tree = await site.tree(source(server))
        assert sorted(os.listdir(tree)) == ["f.txt"]
        status = (tree / "f.txt").stat()
        assert (tree / "f.txt").read_bytes() == b"hello"
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (
            0o600,
            os.geteuid(),
            os.getegid(),
        )
        assert status.st_mtime == 1445412480
        assert server.requests[0].headers["Accept-Encoding"] == "gzip"

    on_site(tmp_path, body)


def test_what_is_compressed_on_the_way_is_the_file_itself(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        packed = gzip.compress(b"hello")
        async with serving(fixed(packed, Content_Encoding="gzip")) as server:
            tree = await site.tree(source(server))
        assert (tree / "f.txt").read_bytes() == b"hello"
        for bad, words in ((b"no gzip at all", "sent as gzip"), (packed[:-9], "ends after")):
            async with serving(fixed(bad, Content_Encoding="gzip")) as server:
                with pytest.raises(EnvironmentFault, match=words):
                    await site.tree(source(server))

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    ("header", "server_names", "name"),
    [
        ('attachment; filename="g.bin"', True, "g.bin"),
        ('attachment; filename="g.bin"', False, "f.txt"),
        ('attachment; filename="../../etc/passwd"', True, "passwd"),
        ('attachment; filename="d/"', True, "f.txt"),
        ('attachment; filename=".."', True, "__unnamed__"),
        ("inline", True, "f.txt"),
    ],
)
def test_a_server_may_name_the_file(
    tmp_path: Path, header: str, server_names: bool, name: str
) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(Content_Disposition=header)) as server:
            op = source(server, server_names=server_names)
            assert os.listdir(await site.tree(op)) == [name]

    on_site(tmp_path, body)


def test_without_a_date_it_is_from_1970(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed(Last_Modified="soon")) as server:
            tree = await site.tree(source(server))
        assert (tree / "f.txt").stat().st_mtime == 0

    on_site(tmp_path, body)


@pytest.mark.slow
@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_an_unchanged_file_is_not_sent_again(tmp_path: Path, header: str) -> None:
    """[ADD-6]"""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        value = '"one"' if header == "ETag" else WHEN
        asked = request.headers.get("If-None-Match" if header == "ETag" else "If-Modified-Since")
        return web.Response(
            body=b"" if asked else b"hello", status=304 if asked else 200, headers={header: value}
        )

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            one = await site.tree(source(server))
            two = await site.tree(source(server))
        assert one == two
        assert len(server.requests) == 2

    on_site(tmp_path, body)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_file_with_a_tag_is_asked_for_its_head_first(tmp_path: Path, refuses: bool) -> None:
    """[ADD-6]: what is the same is not sent, what changed is; who has no heads is asked in full."""
    content = b"one"

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if refuses and request.method == "HEAD":
            return web.Response(status=405)
        return web.Response(body=content, headers={"ETag": f'"{content.decode()}"'})

    async def body(site: SourceSite) -> None:
        nonlocal content
        async with serving(answer) as server:
            one = await site.tree(source(server))
            assert await site.tree(source(server)) == one
            content = b"two"
            assert (await site.tree(source(server)) / "f.txt").read_bytes() == b"two"
        methods = ["GET", "HEAD", "HEAD", "GET"]
        if refuses:
            methods.insert(2, "GET")
        assert [request.method for request in server.requests] == methods
        agent = server.requests[0].headers["User-Agent"]
        assert agent.startswith("pybuild/") and "buildkit/v" in agent

    on_site(tmp_path, body)


def archive(*members: tuple[str, int], packed: bool = False) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz" if packed else "w") as tar:
        for name, mtime in members:
            info = tarfile.TarInfo(name)
            info.mtime = mtime
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = 0 if name.endswith("/") else 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "header", "seconds"),
    [
        (b"text", WHEN, 1445412480),
        (archive(("a", 5)), WHEN, 1445412480),
        (archive(("a", 7), ("b", 5), ("dir/", 9)), "", 7),
        pytest.param(archive(("a", 7), packed=True), "soon", 7, id="gzip"),
        pytest.param(archive(("dir/", 9)), "", None, id="no-file"),
        (archive(("a", 7), ("b", 5))[:700], "", None),
        (b"text", "", None),
        (b"", "", None),
    ],
)
def test_a_file_knows_when_it_was_changed(
    tmp_path: Path, content: bytes, header: str, seconds: int | None
) -> None:
    """[REP-1]: the server's word, else the newest file of an archive."""
    headers = {"Last-Modified": header} if header else {}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=content, headers=headers)

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            async with site.sources() as sources:
                assert await sources.changed(source(server)) == seconds
            assert len(server.requests) == 1

    on_site(tmp_path, body)


@pytest.mark.slow
def test_a_server_that_ignores_conditions_is_not_read_to_the_end(tmp_path: Path) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"ETag": 'W/"a"', "Content-Length": "50000000"})
        await response.prepare(request)
        for _ in range(50):
            await response.write(bytes(1_000_000))
            sent += 1
        return response

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            one = await site.tree(source(server))
            before = sent
            two = await site.tree(source(server))
        assert (one, before) == (two, 50)
        assert sent - before < 40

    on_site(tmp_path, body)


def test_the_identity_is_what_the_url_holds(tmp_path: Path) -> None:
    """[KEY-4]"""
    content = b"one"

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=content)

    async def body(site: SourceSite) -> None:
        nonlocal content
        async with serving(answer) as server:
            found: list[Digest] = []
            for content in (b"one", b"two", b"one"):
                async with site.sources() as sources:
                    found.append(await sources.identify(source(server)))
                    # Whatever happens meanwhile, one build sees one file.
                    content = b"three"
                    assert await sources.identify(source(server)) == found[-1]
        assert found[0] == found[2] != found[1]

    on_site(tmp_path, body)


def test_a_url_holds_the_same_bytes_throughout_a_build_whatever_they_are_to_look_like(
    tmp_path: Path,
) -> None:
    bodies = [b"new", b"old"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bodies.pop())

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server, site.sources() as sources:
            bare = HttpSource(url=server.url + "/f.txt")
            named = HttpSource(url=bare.url, filename="g", mode=0o640)
            first = await sources.http.file(bare)
            snapshot = await sources.http.snapshot(named)
            file = Path(site.store.deltas.path(snapshot.deltas[0])) / "g"
            assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"old", 0o640)
            assert (await sources.http.file(named)).sha256 == first.sha256
            assert await sources.http.identify(named) == await sources.http.identify(bare)
            assert len(server.requests) == 1

    on_site(tmp_path, body)


def test_a_file_of_known_checksum_needs_no_network(tmp_path: Path) -> None:
    """[ADD-5]"""

    async def body(site: SourceSite) -> None:
        async with serving(fixed()) as server:
            pinned = source(server, checksum=Digest.of(b"hello"))
            async with site.sources() as sources:
                assert await sources.identify(pinned) == Digest.of(b"hello")
            assert server.requests == []
            one = await site.tree(pinned)
        assert await site.tree(pinned) == one  # the server is gone
        elsewhere = HttpSource(
            url="http://127.0.0.1:1/f", filename="f.txt", checksum=pinned.checksum
        )
        assert await site.tree(elsewhere) == one

    on_site(tmp_path, body)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_wrong_checksum_is_told_and_nothing_is_kept(tmp_path: Path, algorithm: str) -> None:
    async def body(site: SourceSite) -> None:
        wrong, right = (hashlib.new(algorithm, data).hexdigest() for data in (b"x", b"hello"))
        async with serving(fixed()) as server:
            op = source(server, checksum=Digest.parse(f"{algorithm}:{wrong}"))
            with pytest.raises(UserError) as caught:
                await site.tree(op)
            await site.tree(source(server, checksum=Digest.parse(f"{algorithm}:{right}")))
        expected = f"digest mismatch {algorithm}:{right}: {algorithm}:{wrong}: {server.url}/f.txt"
        assert caught.value.message == expected
        assert len(list(site.store.deltas.ids())) == 1

    on_site(tmp_path, body)


@pytest.mark.parametrize("status", [400, 404, 410, 501])
def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    """[ADD-4]"""

    async def body(site: SourceSite) -> None:
        async with serving(fixed(status=status)) as server:
            with pytest.raises(UserError, match=f"invalid response status {status}"):
                await site.tree(source(server))
        assert len(server.requests) == 1

    on_site(tmp_path, body)


def test_trouble_is_tried_again(tmp_path: Path) -> None:
    tries = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        if tries == 1:
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"hello")
        if tries == 2:
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(b"world")
        return response

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            tree = await site.tree(source(server), limits=QUICK)
        assert (tree / "f.txt").read_bytes() == b"helloworld"

    on_site(tmp_path, body)
    assert tries == 3


def test_a_server_that_is_not_there(tmp_path: Path) -> None:

    async def body(site: SourceSite) -> None:
        async with serving(fixed()) as server:
            op = HttpSource(url=f"http://u:secret@127.0.0.1:{server.port}/f?key=secret")
        with pytest.raises(EnvironmentFault) as caught:
            await site.tree(op, limits=QUICK)
        assert caught.value.message.startswith(f"cannot fetch http://127.0.0.1:{server.port}/f:")
        assert "secret" not in caught.value.message

    on_site(tmp_path, body)


def test_an_endless_body_is_cut_off(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            with pytest.raises(EnvironmentFault, match="it goes on after 1000000 bytes"):
                await site.tree(source(server), limits=Limits(max_bytes=1_000_000))
        async with serving(fixed(bytes(2000))) as server:
            with pytest.raises(EnvironmentFault, match="2000 bytes, there is room for 1000"):
                await site.tree(source(server), limits=Limits(max_bytes=1000))

    on_site(tmp_path, body)


def test_a_drip_of_bytes_is_silence(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server:
            message = ""
            while (
                "after" not in message
            ):  # on a busy machine the first byte may be too slow as well
                with pytest.raises(EnvironmentFault, match=r"no answer for 0\.15 s") as caught:
                    await site.tree(source(server), limits=Limits(idle_s=0.15, attempts=1))
                message = caught.value.message
            assert re.search(r"no answer for 0\.15 s after \d+ bytes", message)

    on_site(tmp_path, body)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../../evil", "a/b"])
def test_a_file_name_is_one_component(tmp_path: Path, name: str) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed()) as server:
            tree = await site.tree(HttpSource(url=server.url, filename=name))
        expected = {"../../evil": "evil", "a/b": "b"}.get(name, "__unnamed__")
        assert os.listdir(tree) == [expected]

    on_site(tmp_path, body)


def test_two_who_want_one_file_at_once_get_one_download(tmp_path: Path) -> None:
    async def body(site: SourceSite) -> None:
        async with serving(fixed()) as server, site.sources() as sources:
            op = source(server)
            await asyncio.gather(*(sources.identify(op) for _ in range(5)), sources.snapshot(op))
        assert len(server.requests) == 1

    on_site(tmp_path, body)


def test_a_download_that_nobody_waits_for_ends_with_the_build(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 2000)
            await asyncio.sleep(0.01)

    async def body(site: SourceSite) -> None:
        async with serving(answer) as server, site.sources() as sources:
            waiter = asyncio.create_task(sources.snapshot(source(server)))
            while not server.requests:
                await asyncio.sleep(0.01)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter

    on_site(tmp_path, body)
