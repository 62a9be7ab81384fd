"""Networks and servers that fail: what is begun goes on, is given up in time, and leaves nothing [REG-11]."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from pybuild.registry.client.transport import TransferLimits
from tests.registry.chaos import Chaos, CutAnswer, CutRequest, Fault, Reset, Say, chaos_before
from tests.registry.conftest import BIG, QUICK, client, run, seed_image
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image
from tests.registry.servers import proxy_to, serve
from tests.registry.storm import run as storm
from tests.services import RegistryProcess


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_push_and_pull_survive_chaos(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
    seed: int,
) -> None:
    """Resets, cuts, 429 and 503 at random; what arrives is whole."""
    image = make_image(blobs, b"small", BIG, bytes([seed]) * 100_000)
    chaos = Chaos.seeded(seed, most=12)
    limits = TransferLimits(attempts=20, backoff_s=0.001, backoff_most_s=0.01, idle_s=5.0)

    async def work() -> None:
        async with (
            chaos_before(registry.host, chaos) as proxy,
            client(limits=limits, chunk_bytes=400_000 if seed % 2 else 0) as c,
        ):
            reference = Reference.parse(f"{proxy}/{repository}:1")
            await push_image(c, blobs, image, [reference])
        async with (
            chaos_before(registry.host, Chaos.seeded(seed + 100, most=12)) as proxy,
            client(limits=limits) as c,
        ):
            reference = Reference.parse(f"{proxy}/{repository}:1")
            await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)

    run(work(), 60)
    assert len(chaos.happened) >= 3
    assert other_blobs.read(Digest.of(BIG)) == BIG
    assert other_blobs.leftovers() == []


@pytest.mark.registry
@pytest.mark.slow
def test_rounds_through_a_storm_all_succeed(registry: RegistryProcess, tmp_path: Path) -> None:
    """A small sample of `tests.registry.storm`, with the client's own limits."""
    tally = run(storm(8, 5, registry.host, tmp_path), 120)
    assert tally.failures == []
    assert sum(n for what, n in tally.happened.items() if what.startswith("reset")) > 15
    assert {"429", "reset at once", "reset in the answer", "reset in the request"} <= set(
        tally.happened
    )


@pytest.mark.registry
@pytest.mark.parametrize(
    "fault", [Reset(), Say(503), Say(429), Say(408), CutAnswer(20)], ids=lambda f: str(f)
)
def test_one_fault_is_not_noticed(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs, fault: Fault
) -> None:
    image = seed_image(registry, repository, blobs)

    async def work() -> None:
        # On loopback two first connections are needed to find out that there is no TLS.
        chaos = Chaos.planned(None, None, fault, fault)
        async with chaos_before(registry.host, chaos) as proxy, client() as c:
            reference = Reference.parse(f"{proxy}/{repository}")
            for _ in range(3):
                assert (await c.resolve(reference)).digest == image.digest

    run(work())


@pytest.mark.slow
@pytest.mark.registry
def test_cut_download_goes_on_where_it_was_cut(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    seed_image(registry, repository, blobs)
    descriptor = Descriptor("x", Digest.of(BIG), len(BIG))
    seen: list[tuple[str, str]] = []

    async def note(request: web.Request, body: bytes) -> None:
        seen.append((request.method, request.headers.get("Range", "")))

    async def work() -> None:
        hosts_http = {"http": True}
        async with (
            proxy_to(registry.host, note) as noting,
            chaos_before(noting, Chaos.planned(CutAnswer(1_000_000), CutAnswer(300_000))) as proxy,
            client(Hosts({proxy: hosts_http})) as c,
        ):
            await c.pull_blob(Reference.parse(f"{proxy}/{repository}"), descriptor, other_blobs)

    run(work())
    assert other_blobs.read(descriptor.digest) == BIG
    assert len(seen) == 3 and seen[0] == ("GET", "")
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for _, text in seen[1:]]
    assert 0 < starts[0] < starts[1] < len(BIG)


@pytest.mark.parametrize("is_gone", [False, True])
def test_chunk_that_an_upload_does_not_take_is_sent_where_the_upload_is(
    blobs: DirectoryBlobs, is_gone: bool
) -> None:
    """As of a registry that is still writing a request which was cut, or has dropped the upload."""
    descriptor = Descriptor("x", blobs.put(BIG), len(BIG))
    taken = bytearray()
    methods: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        methods.append(request.method)
        place = {"Location": "/upload"}
        match request.method:
            case "POST":
                taken.clear()
                return web.Response(status=202, headers=place)
            case "PATCH":
                data = await request.read()
                if methods.count("PATCH") == 2:
                    return web.Response(status=404)
                taken.extend(data)
                return web.Response(status=202, headers=place)
            case "GET" if not is_gone:
                return web.Response(status=204, headers={"Range": f"0-{len(taken) - 1}", **place})
            case "PUT":
                return web.Response(status=201)
            case _:
                return web.Response(status=404)

    async def work() -> None:
        async with (
            serve(handle) as host,
            client(Hosts({host: {"http": True}}), chunk_bytes=700_000) as c,
        ):
            await c.push_blob(Reference.parse(f"{host}/a"), descriptor, blobs)

    run(work())
    assert taken == BIG
    assert methods.count("POST") == (2 if is_gone else 1)


