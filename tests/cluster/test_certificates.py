"""A cluster on TCP: mutual TLS between all of it, roles by certificate, certificates that are over."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pybuild.cluster import commands, wire
from pybuild.cluster.certificates import ORGANIZATION, Certificates, make_certificates, trusts
from pybuild.cluster.dialing import WorkerAddresses, dial
from pybuild.cluster.messages import BUILD, HELLO, LAYER, RUN, Hello, LayerQuery
from pybuild.cluster.process import serve_worker
from pybuild.cluster.roles import Role
from pybuild.cluster.service import WorkerService
from pybuild.cluster.table import COMMANDS
from pybuild.commandline.parser import parse
from pybuild.daemon.sockets import door_of
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.model.errors import UsageError
from pybuild.net.certificates import Authority
from pybuild.net.doorway import listen_tcp
from pybuild.net.grpc.certificate import units, valid_until
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError
from tests.cluster.rig import HERE, Site, build_alone, context, run_site
from tests.executor.sandbox_helpers import skip_unless_possible

LOOPBACK = "127.0.0.1"


def made(directory: Path, role: Role, host: str = LOOPBACK) -> Certificates:
    [(cert, key)] = make_certificates(str(directory), [(role, host)], 1)
    return Certificates(ca=str(directory / "ca.pem"), cert=cert, key=key)


def signed(directory: Path, days: float, unit: str, host: str = LOOPBACK) -> Certificates:
    """Return a certificate of an authority of its own, in which anything may stand."""
    authority = Authority("tests", days)
    directory.mkdir()
    cert, key = authority.of_member(ORGANIZATION, unit, host)
    for name, text in (
        ("ca", Authority("tests", 1, authority.key).certificate),
        ("cert", cert),
        ("key", key),
    ):
        (directory / name).write_text(text)
    names = [str(directory / name) for name in ("ca", "cert", "key")]
    return Certificates(ca=names[0], cert=names[1], key=names[2])


@asynccontextmanager
async def worker(root: Path, certificates: Certificates) -> AsyncGenerator[str]:
    """Have a worker's service listen with a certificate, which may be one that no worker would begin with."""
    from pybuild.net.http1.tlsfiles import KeyPair
    from pybuild.net.tls import server_context

    tls = server_context(
        KeyPair(certificates.cert, certificates.key), certificates.ca, protocols=["h2"]
    )
    async with Engine(Settings(root=str(root))) as engine, asyncio.timeout(60):
        service = WorkerService(engine, 1, WorkerAddresses(None), trusts)
        grpc = GrpcServer(service.handlers())
        [bound] = await listen_tcp(LOOPBACK, 0, 8)
        door = door_of(grpc, bound, tls)
        try:
            yield f"tcp://{LOOPBACK}:{bound.getsockname()[1]}"
        finally:
            door.close()
            await grpc.close(0)
            await door.closed()


async def refusal(channel: Channel, method: str, query: object) -> tuple[Code, str]:
    with pytest.raises(RpcError) as caught:
        await channel.unary(method, wire.write(query))
    return caught.value.code, caught.value.message


def test_a_workers_certificate_may_not_act_as_a_coordinators(tmp_path: Path) -> None:
    async def main() -> None:
        own = made(tmp_path / "certs", Role.WORKER)
        async with worker(tmp_path / "store", own) as address:
            other = await dial(address, own.client())
            for method in (HELLO, BUILD, RUN):
                assert await refusal(other, method, Hello()) == (
                    Code.PERMISSION_DENIED,
                    "this worker works for coordinators; the role of your certificate is: worker",
                )
            query = LayerQuery(
                delta="none", compression="gzip"
            )  # which workers do ask each other for
            assert await refusal(other, LAYER, query) == (Code.NOT_FOUND, "there is no 'none' here")
            coordinator = await dial(address, made(tmp_path / "certs", Role.COORDINATOR).client())
            hello = wire.read(Hello, await coordinator.unary(HELLO, wire.write(Hello())))
            assert hello.slots == 1
            await other.close()
            await coordinator.close()

    asyncio.run(main())


def test_a_coordinators_certificate_may_not_act_as_a_workers(tmp_path: Path) -> None:
    async def main() -> None:
        coordinator = made(tmp_path / "certs", Role.COORDINATOR)
        async with worker(tmp_path / "store", coordinator) as address:
            with pytest.raises(
                OSError, match=r"^its certificate is no worker's; its role is: coordinator$"
            ):
                await dial(address, coordinator.client())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ((-1 / 48, "worker", LOOPBACK), "its certificate: certificate has expired"),
        (
            (1, "worker", "w.example"),
            "its certificate: IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
        ((1, "x", LOOPBACK), "its certificate is no worker's; its role is: x"),
    ],
)  # fmt: skip
def test_a_worker_with_a_certificate_that_is_wrong_is_refused_in_words(
    tmp_path: Path, certificate: tuple[float, str, str], words: str
) -> None:
    async def main() -> None:
        theirs = signed(tmp_path / "theirs", *certificate)
        own = signed(tmp_path / "own", 1, "coordinator")
        async with worker(tmp_path / "store", theirs) as address:
            ours = Certificates(ca=theirs.ca, cert=own.cert, key=own.key)
            with pytest.raises(ConnectionRefusedError) as caught:
                await dial(address, ours.client())
            assert str(caught.value) == words

    asyncio.run(main())


