"""The authorities that steps trust beside their image's own: the files, the variables, the hint."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.executor.authorities import Authorities, certificates, hint, trust_store
from pybuild.model.errors import UserError
from tests.needs import need
from tests.registry.servers import Authority
from tests.webservers import serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    need("openssl")
    return Authority.make(tmp_path_factory.mktemp("authority"))


def written(directory: Path, *files: str | Path) -> Path:
    """Return the directory that steps of these authorities are shown."""
    directory.mkdir(exist_ok=True)
    made = Authorities([str(file) for file in files])
    return Path(asyncio.run(made.mount(str(directory))).source)


def test_the_bundle_has_each_certificate_once_and_no_key(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = tmp_path / "mixed.pem"
    mixed.write_text(
        "# ours\n"
        + authority.key.read_text()
        + authority.ca.read_text()
        + authority.cert.read_text()
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    place = written(tmp_path / "steps", mixed, authority.ca, "host")
    bundle = (place / "bundle.pem").read_text()
    assert "KEY" not in bundle and "ours" not in bundle
    assert certificates(bundle) == [
        ssl.PEM_cert_to_DER_cert(path.read_text()) for path in (authority.ca, authority.cert)
    ]
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == {
        "bundle.pem": 0o644,
        "java.jks": 0o644,
        "apt.conf": 0o644,
        "wgetrc": 0o644,
    }
    assert place.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ([], "JAVA_TOOL_OPTIONS"),
        (["JAVA_TOOL_OPTIONS=-Xmx2g", "A=b"], "JDK_JAVA_OPTIONS"),
        (["JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/mine"], ""),
        (["JAVA_TOOL_OPTIONS=-Xmx2g", "JDK_JAVA_OPTIONS=-Xms1g"], ""),
    ],
)
def test_java_is_shown_its_trust_store_beside_options_of_the_image(
    own: list[str], given: str
) -> None:
    variables = dict(variable.split("=", 1) for variable in Authorities([]).environment(own))
    assert [name for name in variables if name.startswith("J")] == [given][: bool(given)]
    if given:
        assert "-Djavax.net.ssl.trustStore=/run/pybuild/ca/java.jks " in variables[given]


def test_the_files_are_written_once_however_many_steps_ask(
    authority: Authority, tmp_path: Path
) -> None:
    async def ask() -> None:
        made = Authorities([str(authority.ca)])
        first, second = await asyncio.gather(made.mount(str(tmp_path)), made.mount(str(tmp_path)))
        assert first is second and first.readonly and first.target == "/run/pybuild/ca"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "no certificate in it"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "is damaged"),
    ],
)
def test_a_file_without_certificates_is_named(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        written(tmp_path / "steps", path)
    assert str(path) in caught.value.message
    assert caught.value.hints == ("--ca takes host, none, or a PEM file of certificates",)


def test_a_directory_is_no_file_of_certificates(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        written(tmp_path / "steps", tmp_path)


def test_a_bundle_of_another_system_that_is_asked_for_is_named_too(tmp_path: Path) -> None:
    path = "/etc/ssl/ca-bundle.pem"
    if os.path.exists(path):
        pytest.skip("this is such a system")
    with pytest.raises(UserError, match=f"{path}: no such file"):
        written(tmp_path / "steps", path)


def test_a_java_store_is_sealed_over_its_entries() -> None:
    store = trust_store([b"one", b"two!"])
    body, seal = store[:-20], store[-20:]
    assert body[:12] == bytes.fromhex("feedfeed 00000002 00000002")
    entry = b"\0\0\0\x02" + b"\0\x03ca0" + bytes(8) + b"\0\x05X.509" + b"\0\0\0\x03one"
    assert body[12:].startswith(entry)
    assert body.endswith(b"\0\x03ca1" + bytes(8) + b"\0\x05X.509" + b"\0\0\0\x04two!")
    assert seal == sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


@pytest.mark.parametrize(
    "line",
    [
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
        "fatal: unable to access 'https://h/': server certificate verification failed. CAfile: none",
        "npm ERR! code SELF_SIGNED_CERT_IN_CHAIN",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
        "x509: certificate signed by unknown authority",
        "PKIX path building failed: unable to find valid certification path to requested target",
        "invalid peer certificate: UnknownIssuer",
        "Certificate verification failed: The certificate is NOT trusted.",
    ],
)
def test_a_refused_certificate_gets_a_hint(line: str) -> None:
    assert "--ca host" in hint(["before", line, "after"], trusts_more=False)
    assert "--ca FILE" in hint([line], trusts_more=True)


def test_other_failures_get_none() -> None:
    assert hint(["make: *** [all] Error 2", "certificate"], trusts_more=False) == ""


# --- programs that are told of it -----------------------------------------------------------------

_JAVA = """
import java.net.URI;
public class Get {
    public static void main(String[] words) throws Exception {
        System.out.write(URI.create(words[0]).toURL().openStream().readAllBytes());
        System.out.flush();
    }
}
"""
_NODE = "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))"
_PYTHON = (
    "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())"
)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["curl", "git", "node", "openssl", "python3", "java"])
def test_programs_trust_it_by_the_variables(
    authority: Authority, tmp_path: Path, program: str
) -> None:
    """As in a step, but that the files lie elsewhere."""
    need(program)
    (tmp_path / "Get.java").write_text(_JAVA)

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/info/refs"):
            return web.Response(text=f"{'1' * 40}\trefs/heads/main\n")
        if request.path.endswith("/HEAD"):
            return web.Response(text="ref: refs/heads/main\n")
        return web.Response(text="trusted")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority.cert, authority.key)
    place = written(tmp_path / "steps", authority.ca)
    given = Authorities([]).environment([])
    variables = (text.replace("/run/pybuild/ca", str(place)) for text in given)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with serving(application, tls) as url:
        words = {
            "curl": ["curl", "-sS", url],
            "git": ["git", "ls-remote", f"{url}/repository"],
            "node": ["node", "-e", _NODE, url],
            "openssl": ["openssl", "s_client", "-verify_return_error", "-connect", url[8:]],
            "python3": [sys.executable, "-c", _PYTHON, url],
            "java": ["java", str(tmp_path / "Get.java"), url],
        }[program]

        def run(env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                words,
                check=False,
                env=env,
                timeout=300,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )

        trusting = run(environment | dict(text.split("=", 1) for text in variables))
        without = run(environment)
    assert trusting.returncode == 0, trusting.stderr
    assert {"git": b"refs/heads/main", "openssl": b"Verify return code: 0"}.get(
        program, b"trusted"
    ) in (trusting.stdout)
    assert without.returncode != 0
    assert hint((without.stdout + without.stderr).decode().splitlines(), trusts_more=False)
