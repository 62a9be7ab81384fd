"""``--ca``: steps trust a network's own authority, and the image knows nothing of it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.registry.servers import Authority

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow, needs("openssl")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


def members(archive: Path) -> list[str]:
    """Return the names in all layers, and the text of all that is no layer."""
    names: list[str] = []
    with tarfile.open(archive) as outer:
        for member in outer:
            file = outer.extractfile(member)
            if file is None or not member.name.startswith("blobs/"):
                continue
            try:
                with tarfile.open(fileobj=file) as layer:
                    names += layer.getnames()
            except tarfile.ReadError:
                file.seek(0)
                names.append(file.read().decode())
    return names


def test_steps_trust_it_and_neither_layer_nor_configuration_nor_key_knows(
    pybuild: Pybuild, base: str, authority: Authority, tmp_path: Path
) -> None:
    text = (
        "FROM base\nENV PIP_CERT=/mine\n"
        "RUN cat $SSL_CERT_FILE | cut -c1-40 && cat $APT_CONFIG $WGETRC && echo pip $PIP_CERT"
        " && ! touch /run/pybuild/ca/x 2>/dev/null && echo made > /f\n"
    )
    context = write(tmp_path / "c", Dockerfile=text)
    archive = tmp_path / "image.tar"
    output = ("-o", f"type=oci,dest={archive},compression=uncompressed")
    words = ("build", "--progress", "plain", *output, context)
    log = pybuild(*words, "--ca", authority.ca).err
    first = authority.ca.read_text().splitlines()[1][:40]
    assert f" {first}\n" in log
    assert ' Acquire::https::CaInfo "/run/pybuild/ca/bundle.pem";\n' in log
    assert " ca_certificate = /run/pybuild/ca/bundle.pem\n" in log
    assert " pip /mine\n" in log
    found = members(archive)
    assert "f" in found
    assert not [text for text in found if text.startswith("run") or "_FILE=" in text]
    again = pybuild(*words).err
    assert "CACHED" in again.rpartition("RUN cat")[2]
    assert "CACHED" in pybuild(*words, "--ca", "none").err.rpartition("RUN cat")[2]


def test_the_configuration_turns_it_on_and_none_off(
    pybuild: Pybuild, base: str, authority: Authority, tmp_path: Path
) -> None:
    config = tmp_path / "pybuild.toml"
    config.write_text(f'[ca]\ntrust = ["{authority.ca}"]\n')
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN echo file ${SSL_CERT_FILE:-no}\n")
    words = ("build", "--no-cache", "--progress", "plain", "--config", config, context)
    assert " file /run/pybuild/ca/bundle.pem\n" in pybuild(*words).err
    assert " file no\n" in pybuild(*words, "--ca", "none").err


def test_a_step_that_fails_for_want_of_it_is_told(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    text = "FROM base\nRUN echo 'curl: (60) SSL: unable to get local issuer certificate'; exit 60\n"
    done = pybuild("build", write(tmp_path / "c", Dockerfile=text), code=1)
    assert "hint: if it is this network's own authority: --ca host" in done.err


def test_a_file_that_is_not_there_is_named_before_the_step_runs(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN echo r''an\n")
    done = pybuild("build", "--progress", "plain", "--ca", tmp_path / "no.pem", context, code=1)
    assert f"certificate authority {tmp_path}/no.pem: no such file" in done.err
    assert " ran\n" not in done.err


def test_a_server_trusts_what_it_was_started_with(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\n")
    done = remote("build", "--ca", "host", context, code=2)
    assert "--ca is about the files of this machine" in done.err
    assert "pybuild daemon --ca host" in done.err


def test_the_steps_of_a_server_trust_what_the_server_was_told(
    there: Pybuild, pybuild: Pybuild, authority: Authority, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN cut -c1-40 $SSL_CERT_FILE\n")
    store = Pybuild(tmp_path / "there", there.config)
    (tmp_path / "s").mkdir()
    with daemon(store, tmp_path / "s", "--ca", str(authority.ca)) as server:
        client = Remote(pybuild.store, host=server.address)
        log = client("build", "--progress", "plain", context).err
        assert server.stop() == 0
    assert f" {authority.ca.read_text().splitlines()[1][:40]}\n" in log