def test_a_client_of_another_authority_gets_no_answer(tmp_path: Path) -> None:
    async def main() -> None:
        own = made(tmp_path / "certs", Role.WORKER)
        stranger = signed(tmp_path / "stranger", 1, "coordinator")
        async with worker(tmp_path / "store", own) as address:
            ours = Certificates(ca=own.ca, cert=stranger.cert, key=stranger.key)
            channel = await dial(address, ours.client())
            with pytest.raises(RpcError) as caught:
                await channel.unary(HELLO, wire.write(Hello()))
            assert caught.value.code is Code.UNAVAILABLE
            await channel.close()
            with pytest.raises(ConnectionRefusedError, match="none were given here"):
                await dial(address, None)

    asyncio.run(main())


def test_nobody_begins_with_a_certificate_that_has_expired(tmp_path: Path) -> None:
    over = signed(tmp_path / "over", -1 / 48, "worker")
    for begin in (over.client, over.server):
        with pytest.raises(UsageError) as caught:
            begin()
        assert caught.value.message.startswith(f"certificate {over.cert} has expired at 20")
        assert tuple(caught.value.hints) == ("make new ones with pybuild cluster certs",)
    settings = Settings(root=str(tmp_path / "store"))
    with pytest.raises(UsageError, match="has expired at"):
        asyncio.run(serve_worker(settings, [f"tcp://{LOOPBACK}:1"], 1, over))


def test_the_command_makes_an_authority_once_and_keys_for_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {command.name: command.options for command in COMMANDS}["cluster certs"]

    def run(*words: str) -> list[str]:
        assert commands.certs(parse(("--output", str(tmp_path / "c"), *words), options)) == 0
        return capsys.readouterr().out.splitlines()

    first = run("--worker", "w1.example", "--coordinator", "::1", "--days", "2")
    names = ["coordinator-__1.pem", "coordinator-__1-key.pem", "worker-w1.example.pem"]
    assert first == [
        f"{tmp_path}/c/{names[0]} {tmp_path}/c/{names[1]}",
        f"{tmp_path}/c/{names[2]} {tmp_path}/c/worker-w1.example-key.pem",
    ]
    authority = (tmp_path / "c" / "ca.pem").read_bytes()
    assert run("--worker", "w2.example") == [
        f"{tmp_path}/c/worker-w2.example.pem {tmp_path}/c/worker-w2.example-key.pem"
    ]
    assert (tmp_path / "c" / "ca.pem").read_bytes() == authority
    for file in (tmp_path / "c").iterdir():
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o600 if file.name.endswith("-key.pem") else 0o644), file
    (tmp_path / "c" / "ca-key.pem").write_text("-----BEGIN X-----\nAAAA\n-----END X-----\n")
    with pytest.raises(UsageError, match="no key of pybuild's own authorities"):
        run("--worker", "w3.example")


def test_a_certificate_states_its_units_and_its_end() -> None:
    import ssl
    import time

    authority = Authority("tests", 30)
    der = ssl.PEM_cert_to_DER_cert(authority.of_member("o", "a unit", "h")[0])
    assert units(der) == ("a unit",)
    assert abs(valid_until(der) - time.time() - 30 * 86_400) < 3600
    assert units(ssl.PEM_cert_to_DER_cert(authority.certificate)) == ()
    with pytest.raises(ValueError, match="cut off"):
        units(der[:-1])


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_build_over_tcp_is_that_of_one_machine(tmp_path: Path) -> None:
    """The second stage's step wants what the first's worker made: so workers ask each other, too."""
    skip_unless_possible()
    path = context(
        tmp_path / "ctx",
        "FROM base AS one\nRUN --mount=type=cache,target=/c echo one > /one && sleep 1\n"
        "FROM base AS two\nRUN echo two > /two && sleep 1\n"
        "FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\nRUN cat /one /two > /all\n",
    )
    tls = {name: made(tmp_path / "certs", Role.WORKER) for name in ("a", "b")}
    tls[HERE] = made(tmp_path / "certs", Role.COORDINATOR)

    async def work(site: Site) -> None:
        assert site.cluster.fleet.reasons == {}
        result = await site.build(path)
        alone = await build_alone(tmp_path / "alone", path)
        assert result.image is not None
        assert result.image == alone.image
        assert all(os.listdir(w.root / "snapshots") for w in site.workers.values())

    run_site(tmp_path / "store", {"a": 1, "b": 1}, work, tls)
