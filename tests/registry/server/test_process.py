"""The command itself: it stops gently, is killed without harm, shares its store, and lists and removes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from tests.registry.conftest import run
from tests.registry.fakes import WallClock
from tests.registry.server.processes import process
from tests.registry.server.serving import EMPTY, Served, encoded, image

pytestmark = pytest.mark.slow


def pybuild(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pybuild", *words, "--root", str(root)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


async def pushed_image(host: str, store: Store, name: str, tag: str, layer: bytes) -> Digest:
    async with aiohttp.ClientSession() as session:
        return await Served(host, store, session).push_image(name, tag, layer)


def connect(host: str) -> socket.socket:
    address, _, port = host.partition(":")
    return socket.create_connection((address, int(port)), 10)


def test_kill_in_the_middle_of_a_push_leaves_no_half_blob(tmp_path: Path) -> None:
    """Acknowledged content is there, other content is nowhere, and the upload can go on."""
    layer = os.urandom(4 << 20)
    digest = Digest.of(layer)
    with Store.open(tmp_path, WallClock()) as store:
        with process(tmp_path) as serving:
            run(pushed_image(serving.host, store, "a", "v1", b"whole"))
            with connect(serving.host) as direct, connect(serving.host) as begun:
                begun.sendall(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = begun.recv(4096).decode()
                place = answer.partition("Location: ")[2].partition("\r\n")[0]
                head = f"Host: x\r\nContent-Length: {len(layer)}\r\n\r\n"
                post = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\n{head}"
                direct.sendall(post.encode() + layer[: 3 << 20])
                begun.sendall(f"PATCH {place} HTTP/1.1\r\n{head}".encode() + layer[: 3 << 20])
                uploads = tmp_path / "registry" / "uploads"
                until = time.monotonic() + 60
                while not all(path.stat().st_size >= 2 << 20 for path in uploads.iterdir()):
                    assert time.monotonic() < until
                    time.sleep(0.01)
                serving.kill()
        assert not store.blobs.has(digest)
        for blob, _ in store.blobs.list():
            assert store.blobs.verify(blob)
        with process(tmp_path) as serving:

            async def go_on() -> None:
                async with aiohttp.ClientSession() as session:
                    one = Served(serving.host, store, session)
                    assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 200
                    status = await one.ask("GET", place)
                    offset = int(status.headers["Range"].removeprefix("0-")) + 1
                    assert 2 << 20 <= offset <= 3 << 20
                    put = await one.ask("PUT", place, BytesIO(layer[offset:]), digest=digest)
                    assert put.status == 201
                    got = await one.ask("GET", f"/v2/a/blobs/{digest}")
                    assert got.body == layer

            run(go_on())
            assert serving.stop() == 0


def test_a_stopping_server_lets_a_push_end_and_nobody_new_in(tmp_path: Path) -> None:
    layer = os.urandom(1 << 20)
    digest = Digest.of(layer)
    with Store.open(tmp_path, WallClock()) as store, process(tmp_path) as serving:
        with connect(serving.host) as busy:
            head = f"Host: x\r\nContent-Length: {len(layer)}\r\nConnection: close\r\n\r\n"
            post = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\n{head}"
            busy.sendall(post.encode() + layer[:1000])
            uploads = tmp_path / "registry" / "uploads"
            until = time.monotonic() + 60
            while not (uploads.is_dir() and list(uploads.iterdir())):
                assert time.monotonic() < until
                time.sleep(0.01)
            serving.process.terminate()
            while True:
                assert time.monotonic() < until
                try:
                    connect(serving.host).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.01)
            busy.sendall(layer[1000:])
            assert b"201 Created" in busy.recv(4096)
        assert serving.process.wait(60) == 0
        assert store.blobs.verify(digest)


def test_several_servers_share_one_store(tmp_path: Path) -> None:
    """Twelve pushes through two processes, while both the images and tags overlap."""
    with Store.open(tmp_path, WallClock()) as store, process(tmp_path) as a, process(tmp_path) as b:

        async def work() -> None:
            async with aiohttp.ClientSession() as session:
                servers = [Served(a.host, store, session), Served(b.host, store, session)]
                await asyncio.gather(
                    *(
                        servers[number % 2].push_image("x", f"v{number % 4}", b"%d" % (number % 3))
                        for number in range(12)
                    )
                )
                for one in servers:
                    tags = (await one.ask("GET", "/v2/x/tags/list")).json["tags"]
                    assert tags == ["v0", "v1", "v2", "v3"]
                    for tag in tags:
                        answer = await one.ask("GET", f"/v2/x/manifests/{tag}")
                        assert Digest.of(answer.body) == answer.headers["Docker-Content-Digest"]

        run(work())


def test_what_is_served_can_be_listed_removed_and_pruned(tmp_path: Path) -> None:
    with Store.open(tmp_path, WallClock()) as store, process(tmp_path) as serving:
        digest = run(pushed_image(serving.host, store, "team/app", "v1", b"layer of v1"))
        assert pybuild(tmp_path, "images").stdout.splitlines()[1:] == []
        listed = pybuild(tmp_path, "registry", "ls", "--format=json")
        [row] = [json.loads(line) for line in listed.stdout.splitlines()]
        assert (row["repository"], row["tag"], row["digest"]) == ("team/app", "v1", digest)
        assert "team/app" in pybuild(tmp_path, "registry", "ls", "team/app").stdout
        before = {blob for blob, _ in store.blobs.list()}
        assert pybuild(tmp_path, "prune", "--force").returncode == 0
        assert {blob for blob, _ in store.blobs.list()} == before
        missing = pybuild(tmp_path, "registry", "rm", "team/app:v2")
        assert (missing.returncode, missing.stderr) == (
            1,
            "error: team/app:v2 is not in the registry\nhint: pybuild registry ls\n",
        )
        removed = pybuild(tmp_path, "registry", "rm", "team/app:v1")
        assert removed.stdout == "Deleted: team/app:v1\n"
        assert pybuild(tmp_path, "prune", "--force").returncode == 0
        left = {store.blobs.read(blob) for blob, _ in store.blobs.list()}
        assert left == {b"{}", b"layer of v1"}, "somebody else may be pushing them"
        assert serving.stop() == 0
        assert pybuild(tmp_path, "prune", "--force").returncode == 0
        assert list(store.blobs.list()) == []


@pytest.mark.parametrize("guarded", [False, True])
def test_a_registry_without_users_is_warned_of_on_loopback_too(
    tmp_path: Path, guarded: bool
) -> None:
    (tmp_path / "users").write_text("")
    flags = ("--htpasswd", str(tmp_path / "users")) if guarded else ()
    with process(tmp_path / "store", *flags) as serving:
        with connect(serving.host) as one:
            one.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(4096)
        assert serving.stop() == 0
        said = serving.said()
    assert (f"anybody who reaches {serving.host} may push and delete" in said) is not guarded
    assert ("every step of a Dockerfile on this machine too" in said) is not guarded


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("serve", "--addr", "here"), 'error: address "here": expected HOST:PORT\n'),
        (("serve", "--addr", "127.0.0.1:99999"), 'error: address "127.0.0.1:99999"'),
        (("serve", "--tlskey", "x"), "error: TLS needs a certificate\n"),
        (("serve", "--tokens"), "error: tokens need users\n"),
        (("sreve",), 'error: unknown command "registry sreve"\n'),
        (("rm", "../x:v1"), 'error: "../x:v1": expected NAME:TAG or NAME@DIGEST\n'),
        (("rm", "x@sha256:1"), "error: "),
        (("ls", "nothing"), 'error: repository "nothing" does not exist\n'),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = pybuild(tmp_path, "registry", *words)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with process(tmp_path) as serving:
        done = pybuild(tmp_path, "registry", "serve", "--addr", serving.host)
        assert done.returncode == 3
        assert done.stderr.startswith(f"error: cannot listen on {serving.host}: ")


def test_the_configuration_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    config = tmp_path / "pybuild.toml"
    config.write_text(
        '[registry-server]\nread-only = true\n[registry-server.limits]\nmanifest = "1KiB"\n'
    )
    root = tmp_path / "store"
    with process(root, "--config", str(config)) as serving, connect(serving.host) as one:
        one.sendall(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 405 " in one.recv(4096)
    for text, message in (
        ("[registry-server]\nreadonly = true\n", 'unknown key "registry-server.readonly"'),
        (
            '[registry-server.keep]\nblobs = "soon"\n',
            '"registry-server.keep.blobs" must be a duration',
        ),
        (
            '[[registry-server.access]]\nusers = ["*"]\nactions = ["write"]\n',
            '"registry-server.access.actions" must be a list of pull, push, delete',
        ),
    ):
        config.write_text(text)
        done = pybuild(root, "registry", "serve", "--config", str(config))
        assert done.returncode == 2
        assert message in done.stderr


def test_an_image_pushed_to_it_is_as_it_was(tmp_path: Path) -> None:
    """The bytes of a manifest do not depend on who serves it."""
    with Store.open(tmp_path, WallClock()) as store, process(tmp_path) as serving:
        digest = run(pushed_image(serving.host, store, "a", "v1", b"layer"))
        assert digest == Digest.of(encoded(image(Digest.of(EMPTY), [Digest.of(b"layer")])))


JUNK = (
    b"\x16\x03\x01 looks like TLS\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /v2/%ff%00%0a%1b[31m/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/_catalog?n=%00&last=%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/a/blobs/uploads/?digest=sha256:" + b"a" * 64 + b" HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 100000\r\n\r\nand no more",
)


def test_what_anybody_sends_is_not_the_logs_affair(tmp_path: Path) -> None:
    with process(tmp_path) as serving:
        for junk in JUNK:
            with connect(serving.host) as one:
                one.sendall(junk)
                if not junk.endswith(b"no more"):
                    status = one.recv(4096).split(b" ")[1]
                    assert status.startswith(b"4") or b"POST" in junk
        with connect(serving.host) as one:
            one.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in one.recv(4096)
        assert serving.stop() == 0
        warning, last = serving.said().splitlines()
        assert warning.startswith("warning: anybody who reaches ")
        assert last == "registry: stopping"
