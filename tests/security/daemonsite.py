"""A build server with all its faces, a client who is robbed on it, and all that a thief tries by ids."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from cryptography import x509

from pybuild.buildkit.methods import EXPLAIN_REPORTS as REPORTS
from pybuild.buildkit.pb import content as content_pb
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.model.trust import trusting
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL
from tests.daemon.identities import Authority, Signed, subject
from tests.harness import Pybuild, write
from tests.ports import free_ports

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
CONTENT = "/containerd.services.content.v1.Content/"
BUILD_ID = "buildkit-controlapi-buildid"
PRIVATE = "only the victim's"
SESSION, PARKED, DONE = "victims-session", "victims-parked", "victims-done"


# --- a server with all its faces --------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Where it listens, and who signs its clients' certificates."""

    socket: Path
    tls: str
    first: Authority
    second: Authority

    @asynccontextmanager
    async def by_socket(self) -> AsyncGenerator[Channel]:
        async with connected(f"unix://{self.socket}") as channel:
            yield channel

    @asynccontextmanager
    async def by(self, signed: Signed) -> AsyncGenerator[Channel]:
        context = trusting(str(self.first.file))
        context.load_cert_chain(signed.certificate, signed.key)
        async with connected(self.tls, ssl=context, server_hostname="localhost") as channel:
            yield channel


@asynccontextmanager
async def connected(address: str, **how: object) -> AsyncGenerator[Channel]:
    async with asyncio.timeout(60):
        channel = await Channel.connect(address, **how)  # type: ignore[arg-type]
        try:
            yield channel
        finally:
            await channel.close()


@contextmanager
def running(pybuild: Pybuild, log: Path, *words: str) -> Generator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["timeout", "-k", "5", "1800", *pybuild.command("daemon", *words)],
            env=pybuild.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while log.read_text().count("running server on") < words.count("--addr"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process
        assert process.poll() is None, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    where = tmp_path_factory.mktemp("identities")
    first, second = Authority(where, "first"), Authority(where, "second")
    both = where / "clients.pem"
    both.write_bytes(first.file.read_bytes() + second.file.read_bytes())
    own = first.sign(subject(("CN", "server")), x509.DNSName("localhost"))
    found = Site(where / "d.sock", f"tcp://127.0.0.1:{free_ports()[0]}", first, second)
    words = [
        "--addr",
        f"unix://{found.socket}",
        "--addr",
        found.tls,
        "--tlscert",
        str(own.certificate),
    ]
    words += ["--tlskey", str(own.key), "--tlscacert", str(both)]
    with running(Pybuild(where / "store"), where / "log", *words):
        yield found


# --- the victim -------------------------------------------------------------------------------


@asynccontextmanager
async def victim(channel: Channel, folder: Path) -> AsyncGenerator[str]:
    """Open a session, park a build and finish another; give the digest of its log."""
    text = f"FROM scratch\nCOPY private /\nLABEL secret={PRIVATE!r}\n"
    context = write(folder / "c", Dockerfile=text, private=PRIVATE)
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered, id=SESSION).open(channel):
        request = pb.SolveRequest(Ref=DONE, Session=SESSION, Frontend="dockerfile.v0")
        await channel.unary(CONTROL + "Solve", request.SerializeToString())
        (log,) = [r.logs.digest for r in await history(channel) if r.Ref == DONE]
        parked = pb.SolveRequest(Ref=PARKED, Session=SESSION).SerializeToString()
        building = asyncio.create_task(channel.unary(CONTROL + "Solve", parked))
        try:
            data = await on_parked(channel, "Solve", asked())
            assert gateway.SolveResponse.FromString(data).result.ref.id
            yield log
            assert not building.done(), "nobody else ends it"
        finally:
            end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
            await on_parked(channel, "Return", end)
            await building
            for ref in (DONE, PARKED):
                await update(channel, pb.UpdateBuildHistoryRequest(Ref=ref, Delete=True))


def asked() -> bytes:
    request = gateway.SolveRequest(Frontend="dockerfile.v0", allowResultReturn=True, Evaluate=True)
    request.allowResultArrayRef = True
    return request.SerializeToString()


async def on_parked(channel: Channel, method: str, request: bytes) -> bytes:
    metadata = Metadata({BUILD_ID: PARKED})
    return await channel.unary(BRIDGE + method, request, metadata=metadata)