@pytest.mark.registry
def test_cut_upload_begins_again(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    descriptor = Descriptor("x", blobs.put(BIG), len(BIG))

    async def work() -> None:
        chaos = Chaos.planned(None, CutRequest(500_000), CutRequest(900_000))
        async with (
            chaos_before(registry.host, chaos) as proxy,
            client(Hosts({proxy: {"http": True}})) as c,
        ):
            reference = Reference.parse(f"{proxy}/{repository}")
            # The first connection would serve everything: use it up for another request.
            await asyncio.gather(
                c.blob_exists(reference, descriptor), c.push_blob(reference, descriptor, blobs)
            )
            assert await c.blob_exists(reference, descriptor)
            assert chaos.happened

    run(work())


def test_upload_too_large_for_one_piece_is_sent_in_chunks(blobs: DirectoryBlobs) -> None:
    """[end-5, end-6]"""
    data = b"c" * (9 << 20)
    descriptor = Descriptor("x", blobs.put(data), len(data))
    sizes: list[int] = []
    parts: list[str] = []
    stored: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=404)
        if request.method == "POST":
            stored.clear()
            return web.Response(status=202, headers={"Location": "/up?state=a%2Fb"})
        assert request.raw_path.startswith("/up?state=a%2Fb")  # left as it was quoted
        if request.method == "PUT" and request.content_length:
            return web.Response(status=413)
        body = await request.read()
        stored.append(body)
        if request.method == "PUT":
            assert request.query["digest"] == descriptor.digest
            return web.Response(status=201)
        sizes.append(len(body))
        parts.append(request.headers["Content-Range"])
        total = sum(sizes)
        headers = {"Location": "/up?state=a%2Fb", "Range": f"0-{total - 1}"}
        return web.Response(status=202, headers=headers)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            await c.push_blob(Reference.parse(f"{host}/a/b"), descriptor, blobs)

    run(work())
    assert sizes == [8 << 20, 1 << 20]
    assert parts == [f"0-{(8 << 20) - 1}", f"{8 << 20}-{(9 << 20) - 1}"]
    assert b"".join(stored) == data


def test_blob_that_vanishes_in_the_middle_is_told(other_blobs: DirectoryBlobs) -> None:
    """404 after a cut: the message says how the second request was answered."""
    data = b"x" * 200_000

    async def handler(request: web.Request) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:100_000])
        assert request.transport is not None
        request.transport.abort()
        return response

    descriptor = Descriptor("x", Digest.of(data), len(data))

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(HttpFault, match="404 NOT FOUND"):
                await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)

    run(work())
    assert other_blobs.leftovers() == []


def test_persistent_503_is_given_up() -> None:
    count = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.Response(status=503)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            reference = Reference.parse(f"{host}/a/b:1")
            with pytest.raises(HttpFault) as caught:
                await c.tags(reference)
            assert caught.value.message == (
                f"list tags of {host}/a/b: GET /v2/a/b/tags/list: 503 SERVICE UNAVAILABLE"
            )

    run(work())
    assert count == QUICK.attempts


def test_retry_after_is_heeded_and_an_absurd_one_is_not_waited_for() -> None:
    waits: list[float] = []
    answers = iter(["7", "86400"])

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": next(answers)})

    async def work() -> None:
        async with serve(handler) as host:
            hosts = Hosts({host: {"http": True}})
            async with Client(hosts, clock=WallClock(), sleep=sleep) as c:
                with pytest.raises(HttpFault, match="429 TOOMANYREQUESTS") as caught:
                    await c.resolve(Reference.parse(f"{host}/a/b"))
                assert "try later" in caught.value.hints[0]

    run(work())
    assert waits == [7.0]


def test_unreachable_registry_is_told_soon() -> None:
    reference = Reference.parse("127.0.0.1:1/a/b:1")

    async def work() -> None:
        async with client() as c:
            with pytest.raises(HttpFault) as caught:
                await c.resolve(reference)
            assert caught.value.message == (
                f"failed to resolve source metadata for {reference}: "
                "HEAD /v2/a/b/manifests/1: connection refused (127.0.0.1:1)"
            )

    run(work())


def test_cancelled_pull_leaves_nothing(other_blobs: DirectoryBlobs) -> None:
    data = b"x" * 3_000_000
    descriptor = Descriptor("x", Digest.of(data), len(data))

    async def work() -> None:
        flowing, gone = asyncio.Event(), asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await response.prepare(request)
            await response.write(data[:2_000_000])
            await gone.wait()
            return response

        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            pull = asyncio.create_task(
                c.pull_blob(
                    Reference.parse(f"{host}/a/b"),
                    descriptor,
                    other_blobs,
                    lambda _id, _current, _total: flowing.set(),
                )
            )
            await flowing.wait()
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
            gone.set()

    run(work())
    assert other_blobs.leftovers() == []


def test_no_host_sees_more_than_four_connections(other_blobs: DirectoryBlobs) -> None:
    """[REG-11, DMN-6] and all of them are used."""
    contents = [bytes([n]) * 5000 for n in range(12)]
    by_digest = {str(Digest.of(data)): data for data in contents}
    open_now, most = 0, 0
    all_used = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == 4:
            all_used.set()
        async with asyncio.timeout(60):
            await all_used.wait()
        await asyncio.sleep(0.005)
        open_now -= 1
        return web.Response(body=by_digest[request.path.rpartition("/")[2]])

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            reference = Reference.parse(f"{host}/a/b")
            wanted = [Descriptor("x", Digest.of(data), len(data)) for data in contents]
            await asyncio.gather(*(c.pull_blob(reference, d, other_blobs) for d in wanted))

    run(work())
    assert most == 4
    assert all(other_blobs.has(Digest.of(data)) for data in contents)
