"""How the build server is started and reached: TLS, configuration, the name buildkitd [DMN]."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.model.trust import trusting
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.buildsites import CONTROL
from tests.harness import ROOT, Pybuild, write
from tests.needs import need
from tests.ports import free_ports

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
pytestmark = pytest.mark.slow


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca``, ``server``, ``client`` and ``guest`` of one authority, ``stranger`` of another."""
    need("openssl")
    where = tmp_path_factory.mktemp("tls")
    for authority, names in (("ca", ("server", "client", "guest")), ("other", ("stranger",))):
        _openssl(where, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}",
                 "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
        for name in names:
            _openssl(where, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr")  # fmt: skip
            (where / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            _openssl(where, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                     "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", f"{name}.pem")  # fmt: skip
    return where


def _openssl(where: Path, *words: str) -> None:
    subprocess.run(
        ["openssl", *words],
        cwd=where,
        check=True,
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def running(pybuild: Pybuild, log: Path, *command: str) -> Generator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["timeout", "-k", "5", "1800", *command],
            env=pybuild.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "running server on" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


@contextmanager
def guarded(pybuild: Pybuild, certificates: Path, log: Path) -> Generator[str]:
    """Run a server that wants certificates of its clients, and give its address."""
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    words = ["--addr", address, "--tlscert", str(certificates / "server.pem")]
    words += ["--tlskey", str(certificates / "server.key")]
    words += ["--tlscacert", str(certificates / "ca.pem")]
    with running(pybuild, log, *pybuild.command("daemon", *words)):
        yield address


@asynccontextmanager
async def as_client(address: str, certificates: Path, name: str) -> AsyncGenerator[Channel]:
    """Connect with the certificate *name*, or with none."""
    context = trusting(str(certificates / "ca.pem"))
    if name:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    async with asyncio.timeout(60):
        channel = await Channel.connect(address, ssl=context, server_hostname="localhost")
        try:
            yield channel
        finally:
            await channel.close()


def test_mutual_tls_lets_in_who_is_known(
    pybuild: Pybuild, certificates: Path, tmp_path: Path
) -> None:
    async def version(name: str) -> str:
        async with as_client(address, certificates, name) as channel:
            data = await channel.unary(CONTROL + "Info", b"", timeout=60)
        return pb.InfoResponse.FromString(data).buildkitVersion.version

    with guarded(pybuild, certificates, tmp_path / "log") as address:
        assert asyncio.run(version("client")).startswith("v")
        for name in ("", "stranger"):
            with pytest.raises((RpcError, OSError)):
                asyncio.run(version(name))
        assert asyncio.run(version("client")).startswith("v")


def test_another_certificate_neither_drives_a_build_nor_uses_its_session(
    pybuild: Pybuild, certificates: Path, tmp_path: Path
) -> None:
    """Refs are no secret (the history tells them), and session ids may leak."""
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY . /\n", private="1")
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    asked = gateway.SolveRequest(Frontend="dockerfile.v0", allowResultReturn=True, Evaluate=True)
    asked.allowResultArrayRef = True

    async def run() -> None:
        async with (
            as_client(address, certificates, "client") as own,
            as_client(address, certificates, "guest") as guest,
            ClientSession(offered).open(own) as session,
        ):
            parked = pb.SolveRequest(Ref="parked", Session=session.id).SerializeToString()
            building = asyncio.create_task(own.unary(CONTROL + "Solve", parked))
            meta = Metadata({"buildkit-controlapi-buildid": "parked"})
            solve = BRIDGE + "Solve"
            await own.unary(solve, asked.SerializeToString(), metadata=meta)
            with pytest.raises(RpcError) as caught:
                await guest.unary(solve, asked.SerializeToString(), metadata=meta)
            assert caught.value.code is Code.NOT_FOUND
            stolen = pb.SolveRequest(Ref="x", Session=session.id, Frontend="dockerfile.v0")
            with pytest.raises(RpcError, match="no active session"):
                await guest.unary(CONTROL + "Solve", stolen.SerializeToString())
            end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
            await own.unary(BRIDGE + "Return", end, metadata=meta)
            await building

    with guarded(pybuild, certificates, tmp_path / "log") as address:
        asyncio.run(run())


def test_plain_tcp_must_be_wanted(pybuild: Pybuild) -> None:
    done = pybuild("daemon", "--addr", "tcp://127.0.0.1:1", code=2, timeout=60)
    assert "a TCP address without TLS" in done.err
    assert "--insecure" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--addr", "http://x"], "invalid address http://x"),
        (["--addr", "tcp://127.0.0.1", "--insecure"], "invalid address tcp://127.0.0.1"),
        (["--tlskey", "/k"], "TLS needs a certificate"),
        (["--tlscert", "/nowhere.pem"], "certificate /nowhere.pem: No such file"),
    ],
)
def test_what_it_cannot_listen_on_is_said(pybuild: Pybuild, words: list[str], message: str) -> None:
    assert message in pybuild("daemon", *words, code=2, timeout=60).err


def test_a_socket_whose_path_no_socket_can_have_is_said(pybuild: Pybuild, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/{'x' * 120}"
    done = pybuild("daemon", "--addr", address, code=3, timeout=60)
    assert f"cannot listen on {address}: AF_UNIX path too long" in done.err


@pytest.mark.parametrize("isolated", [False, True])
def test_an_address_without_certificates_is_warned_of(
    pybuild: Pybuild, tmp_path: Path, isolated: bool
) -> None:
    config = tmp_path / "pybuild.toml"
    config.write_text('[network]\nmode = "isolated"\n' if isolated else "")
    tcp, unix = f"tcp://127.0.0.1:{free_ports()[0]}", f"unix://{tmp_path}/s"
    words = ["--config", str(config), "daemon", "--addr", tcp, "--addr", unix, "--insecure"]
    with running(pybuild, tmp_path / "log", *pybuild.command(*words)):
        pass
    lines = (tmp_path / "log").read_text().splitlines()
    (warning,) = [line for line in lines if line.startswith("warning:")]
    assert f"everybody who reaches {tcp} builds here as this user" in warning
    assert ("every step of a Dockerfile on this machine too" in warning) is not isolated


def test_a_socket_is_not_made_where_anybody_could_replace_it(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = pybuild("daemon", "--addr", f"unix://{tmp_path}/open/s", code=2, timeout=60)
    assert "everybody may put another socket in its place" in done.err
    assert f"chmod o-w {tmp_path}/open" in done.err


def test_two_servers_do_not_share_a_socket_and_a_dead_one_leaves_it(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    address = f"unix://{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with running(pybuild, tmp_path / "log", *pybuild.command("daemon", "--addr", address)):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        done = pybuild("daemon", "--addr", address, code=3, timeout=60)
        assert "a server is there" in done.err
    assert not (tmp_path / "s").exists()


def test_started_as_buildkitd_it_takes_its_flags_and_file(pybuild: Pybuild, tmp_path: Path) -> None:
    """[remote-api 10]: as BuildKit's test sandbox starts it."""
    script = tmp_path / "buildkitd"
    script.write_text(
        f"#!{sys.executable} -P\nimport sys\nfrom pybuild.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    config = tmp_path / "buildkitd.toml"
    config.write_text(
        'insecure-entitlements = ["network.host"]\n[otel]\nsocketPath = "/x"\n[cdi]\nspecDirs = ["/y"]\n'
        '[registry."docker.io"]\nmirrors = ["localhost:1"]\n'
    )
    words = ["--oci-worker=true", "--containerd-worker=false", "--oci-worker-gc=false", "--debug"]
    words += ["--oci-worker-labels=org.mobyproject.buildkit.worker.sandbox=true"]
    words += [
        f"--config={config}",
        "--root",
        str(tmp_path / "root"),
        "--addr",
        f"unix://{tmp_path}/s",
    ]

    async def labels() -> dict[str, str]:
        async with asyncio.timeout(60):
            channel = await Channel.connect(f"unix://{tmp_path}/s")
            data = await channel.unary(CONTROL + "ListWorkers", b"", timeout=60)
            await channel.close()
        (record,) = pb.ListWorkersResponse.FromString(data).record
        return dict(record.Labels)

    assert (ROOT / "pybuild").is_dir()
    with running(pybuild, tmp_path / "log", str(script), *words):
        assert asyncio.run(labels())["org.mobyproject.buildkit.worker.sandbox"] == "true"
