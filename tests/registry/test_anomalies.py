"""Networks and servers that fail or lie [REG-11]."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.registry.client import Client
from pybuild.registry.credentials import Credential, StaticCredentials
from pybuild.registry.faults import ContentFault, RegistryFault
from pybuild.registry.hosts import Hosts
from pybuild.registry.pull import pull_image
from pybuild.registry.push import push_image
from pybuild.registry.transport import Limits
from tests.registry.chaos import Chaos, CutAnswer, CutRequest, Fault, Reset, Say, chaos_before
from tests.registry.conftest import QUICK, client, run
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image
from tests.registry.servers import proxy_to, serve
from tests.registry.storm import run as storm
from tests.services import RegistryProcess

BIG = bytes(range(256)) * 8000  # 2 MB


def seed_image(registry: RegistryProcess, path: str, blobs: DirectoryBlobs) -> Descriptor:
    """Push an image of two layers, a small and a big one, to *path*."""
    image = make_image(blobs, b"small", BIG)

    async def work() -> None:
        async with client() as c:
            await push_image(c, blobs, image, [Reference.parse(f"{registry.host}/{path}")])

    run(work())
    return image


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
    limits = Limits(attempts=20, backoff_s=0.001, backoff_most_s=0.01, idle_s=5.0)

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


@pytest.mark.registry
def test_lying_proxy_is_found_out(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    """Same length, one byte changed: both digests are named, and nothing is kept."""
    seed_image(registry, repository, blobs)
    wrong = b"S" + b"mall"

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        return web.Response(body=wrong) if body == b"small" else None

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy, client() as c:
            reference = Reference.parse(f"{proxy}/{repository}")
            with pytest.raises(ContentFault) as caught:
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)
            assert caught.value.message == (
                f"pull {proxy}/{repository}: blob {Digest.of(b'small')}: "
                f"got {Digest.of(wrong)} after 5 of 5 bytes"
            )

    run(work())
    assert other_blobs.leftovers() == []
    assert not other_blobs.has(Digest.of(b"small"))


@pytest.mark.registry
def test_the_real_store_keeps_nothing_of_a_lie(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    """A mirror's lie is found by the store, and the origin is asked."""
    seed_image(registry, repository, blobs)
    store = Store.open(tmp_path / "store", WallClock())
    small = Descriptor("x", Digest.of(b"small"), 5)

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        return web.Response(body=b"Small") if body == b"small" else None

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy:
            async with client() as c:
                with pytest.raises(ContentFault, match="got sha256:.* after 5 of 5 bytes"):
                    await c.pull_blob(Reference.parse(f"{proxy}/{repository}"), small, store.blobs)
            assert not store.blobs.has(small.digest)
            async with client(Hosts({registry.host: {"mirrors": [proxy]}})) as c:
                reference = Reference.parse(f"{registry.host}/{repository}")
                await c.pull_blob(reference, small, store.blobs)
            assert store.blobs.read(small.digest) == b"small"

    try:
        run(work())
    finally:
        store.close()


def test_upload_too_large_for_one_piece_is_sent_in_chunks(blobs: DirectoryBlobs) -> None:
    """[end-5, end-6]"""
    data = b"c" * (9 << 20)
    descriptor = Descriptor("x", blobs.put(data), len(data))
    sizes: list[int] = []
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
        total = sum(sizes)
        headers = {"Location": "/up?state=a%2Fb", "Range": f"0-{total - 1}"}
        return web.Response(status=202, headers=headers)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            await c.push_blob(Reference.parse(f"{host}/a/b"), descriptor, blobs)

    run(work())
    assert sizes == [8 << 20, 1 << 20]
    assert b"".join(stored) == data