async def history(channel: Channel, ref: str = "") -> list[pb.BuildHistoryRecord]:
    request = pb.BuildHistoryRequest(EarlyExit=True, Ref=ref).SerializeToString()
    found = await streamed(channel, CONTROL + "ListenBuildHistory", request)
    return [pb.BuildHistoryEvent.FromString(data).record for data in found]


async def update(channel: Channel, request: pb.UpdateBuildHistoryRequest) -> None:
    await channel.unary(CONTROL + "UpdateBuildHistory", request.SerializeToString())


async def streamed(channel: Channel, method: str, request: bytes) -> list[bytes]:
    found: list[bytes] = []
    async with channel.stream(method) as call:
        await call.send(request)
        await call.half_close()
        while (data := await call.receive()) is not None:
            found.append(data)
    return found


# --- the attempts -----------------------------------------------------------------------------


async def solve(channel: Channel, **fields: object) -> bytes:
    request = pb.SolveRequest(Ref=os.urandom(8).hex(), **fields)  # type: ignore[arg-type]
    return await channel.unary(CONTROL + "Solve", request.SerializeToString())


def local(**attrs: str) -> llb.Definition:
    builder = Builder()
    source = llb.SourceOp(identifier="local://context", attrs=attrs)
    return builder.end(builder.add(llb.Op(source=source)))


@asynccontextmanager
async def session_of_own(channel: Channel) -> AsyncGenerator[str]:
    session = ClientSession({})
    async with session.open(channel):
        yield session.id


async def solves_with_its_session(channel: Channel, log: str) -> None:
    await solve(channel, Session=SESSION, Frontend="dockerfile.v0")


async def solves_with_its_session_by_a_prefix(channel: Channel, log: str) -> None:
    await solve(channel, Session=f"local:{SESSION}", Frontend="dockerfile.v0")


async def lets_its_session_decide(channel: Channel, log: str) -> None:
    await solve(channel, SourcePolicySession=SESSION, Frontend="dockerfile.v0")


async def names_its_session_in_a_definition(channel: Channel, log: str) -> None:
    async with session_of_own(channel) as own:
        definition = local(**{"local.session": SESSION})
        exporters = [pb.Exporter(Type="local")]
        await solve(channel, Session=own, Definition=definition, Exporters=exporters)


async def names_its_session_without_one_of_its_own(channel: Channel, log: str) -> None:
    definition = local(**{"local.session": SESSION, "local.sharedkeyhint": "context"})
    await solve(channel, Definition=definition, Exporters=[pb.Exporter(Type="image")])


async def names_its_session_in_an_attribute(channel: Channel, log: str) -> None:
    attrs = {"local-sessionid:context": SESSION, "local-sessionid:dockerfile": SESSION}
    async with session_of_own(channel) as own:
        await solve(channel, Session=own, Frontend="dockerfile.v0", FrontendAttrs=attrs)


async def names_its_session_in_an_input(channel: Channel, log: str) -> None:
    attrs = {"context": "input:context", "dockerfilekey": "input:context"}
    inputs = {"context": local(**{"local.session": SESSION})}
    async with session_of_own(channel) as own:
        await solve(
            channel,
            Session=own,
            Frontend="dockerfile.v0",
            FrontendAttrs=attrs,
            FrontendInputs=inputs,
        )


async def names_its_layout(channel: Channel, log: str) -> None:
    builder = Builder()
    attrs = {"oci.session": SESSION, "oci.store": "s"}
    source = llb.SourceOp(identifier=f"oci-layout://a/b@sha256:{'0' * 64}", attrs=attrs)
    definition = builder.end(builder.add(llb.Op(source=source)))
    await solve(channel, Definition=definition, Exporters=[pb.Exporter(Type="image")])


async def drives_its_build(channel: Channel, log: str) -> None:
    await on_parked(channel, "Solve", asked())


async def ends_its_build(channel: Channel, log: str) -> None:
    end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
    await on_parked(channel, "Return", end)


async def fails_its_build(channel: Channel, log: str) -> None:
    request = gateway.ReturnRequest()
    request.error.code, request.error.message = 2, "no"
    await on_parked(channel, "Return", request.SerializeToString())


async def pings_its_build(channel: Channel, log: str) -> None:
    await on_parked(channel, "Ping", b"")


async def warns_in_its_build(channel: Channel, log: str) -> None:
    await on_parked(channel, "Warn", gateway.WarnRequest(short=b"x").SerializeToString())


