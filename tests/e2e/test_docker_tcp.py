"""Docker's API over TCP: mutual TLS with the stock client, and this machine's own addresses [ENG-34, ENG-42]."""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import ssl
import subprocess
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.daemon.buildsites import Daemon, daemon, pybuild_with_base
from tests.daemon.identities import Authority, Signed, subject
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


@dataclass(frozen=True)
class Far:
    """A server on TCP with mutual TLS, and on a loopback port without."""

    pybuild: Pybuild
    authority: Authority
    port: int
    plain: int
    folder: Path

    def docker(self, own: Signed, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the stock client as its manual says."""
        certificates = self.folder / own.certificate.stem
        if not certificates.exists():
            certificates.mkdir()
            for name, path in (("ca", self.authority.file), ("cert", own.certificate)):
                (certificates / f"{name}.pem").write_bytes(path.read_bytes())
            (certificates / "key.pem").write_bytes(own.key.read_bytes())
        return subprocess.run(
            ["docker", *words],
            input=stdin,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "DOCKER_HOST": f"tcp://127.0.0.1:{self.port}",
                "DOCKER_TLS_VERIFY": "1",
                "DOCKER_CERT_PATH": str(certificates),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _port(server: Daemon, begin: str) -> int:
    match = re.search(rf"running Docker's API on {begin}:(\d+)", server.said())
    assert match, server.said()
    return int(match[1])


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Generator[Far]:
    folder = tmp_path_factory.mktemp("far")
    authority = Authority(folder, "authority")
    own = authority.sign(
        subject(("CN", "server")), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    )
    pybuild = pybuild_with_base(tmp_path_factory.mktemp("api"))
    words = ["--tlscacert", str(authority.file), "--tlscert", str(own.certificate)]
    words += ["--tlskey", str(own.key), "--docker-address", "tcp://127.0.0.1:0"]
    plain = ["--docker-address", "tcp://127.0.0.2:0"]
    with (
        daemon(pybuild, tmp_path_factory.mktemp("s"), *words) as secured,
        daemon(pybuild, tmp_path_factory.mktemp("p"), *plain) as open_server,
    ):
        assert "may do all that this user may; see --tlscacert" in open_server.said()
        assert "everybody who reaches" not in secured.said()
        yield Far(
            pybuild,
            authority,
            _port(secured, "tcp://127.0.0.1"),
            _port(open_server, "tcp://127.0.0.2"),
            folder,
        )
        assert secured.stop() == 0 and open_server.stop() == 0
    assert not leftovers(pybuild.store)


@needs("docker")
def test_the_stock_client_runs_containers_over_mutual_tls(far: Far) -> None:
    """Its standard input ends with TLS's own word for it, and the output comes after that."""
    me = far.authority.sign(subject(("CN", "me")))
    run = ("run", "--rm", "-i", "--network", "none", "base:1")
    done = far.docker(me, *run, "sh", "-c", "cat; echo err >&2; exit 7", stdin="words\n" * 50_000)
    assert (done.returncode, done.stderr) == (7, "err\n")
    assert done.stdout == "words\n" * 50_000
    done = far.docker(
        me, "run", "-d", "--name", "one", "--network", "none", "base:1", "sleep", "60"
    )
    assert done.returncode == 0, done.stderr
    done = far.docker(me, "exec", "-i", "one", "cat", stdin="12345")
    assert (done.stdout, done.returncode) == ("12345", 0)
    assert far.docker(me, "rm", "-f", "one").stdout == "one\n"
    wait_until(lambda: not far.pybuild("ps", "-aq").out)


@needs("docker")
def test_a_build_over_tls_makes_an_image_that_runs_there(far: Far, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base:1\nCMD echo built\n")
    me = far.authority.sign(subject(("CN", "builder")))
    done = far.docker(me, "build", "-t", "made:1", str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = far.docker(me, "run", "--rm", "--network", "none", "made:1")
    assert (done.stdout, done.returncode) == ("built\n", 0), done.stderr


def _get(port: int, host: str, context: ssl.SSLContext | None, **headers: str) -> int:
    address = "127.0.0.1" if context else "127.0.0.2"
    connection = (
        http.client.HTTPSConnection(address, port, timeout=60, context=context)
        if context
        else http.client.HTTPConnection(address, port, timeout=60)
    )
    with closing(connection):
        connection.request("GET", "/_ping", headers={"Host": host, **headers})
        return connection.getresponse().status


def test_who_shows_no_valid_certificate_is_not_heard(far: Far, tmp_path: Path) -> None:
    trusted = far.authority.sign(subject(("CN", "me")))
    cases = {
        "none": None,
        "expired": far.authority.sign(subject(("CN", "me")), is_expired=True),
        "another's": Authority(tmp_path, "other").sign(subject(("CN", "me"))),
    }
    for own in (*cases.values(), trusted):
        context = ssl.create_default_context(cafile=far.authority.file)
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        if own is trusted:
            assert _get(far.port, "any.example", context) == 200
            assert _get(far.port, "any.example", context, Origin="https://page.example") == 403
            continue
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _get(far.port, "127.0.0.1", context)


def test_a_page_and_a_name_of_its_own_are_refused_on_loopback(far: Far) -> None:
    assert _get(far.plain, f"127.0.0.2:{far.plain}", None) == 200
    assert _get(far.plain, f"localhost:{far.plain}", None, Origin="http://page.example") == 403
    assert _get(far.plain, f"page.example:{far.plain}", None) == 403


def test_tcp_without_certificates_is_refused_beyond_this_machine(pybuild: Pybuild) -> None:
    failed = pybuild("daemon", "--docker-address", "tcp://0.0.0.0:0", code=2)
    assert "Docker's API on TCP lets everybody who reaches it be this user" in failed.err
    assert "hint: give --tlscacert, --tlscert and --tlskey, or say --insecure" in failed.err
