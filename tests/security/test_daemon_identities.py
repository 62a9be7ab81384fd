"""Clients of a build server get nothing by the ids of another, whoever the two are."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography import x509

from pybuild.buildkit.methods import EXPLAIN_REPORTS as REPORTS
from pybuild.buildkit.pb import control as pb
from pybuild.client.filesend import ToDirectory, file_send
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.buildsites import CONTROL
from tests.daemon.identities import Signed, subject
from tests.harness import Pybuild, write
from tests.net.test_grpc_identity import NOBODY, STRANGERS
from tests.ports import free_ports
from tests.security.daemonsite import (
    CONTENT,
    DONE,
    PARKED,
    PRIVATE,
    SESSION,
    Site,
    connected,
    drives_its_build,
    history,
    names_its_session_in_an_attribute,
    reads_its_log_by_digest,
    reads_the_progress_of_its_old_build,
    rob,
    running,
    session_of_own,
    site,
    solve,
    solves_with_its_session,
    streamed,
    update,
    victim,
)

__all__ = ["site"]
pytestmark = pytest.mark.slow


def sign(site: Site, case: str) -> tuple[Signed, Signed]:
    (one, its), (other, others) = STRANGERS[case]
    return site.first.sign(one, *its), site.first.sign(other, *others)


@pytest.mark.parametrize("case", ["no-common-name", "no-subject", "organisation", "unknown-kind"])
def test_two_certificates_that_differ_in_a_name_are_strangers(
    site: Site, case: str, tmp_path: Path
) -> None:
    mine, theirs = sign(site, case)

    async def run() -> None:
        async with site.by(mine) as robbed, site.by(theirs) as thief:
            await rob(robbed, thief, tmp_path)

    asyncio.run(run())


def test_equal_names_of_two_authorities_are_strangers(site: Site, tmp_path: Path) -> None:
    name = subject(("CN", "ann"))
    mine, theirs = site.first.sign(name), site.second.sign(name)

    async def run() -> None:
        async with site.by(mine) as robbed, site.by(theirs) as thief:
            await rob(robbed, thief, tmp_path)

    asyncio.run(run())


@pytest.mark.parametrize("claim", [f"uid:{os.geteuid()}", "anonymous"])
def test_no_certificate_is_the_socket_s_user(site: Site, claim: str, tmp_path: Path) -> None:
    """Nor the other way round."""
    signed = site.first.sign(subject(("CN", claim)), x509.UniformResourceIdentifier(claim))

    async def run() -> None:
        async with site.by_socket() as robbed, site.by(signed) as thief:
            await rob(robbed, thief, tmp_path)
            await rob(thief, robbed, tmp_path / "back")

    asyncio.run(run())


def test_the_owner_itself_comes_back_by_another_connection_and_certificate(
    site: Site, tmp_path: Path
) -> None:
    """The owner gets all that others are refused, so those requests were well made."""
    name = subject(("O", "a"))
    old, new = site.first.sign(name), site.first.sign(name)

    async def run() -> None:
        async with (
            site.by(old) as first,
            site.by(new) as second,
            victim(first, tmp_path) as log,
        ):
            assert await history(second, DONE) and await history(second, PARKED)
            await reads_the_progress_of_its_old_build(second, log)
            await reads_its_log_by_digest(second, log)
            await drives_its_build(second, log)
            await solves_with_its_session(second, log)
            await names_its_session_in_an_attribute(second, log)
            reports = await streamed(second, REPORTS, b'{"all": true}')
            assert any(b"COPY private" in report for report in reports)

    asyncio.run(run())


def test_ids_of_a_stranger_are_free_to_use_and_shadow_nothing(site: Site, tmp_path: Path) -> None:
    mine, theirs = sign(site, "no-common-name")
    fake = write(tmp_path / "fake", Dockerfile="FROM scratch\nCOPY private /\n", private="fake")
    out = tmp_path / "out"

    async def run() -> None:
        offered = file_sync({"context": str(fake), "dockerfile": str(fake)})
        attrs = {"local-sessionid:context": SESSION, "local-sessionid:dockerfile": SESSION}
        receiving = ClientSession(file_send({0: ToDirectory(str(out))}), id="victims-other")
        async with (
            site.by(theirs) as thief,
            site.by(mine) as robbed,
            ClientSession(offered, id=SESSION).open(thief),
            victim(robbed, tmp_path),
            receiving.open(robbed),
        ):
            await solve(thief, Session=SESSION, Frontend="dockerfile.v0")
            for ref in (PARKED, DONE):
                request = pb.SolveRequest(Ref=ref, Session=SESSION, Frontend="dockerfile.v0")
                await thief.unary(CONTROL + "Solve", request.SerializeToString())
            await update(thief, pb.UpdateBuildHistoryRequest(Ref=DONE, Delete=True))
            assert await history(robbed, DONE)
            await solve(
                robbed,
                Session="victims-other",
                Frontend="dockerfile.v0",
                FrontendAttrs=attrs,
                Exporters=[pb.Exporter(Type="local")],
            )

    asyncio.run(run())
    assert (out / "private").read_text() == PRIVATE


def test_who_listens_hears_of_no_stranger_s_builds(site: Site, tmp_path: Path) -> None:
    mine, theirs = sign(site, "organisation")

    async def run() -> None:
        async with (
            site.by(mine) as robbed,
            site.by(theirs) as thief,
            session_of_own(thief) as own,
            thief.stream(CONTROL + "ListenBuildHistory") as listening,
        ):
            await listening.send(pb.BuildHistoryRequest().SerializeToString())
            await listening.half_close()
            async with victim(robbed, tmp_path):
                pass
            request = pb.SolveRequest(Ref="thiefs", Session=own, Frontend="nothing")
            with pytest.raises(RpcError):
                await thief.unary(CONTROL + "Solve", request.SerializeToString())
            heard: list[str] = []
            while "thiefs" not in heard:
                data = await listening.receive()
                assert data is not None
                heard.append(pb.BuildHistoryEvent.FromString(data).record.Ref)
            assert not {DONE, PARKED} & set(heard)

    asyncio.run(run())


@pytest.mark.parametrize("case", NOBODY)
def test_a_certificate_that_names_nobody_may_call_nothing(site: Site, case: str) -> None:
    name, others = NOBODY[case]
    signed = site.first.sign(name, *others)

    async def run() -> None:
        async with site.by(signed) as channel:
            calls = [
                CONTROL + "Info",
                CONTROL + "Solve",
                CONTENT + "Info",
                "/grpc.health.v1.Health/Check",
            ]
            for method in calls:
                with pytest.raises(RpcError, match="neither a subject nor") as caught:
                    await channel.unary(method, b"")
                assert caught.value.code is Code.UNAUTHENTICATED

    asyncio.run(run())


def test_plain_tcp_is_one_owner_and_not_the_socket_s(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    words = ["--addr", f"unix://{tmp_path}/s", "--addr", address, "--insecure"]

    async def run() -> None:
        connect = partial(connected, address)
        async with connected(f"unix://{tmp_path}/s") as own, connect() as any, connect() as other:
            await rob(own, any, tmp_path / "a")
            await rob(any, own, tmp_path / "b")
            async with victim(any, tmp_path / "c") as log:
                await reads_its_log_by_digest(other, log)

    with running(Pybuild(tmp_path / "store"), tmp_path / "log", *words):
        asyncio.run(run())


def test_history_stays_its_owner_s_when_the_server_starts_again(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    words = ["--addr", f"unix://{tmp_path}/s", "--addr", address, "--insecure"]
    store = Pybuild(tmp_path / "store")

    async def build() -> None:
        async with connected(address) as any:
            with pytest.raises(RpcError):
                await any.unary(
                    CONTROL + "Solve", pb.SolveRequest(Ref="r", Frontend="x").SerializeToString()
                )

    async def look() -> None:
        async with connected(f"unix://{tmp_path}/s") as own, connected(address) as any:
            assert [record.Ref for record in await history(any)] == ["r"]
            assert await history(own) == []

    with running(store, tmp_path / "log", *words):
        asyncio.run(build())
    with running(store, tmp_path / "log", *words):
        asyncio.run(look())
