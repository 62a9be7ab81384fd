"""The engine that ``docker`` would use, by its variables, its contexts and its socket [OUT-4]."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pybuild.exporter.docker.address import Address, address_of
from pybuild.model.errors import UsageError

SOCKET = Address("unix:///var/run/docker.sock")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    _context(tmp_path, "far", "tcp://far.example:2376", tls=True)
    _context(tmp_path, "near", "unix:///near.sock")
    _context(tmp_path, "ssh", "ssh://far.example")
    return tmp_path


def _context(home: Path, name: str, host: str, *, tls: bool = False) -> None:
    hashed = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker/contexts/meta" / hashed
    meta.mkdir(parents=True)
    body = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (meta / "meta.json").write_text(json.dumps(body))
    if tls:
        (home / ".docker/contexts/tls" / hashed / "docker").mkdir(parents=True)


def _use(home: Path, text: str) -> None:
    (home / ".docker/config.json").write_text(text)


def _address(home: Path, context: str = "", **environ: str) -> Address:
    return address_of({"HOME": str(home), **environ}, context)


def _far(home: Path) -> Address:
    hashed = hashlib.sha256(b"far").hexdigest()
    return Address("tcp://far.example:2376", f"{home}/.docker/contexts/tls/{hashed}/docker")


def test_a_context_is_given_or_in_the_environment_or_in_use(home: Path) -> None:
    assert _address(home, "far") == _far(home)
    assert _address(home, "near") == Address("unix:///near.sock")
    assert _address(home, DOCKER_CONTEXT="far") == _far(home)
    assert _address(home, "near", DOCKER_CONTEXT="far") == Address("unix:///near.sock")
    _use(home, '{"currentContext": "far"}')
    assert _address(home) == _far(home)
    assert _address(home, "near") == Address("unix:///near.sock")
    elsewhere = {"HOME": "/none", "DOCKER_CONFIG": f"{home}/.docker"}
    assert address_of(elsewhere) == _far(home)


def test_a_host_wins_over_the_context_in_use_and_not_over_one_that_is_named(home: Path) -> None:
    _use(home, '{"currentContext": "far"}')
    host = "tcp://host.example:2375"
    assert _address(home, DOCKER_HOST=host) == Address(host)
    assert _address(home, "near", DOCKER_HOST=host) == Address("unix:///near.sock")
    assert _address(home, DOCKER_HOST=host, DOCKER_CONTEXT="near") == Address("unix:///near.sock")


@pytest.mark.parametrize(
    ("verify", "path", "certificates"),
    [
        ("", "/certs", ""),
        ("0", "/certs", ""),
        ("false", "/certs", ""),
        ("1", "/certs", "/certs"),
        ("yes", "/certs", "/certs"),
        ("1", "", "{home}/.docker"),
    ],
)
def test_certificates_of_a_host(home: Path, verify: str, path: str, certificates: str) -> None:
    host = "tcp://host.example:2376"
    given = _address(home, DOCKER_HOST=host, DOCKER_TLS_VERIFY=verify, DOCKER_CERT_PATH=path)
    assert given == Address(host, certificates.format(home=home))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"currentContext": ""}', '{"currentContext": "default"}']
    + ['{"currentContext": 3}', "[" * 100_000],
)
def test_without_a_context_it_is_the_socket(home: Path, text: str) -> None:
    _use(home, text)
    assert _address(home) == SOCKET
    _use(home, '{"currentContext": "far"}')
    assert _address(home, "default") == SOCKET


@pytest.mark.skipif(os.path.exists("/var/run/docker.sock"), reason="there is a system's socket")
def test_a_socket_of_the_user_stands_for_the_system_s_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _address(tmp_path, XDG_RUNTIME_DIR=str(tmp_path)) == SOCKET
    (tmp_path / "docker.sock").write_bytes(b"")
    rootless = Address(f"unix://{tmp_path}/docker.sock")
    assert _address(tmp_path, XDG_RUNTIME_DIR=str(tmp_path)) == rootless
    assert _address(tmp_path, "default", XDG_RUNTIME_DIR=str(tmp_path)) == rootless
    monkeypatch.chdir(tmp_path)
    assert _address(tmp_path, XDG_RUNTIME_DIR=".") == SOCKET
    assert _address(tmp_path) == SOCKET


def test_an_address_of_another_kind_is_refused(home: Path) -> None:
    for given in ({"DOCKER_HOST": "ssh://far.example"}, {"DOCKER_CONTEXT": "ssh"}):
        with pytest.raises(UsageError, match='^Docker engine "ssh://far.example": expected') as e:
            _address(home, **given)
        assert e.value.hints == ("write an archive instead: -o type=docker,dest=FILE",)
    with pytest.raises(UsageError, match="expected unix:///PATH"):
        _address(home, DOCKER_HOST="unix://relative.sock")


@pytest.mark.parametrize("body", [None, "{", "{}", "[]", '{"Endpoints": {"docker": {}}}'])
def test_a_context_that_is_not_there_or_broken_is_not_found(home: Path, body: str | None) -> None:
    if body is not None:
        hashed = hashlib.sha256(b"mine").hexdigest()
        folder = home / ".docker/contexts/meta" / hashed
        folder.mkdir()
        (folder / "meta.json").write_text(body)
    with pytest.raises(UsageError, match='^docker context "mine" not found$'):
        _address(home, "mine")


def test_nobody_listens_at_a_socket_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "e.sock").write_bytes(b"")
    assert not Address(f"unix://{tmp_path}/e.sock").is_absent
    assert Address(f"unix://{tmp_path}/none.sock").is_absent
    assert not Address("tcp://127.0.0.1:1").is_absent
