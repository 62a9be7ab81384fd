"""``pybuild worker`` and ``cluster up`` before they start anything, and whom a worker trusts."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cluster import commands
from pybuild.cluster.certificates import Certificates, trusts
from pybuild.cluster.process import serve_worker
from pybuild.cluster.roles import LENDERS, Role
from pybuild.cluster.table import COMMANDS
from pybuild.commandline.parser import Parsed, parse
from pybuild.engine.host import native_platform
from pybuild.engine.settings import Settings
from pybuild.executor.runnable import runnable
from pybuild.model.errors import UsageError
from pybuild.net.grpc.peer import Peer, user
from tests.cluster.dask.processes import needs_dask
from tests.harness import Pybuild

OPTIONS = {command.name: command.options for command in COMMANDS}
SLOTS = "invalid --slots: {}: expected a number from 1 on"


def parsed(command: str, *words: str) -> Parsed:
    return parse(words, OPTIONS[command])


@pytest.mark.parametrize(
    ("run", "command", "words", "message", "hints"),
    [
        (
            commands.worker, "worker", (), "a worker needs an address",
            ("give it with --addr unix://PATH",),
        ),
        (commands.worker, "worker", ("--addr", "unix:///a", "--slots", "0"), SLOTS.format("0"), ()),
        (commands.worker, "worker", ("--addr", "unix:///a", "--slots=-1"), SLOTS.format("-1"), ()),
        (
            commands.worker, "worker", ("--addr", "unix:///a", "--platform", "linux/mips"),
            "invalid --platform: this machine runs no programs for linux/mips",
            (f"it runs {', '.join(map(str, runnable(native_platform())))}",),
        ),
        (
            commands.up, "cluster up", (), "a cluster needs workers",
            ("--local 2 starts two here", "--worker or --scheduler names those that run"),
        ),
        (
            commands.up, "cluster up", ("--local", "0"),
            "invalid --local: 0: expected a number from 1 on", (),
        ),
        (commands.up, "cluster up", ("--local", "1", "--slots", "x"), SLOTS.format("x"), ()),
        (commands.up, "cluster up", ("--worker", "tcp://a:1", "--slots", ""), SLOTS.format(""), ()),
        (
            commands.up, "cluster up", ("--local", "1", "--engine", "x"),
            "invalid --engine: x: expected dask or none", (),
        ),
        (
            commands.up, "cluster up", ("--scheduler", "unix:///a"),
            "invalid --scheduler: unix:///a: expected tcp://HOST:PORT", (),
        ),
        (
            commands.worker, "worker", ("--addr", "unix:///a", "--scheduler", "tcp://a"),
            "invalid --scheduler: tcp://a: expected tcp://HOST:PORT", (),
        ),
        (
            commands.scheduler, "cluster scheduler", ("--addr", "tcp://a:70000"),
            "invalid --addr: tcp://a:70000: expected tcp://HOST:PORT", (),
        ),
        (
            commands.scheduler, "cluster scheduler", ("--addr", "tcp://127.a:1"),
            "a scheduler that other machines reach needs certificates",
            ("give --tlscacert, --tlscert and --tlskey",),
        ),
        (
            commands.certs, "cluster certs", (), "a certificate is for somebody",
            ("--coordinator HOST and --worker HOST name the machines, as often as needed",),
        ),
        (commands.certs, "cluster certs", ("--worker", "../a"), 'invalid host "../a"', ()),
        (commands.certs, "cluster certs", ("--worker", ""), 'invalid host ""', ()),
        (
            commands.certs, "cluster certs", ("--worker", "a", "--days", "4000"),
            "invalid --days: 4000: expected 3650 at most", (),
        ),
    ],
)  # fmt: skip
@needs_dask
def test_words_that_make_no_cluster_are_refused(
    run: Callable[[Parsed], int],
    command: str,
    words: tuple[str, ...],
    message: str,
    hints: tuple[str, ...],
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError) as caught:
        run(parsed(command, "--root", str(tmp_path), *words))
    assert (caught.value.message, tuple(caught.value.hints)) == (message, hints)


@pytest.mark.parametrize(
    "certificates", [Certificates(), Certificates(ca="a"), Certificates(cert="a")]
)
def test_without_both_certificates_there_is_no_tls(certificates: Certificates) -> None:
    assert certificates.client() is None
    with pytest.raises(UsageError) as caught:
        certificates.server()
    assert caught.value.message == (
        "workers on TCP need certificates, and give work to nobody without"
    )
    assert tuple(caught.value.hints) == (
        "give --tlscacert, --tlscert and --tlskey, or listen on unix://PATH",
    )


def test_a_worker_on_tcp_needs_certificates(tmp_path: Path) -> None:
    addresses = ["unix:///a", "tcp://127.0.0.1:0"]
    with pytest.raises(UsageError, match="^workers on TCP need certificates"):
        asyncio.run(serve_worker(Settings(root=str(tmp_path)), addresses, 1, Certificates()))


@pytest.mark.slow
def test_a_worker_that_is_to_end_with_its_input_needs_a_pipe(tmp_path: Path) -> None:
    command = Pybuild(tmp_path / "store").command(
        "worker", "--addr", f"unix://{tmp_path}/w", "--until-eof"
    )
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert b"--until-eof is for a standard input that is a pipe" in done.stderr


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    for make in (
        Certificates(ca=missing, cert=missing, key=missing).server,
        Certificates(ca=missing, cert=missing, key=missing).client,
    ):
        with pytest.raises((UsageError, ssl.SSLError), match="missing.pem"):
            make()


WORKER, COORDINATOR = ("worker",), ("coordinator",)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (Peer("unix", owner=user(os.geteuid())), True),
        (Peer("unix", owner=user(0)), True),
        (Peer("unix", owner=user(os.geteuid() + 1)), False),
        (Peer("unix", owner="certificate:a", units=COORDINATOR), False),
        (Peer("tcp", owner="certificate:a", units=COORDINATOR), True),
        (Peer("tcp", owner="certificate:a", units=("x", "coordinator")), True),
        (Peer("tcp", owner="certificate:a", units=WORKER), False),
        (Peer("tcp", owner="certificate:a", units=("coordinators",)), False),
        (Peer("tcp", owner="certificate:a"), False),
        (Peer("tcp", owner="anonymous", units=COORDINATOR), False),
        (Peer("tcp", owner=user(0), units=COORDINATOR), False),
        (Peer("tunnel", owner="certificate:a", units=COORDINATOR), False),
        (Peer(), False),
    ],
)
def test_a_worker_works_for_its_own_user_and_coordinators_of_its_cluster(
    peer: Peer, trusted: bool
) -> None:
    assert trusts(peer, (Role.COORDINATOR,)) is trusted
    lends = trusted or (peer.kind == "tcp" and peer.units == WORKER)
    assert trusts(peer, LENDERS) is lends
    assert not trusts(Peer("tcp", owner="certificate:a", units=(Role.SCHEDULER,)), LENDERS)