async def reads_a_tree_of_its_build(channel: Channel, log: str) -> None:
    request = gateway.ReadFileRequest(Ref="x", FilePath="/private")
    await on_parked(channel, "ReadFile", request.SerializeToString())


async def asks_for_its_inputs(channel: Channel, log: str) -> None:
    await on_parked(channel, "Inputs", b"")


async def follows_its_build(channel: Channel, log: str) -> None:
    request = pb.StatusRequest(Ref=PARKED).SerializeToString()
    await streamed(channel, CONTROL + "Status", request)


async def reads_the_progress_of_its_old_build(channel: Channel, log: str) -> None:
    request = pb.StatusRequest(Ref=DONE).SerializeToString()
    await streamed(channel, CONTROL + "Status", request)


async def reads_its_log_by_digest(channel: Channel, log: str) -> None:
    request = content_pb.ReadContentRequest(digest=log).SerializeToString()
    await streamed(channel, CONTENT + "Read", request)


async def asks_for_its_log_by_digest(channel: Channel, log: str) -> None:
    request = content_pb.InfoRequest(digest=log).SerializeToString()
    await channel.unary(CONTENT + "Info", request)


async def deletes_its_history(channel: Channel, log: str) -> None:
    await update(channel, pb.UpdateBuildHistoryRequest(Ref=DONE, Delete=True))


async def pins_its_history(channel: Channel, log: str) -> None:
    await update(channel, pb.UpdateBuildHistoryRequest(Ref=DONE, Pinned=True))


async def pins_its_running_build(channel: Channel, log: str) -> None:
    await update(channel, pb.UpdateBuildHistoryRequest(Ref=PARKED, Pinned=True))


Attempt = Callable[[Channel, str], Coroutine[Any, Any, None]]
ATTEMPTS: list[Attempt] = [
    solves_with_its_session,
    solves_with_its_session_by_a_prefix,
    lets_its_session_decide,
    names_its_session_in_a_definition,
    names_its_session_without_one_of_its_own,
    names_its_session_in_an_attribute,
    names_its_session_in_an_input,
    names_its_layout,
    drives_its_build,
    ends_its_build,
    fails_its_build,
    pings_its_build,
    warns_in_its_build,
    reads_a_tree_of_its_build,
    asks_for_its_inputs,
    follows_its_build,
    reads_the_progress_of_its_old_build,
    reads_its_log_by_digest,
    asks_for_its_log_by_digest,
    deletes_its_history,
    pins_its_history,
    pins_its_running_build,
]
# What must be said; the rest is NOT_FOUND.
WORDS: dict[Attempt, str] = {
    solves_with_its_session: "no active session for victims-session",
    solves_with_its_session_by_a_prefix: "no active session for victims-session",
    lets_its_session_decide: "no active session for victims-session",
    names_its_session_in_a_definition: "no active session for victims-session",
    names_its_session_without_one_of_its_own: "no active session for victims-session",
    names_its_session_in_an_attribute: "no active session for victims-session",
    names_its_session_in_an_input: "no active session for victims-session",
    names_its_layout: "no session has the OCI layout s",
}


async def refused(attempt: Attempt, thief: Channel, log: str) -> None:
    name = getattr(attempt, "__name__", "")
    try:
        await attempt(thief, log)
    except RpcError as error:
        if attempt in WORDS:
            assert WORDS[attempt] in error.message, (name, error.message)
        else:
            assert error.code is Code.NOT_FOUND, (name, error)
        assert PRIVATE not in error.message
    else:
        raise AssertionError(f"{name}: it came through")


async def sees_nothing(thief: Channel) -> None:
    """Lists that tell of everything there is tell nothing of the victim."""
    for ref in ("", DONE, PARKED):
        found = await history(thief, ref)
        assert [record for record in found if record.Ref in (DONE, PARKED)] == []
    for wanted in (b"{}", b'{"all": true}', b'{"ref": "%s"}' % DONE.encode()):
        for report in await streamed(thief, REPORTS, wanted):
            assert PRIVATE.encode() not in report
    workers = await thief.unary(CONTROL + "ListWorkers", b"")
    assert SESSION.encode() not in workers and PARKED.encode() not in workers


async def rob(robbed: Channel, thief: Channel, folder: Path) -> None:
    async with victim(robbed, folder) as log:
        await asyncio.gather(*[refused(attempt, thief, log) for attempt in ATTEMPTS])
        await sees_nothing(thief)
        assert DONE in [record.Ref for record in await history(robbed)]
        assert (await history(robbed, DONE))[0].pinned is False
