"""TLS with an own authority [REG-9, REG-10]."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.model.errors import UsageError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.needs import need
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image
from tests.registry.servers import Authority
from tests.services import RegistryProcess, ServerTls, start_registry

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryProcess]:
    need("docker-registry")
    tls = ServerTls(authority.cert, authority.key)
    with start_registry(tmp_path_factory.mktemp("secure"), tls=tls) as running:
        yield running


@pytest.mark.parametrize("how", ["ca", "certs.d", "insecure", "insecure-output"])
def test_own_authority_is_trusted_where_configured(
    secure: RegistryProcess,
    authority: Authority,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
    tmp_path: Path,
    how: str,
) -> None:
    hosts = Hosts()
    if how == "ca":
        hosts = Hosts({secure.host: {"ca": [str(authority.ca)]}})
    elif how == "certs.d":
        directory = tmp_path / "certs.d" / secure.host
        directory.mkdir(parents=True)
        shutil.copy(authority.ca, directory / "own.crt")
        hosts = Hosts(certificate_directories=[str(tmp_path / "certs.d")])
    elif how == "insecure":
        hosts = Hosts({secure.host: {"insecure": True}})
    else:
        hosts = hosts.insecure(secure.host)
    image = make_image(blobs, b"layer")
    reference = Reference.parse(f"{secure.host}/tls/{how.replace('.', '')}:1")

    async def work() -> None:
        async with client(hosts) as c:
            await push_image(c, blobs, image, [reference])
            await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)

    run(work())
    assert other_blobs.has(image.digest)


@pytest.mark.slow
def test_a_certificate_of_ours_is_shown_where_one_is_kept_for_the_host(
    authority: Authority, blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    """[REG-10] ``certs.d/<host>``: ``*.crt``, ``*.cert`` and ``*.key``; a server that wants one."""
    settings = RegistrySettings(
        cert=str(authority.cert), key=str(authority.key), ca=str(authority.ca), grace_s=0.2
    )
    image = make_image(blobs, b"layer")

    async def work() -> None:
        with Store.open(tmp_path / "store", WallClock()) as store:
            async with listening(Hosting(store, settings), ["127.0.0.1:0"]) as [host]:
                directory = tmp_path / "certs.d" / host
                directory.mkdir(parents=True)
                shutil.copy(authority.ca, directory / "ca.crt")
                hosts = Hosts(certificate_directories=[str(tmp_path / "certs.d")])
                at = Reference.parse(f"{host}/mutual/app:1")
                async with client(hosts) as c:
                    with pytest.raises(HttpFault) as caught:
                        await push_image(c, blobs, image, [at])
                    hint = f"if {host} wants a certificate of yours, keep it in certs.d"
                    assert caught.value.hints == (hint,)
                shutil.copy(authority.cert, directory / "me.cert")
                shutil.copy(authority.key, directory / "me.key")
                async with client(hosts) as c:
                    await push_image(c, blobs, image, [at])
                    assert (await c.resolve(at)).digest == image.digest

    run(work())


@pytest.mark.slow
def test_a_host_that_is_not_there_is_not_said_to_want_a_certificate() -> None:
    async def work() -> None:
        async with client() as c:
            with pytest.raises(HttpFault) as caught:
                await c.resolve(Reference.parse("pybuild.invalid/a/b:1"))
            assert "no such host" in caught.value.message
            assert caught.value.hints == ()

    run(work())


def test_unknown_authority_is_refused_even_on_loopback(secure: RegistryProcess) -> None:
    """A certificate that does not verify is no reason to go on without one."""

    async def work() -> None:
        async with client() as c:
            with pytest.raises(HttpFault) as caught:
                await c.resolve(Reference.parse(f"{secure.host}/a/b:1"))
            assert "certificate verify failed" in caught.value.message
            assert caught.value.hints == (
                f'trust its authority: ca = ["FILE"] under [registry."{secure.host}"] in pybuild.toml',
            )

    run(work())


def test_certificate_for_another_name_is_refused(
    secure: RegistryProcess, authority: Authority
) -> None:
    host = secure.host.replace("127.0.0.1", "127.0.0.2")

    async def work() -> None:
        async with client(Hosts({host: {"ca": [str(authority.ca)]}})) as c:
            with pytest.raises(HttpFault):
                await c.resolve(Reference.parse(f"{host}/a/b:1"))

    run(work())


@pytest.mark.slow
def test_broken_certificate_file_is_named(secure: RegistryProcess, tmp_path: Path) -> None:
    broken = tmp_path / "broken.crt"
    broken.write_text("not a certificate")

    async def work() -> None:
        for name, words in ((broken, "certificate"), (tmp_path / "none", "No such file")):
            async with client(Hosts({secure.host: {"ca": [str(name)]}})) as c:
                with pytest.raises(UsageError, match=words) as caught:
                    await c.resolve(Reference.parse(f"{secure.host}/a/b:1"))
                assert str(name) in caught.value.message

    run(work())