@pytest.mark.registry
def test_manifest_that_is_not_what_its_digest_says_is_refused(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    seed_image(registry, repository, blobs)

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        if "/manifests/" not in request.path:
            return None
        other = body.replace(b'"schemaVersion": 2', b'"schemaVersion":  2')
        headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": Digest.of(body)}
        return web.Response(body=other, headers=headers)

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy, client() as c:
            reference = Reference.parse(f"{proxy}/{repository}")
            with pytest.raises(ContentFault, match="manifest sha256:.*: got sha256:"):
                await c.manifest(reference)

    run(work())


@pytest.mark.registry
def test_mirror_that_lies_or_fails_does_no_harm(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    """[REG-8] in order, then the origin; with ?ns= and a path below /v2."""
    image = seed_image(registry, repository, blobs)
    asked: list[str] = []

    async def lying(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        if "/blobs/" in request.path:
            return web.Response(body=b"x" * 5)
        return web.Response(status=404)

    async def work() -> None:
        async with serve(lying) as mirror:
            mirrors = ["127.0.0.1:1", f"{mirror}/cache/hub"]
            hosts = Hosts({registry.host: {"mirrors": mirrors}})
            async with client(hosts) as c:
                reference = Reference.parse(f"{registry.host}/{repository}")
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)
                await push_image(c, blobs, image, [reference])

    run(work())
    assert other_blobs.has(Digest.of(b"small")) and other_blobs.has(image.digest)
    namespace = registry.host.replace(":", "%3A")
    assert f"/v2/cache/hub/{repository}/manifests/latest?ns={namespace}" in asked
    assert not any("upload" in path for path in asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("short", "10 of 1000 bytes offered"),
        ("silent-short", "ends after 10 of 1000 bytes"),
        ("endless", "more than 1000 bytes"),
        ("long", "2000 of 1000 bytes offered"),
        ("wrong-range", "got another range than was asked for"),
        ("drip", "no answer for 0.1 s"),
    ],
)
def test_body_of_the_wrong_length_ends_in_bounded_time(
    other_blobs: DirectoryBlobs, answer: str, words: str
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if answer == "short":
            return web.Response(body=b"x" * 10)
        if answer == "long":
            return web.Response(body=b"x" * 2000)
        if answer == "wrong-range":
            return web.Response(
                status=206, body=b"x" * 10, headers={"Content-Range": "bytes 5-14/1000"}
            )
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            if answer == "silent-short":
                await response.write(b"x" * 10)
            while answer == "endless":
                await response.write(b"x" * 65536)
            while answer == "drip":
                await response.write(b"x")
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        return response

    idle_s = 0.1 if answer == "drip" else 5.0
    limits = Limits(attempts=2, backoff_s=0.001, idle_s=idle_s, idle_bytes=100)
    descriptor = Descriptor("x", Digest.of(b"whatever"), 1000)

    async def work() -> None:
        async with (
            serve(handler) as host,
            client(Hosts({host: {"http": True}}), limits=limits) as c,
        ):
            with pytest.raises(EnvironmentFault) as caught:
                await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)
            assert words in caught.value.message

    run(work())
    assert other_blobs.leftovers() == [] and not other_blobs.has(descriptor.digest)


def test_endless_manifest_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=405)
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except ConnectionError:
            return response

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(ContentFault, match="answer is longer than 8388608 bytes"):
                await c.resolve(Reference.parse(f"{host}/a/b"))

    run(work())


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
            with pytest.raises(RegistryFault, match="404 NOT FOUND"):
                await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)

    run(work())
    assert other_blobs.leftovers() == []


def test_redirect_to_another_host_carries_no_login(other_blobs: DirectoryBlobs) -> None:
    """[REG-11] the blob comes, the password stays."""
    data = b"from the other side"
    descriptor = Descriptor("x", Digest.of(data), len(data))
    elsewhere: list[dict[str, str]] = []
    at_home: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        elsewhere.append(dict(request.headers))
        return web.Response(body=data)

    async def work() -> None:
        async with serve(other) as there:

            async def home(request: web.Request) -> web.StreamResponse:
                at_home.append(request.headers.get("Authorization", ""))
                if "Authorization" not in request.headers:
                    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
                place = f"http://{there}/signed?X=a%2Fb"
                return web.Response(status=307, headers={"Location": place})

            async with serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)

    run(work())
    assert at_home == ["", "Basic dTpw"]
    assert len(elsewhere) == 1 and "Authorization" not in elsewhere[0]
    assert other_blobs.read(descriptor.digest) == data


def test_challenge_of_a_redirect_target_is_not_answered(other_blobs: DirectoryBlobs) -> None:
    """Else any host that a registry points at could ask for its login."""
    asked: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Authorization", ""))
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give"'})

    async def work() -> None:
        async with serve(other) as there:

            async def home(request: web.Request) -> web.StreamResponse:
                return web.Response(status=302, headers={"Location": f"http://{there}/x"})

            async with serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p"), there: Credential("v", "q")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    with pytest.raises(RegistryFault, match="401"):
                        await c.blob(
                            Reference.parse(f"{host}/a/b"), Descriptor("x", Digest.of(b""), 0)
                        )

    run(work())
    assert asked == [""]


def test_a_token_server_left_once_gets_no_login_by_a_detour() -> None:
    """[REG-11] else a stranger would choose what it is asked with our name."""
    asked: list[tuple[str, bool]] = []
    token_server = ""

    async def other(request: web.Request) -> web.StreamResponse:
        asked.append(("other", "Authorization" in request.headers))
        return web.Response(status=302, headers={"Location": f"http://{token_server}/chosen"})

    async def work() -> None:
        nonlocal token_server
        async with serve(other) as there:

            async def tokens(request: web.Request) -> web.StreamResponse:
                asked.append((request.path, "Authorization" in request.headers))
                if request.method == "POST":
                    return web.Response(status=405)
                if request.path == "/token":
                    return web.Response(status=302, headers={"Location": f"http://{there}/x"})
                return web.json_response({"token": "t"})

            async def home(request: web.Request) -> web.StreamResponse:
                if request.headers.get("Authorization") == "Bearer t":
                    return web.json_response({"tags": ["one"]})
                challenge = f'Bearer realm="http://{token_server}/token",service="s"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})

            async with serve(tokens) as token_server, serve(home) as host:
                login = StaticCredentials({host: Credential("u", "p")})
                async with client(Hosts({host: {"http": True}}), login) as c:
                    assert await c.tags(Reference.parse(f"{host}/a/b")) == ["one"]

    run(work())
    assert [entry for entry in asked if entry[0] != "/token"] == [
        ("other", False),
        ("/chosen", False),
    ]
    assert ("/token", True) in asked


def test_redirects_without_end_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.path_qs})

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(EnvironmentFault, match="more than 10 redirects"):
                await c.resolve(Reference.parse(f"{host}/a/b"))

    run(work())


def test_token_server_in_the_clear_gets_no_password_of_a_tls_registry() -> None:
    """[REG-5] hostile realms, among them one that only looks like loopback"""
    from pybuild.registry.auth import _refuse_clear_text  # pyright: ignore[reportPrivateUsage]
    from pybuild.registry.hosts import Endpoint

    tls = Endpoint("r.example", "r.example")
    for realm in ("http://t.example/token", "http://localhost:x@t.example/", "http://[::2]/"):
        with pytest.raises(RegistryFault, match="credentials are not sent over plain HTTP"):
            _refuse_clear_text(tls, realm)
    for realm in ("https://t.example/token", "http://127.0.0.1:5001/token", "http://[::1]:1/"):
        _refuse_clear_text(tls, realm)


def test_persistent_503_is_given_up() -> None:
    count = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.Response(status=503)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            reference = Reference.parse(f"{host}/a/b:1")
            with pytest.raises(RegistryFault) as caught:
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
                with pytest.raises(RegistryFault, match="429 TOOMANYREQUESTS") as caught:
                    await c.resolve(Reference.parse(f"{host}/a/b"))
                assert "try later" in caught.value.hints[0]

    run(work())
    assert waits == [7.0]


def test_unreachable_registry_is_told_soon() -> None:
    reference = Reference.parse("127.0.0.1:1/a/b:1")

    async def work() -> None:
        async with client() as c:
            with pytest.raises(RegistryFault) as caught:
                await c.resolve(reference)
            assert caught.value.message == (
                f"failed to resolve source metadata for {reference}: "
                "HEAD /v2/a/b/manifests/1: connection refused (127.0.0.1:1)"
            )

    run(work())


@pytest.mark.registry
def test_plain_http_where_it_is_not_allowed_hints_at_the_setting(
    registry: RegistryProcess,
) -> None:
    """[REG-2, REG-9] only loopback falls back, and not when http = false says so."""

    async def work() -> None:
        async with client(Hosts({registry.host: {"http": False}})) as c:
            with pytest.raises(RegistryFault) as caught:
                await c.resolve(Reference.parse(f"{registry.host}/a/b:1"))
            assert "server gave HTTP response to HTTPS client" in caught.value.message
            assert caught.value.hints == (f'set http = true for registry."{registry.host}"',)

    run(work())


def test_schema_1_is_refused_by_name() -> None:
    """[REG-14]"""
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"

    async def handler(request: web.Request) -> web.StreamResponse:
        body = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
        return web.Response(body=body, headers={"Content-Type": kind})

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            for ask in (c.resolve, c.manifest):
                with pytest.raises(UserError, match="retired schema 1 manifest format"):
                    await ask(Reference.parse(f"{host}/a/b"))

    run(work())


def test_servers_words_cannot_upset_a_terminal() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        errors = [{"code": "\x1b[31mX", "message": "a\nb\u202e" + "c" * 5000}]
        return web.json_response({"errors": errors}, status=400)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(RegistryFault) as caught:
                await c.tags(Reference.parse(f"{host}/a/b"))
            assert caught.value.message.isprintable() and len(caught.value.message) < 500

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

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
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
