"""Hosts, mirrors, proxies: pure decisions [REG-2, REG-8..10, REG-13]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybuild.model.errors import UsageError
from pybuild.net.http1.proxies import proxy_for
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.registry.client.hosts import Endpoint, Hosts, is_loopback


@pytest.mark.parametrize(
    ("host", "table", "schemes"),
    [
        ("docker.io", {}, ("https",)),
        ("localhost:5000", {}, ("https", "http")),
        ("127.9.9.9:5000", {}, ("https", "http")),
        ("[::1]:5000", {}, ("https", "http")),
        ("localhost.example", {}, ("https",)),
        ("127.0.0.1.example:80", {}, ("https",)),
        ("localhost:5000", {"http": False}, ("https",)),
        ("localhost:5000", {"ca": ["/ca.crt"]}, ("https",)),
        ("r.example", {"http": True}, ("http",)),
        ("r.example", {"insecure": True}, ("https", "http")),
    ],
)
def test_plain_http_only_where_allowed(
    host: str, table: dict[str, Any], schemes: tuple[str, ...]
) -> None:
    assert Hosts({host: table}).origin(host).schemes == schemes


def test_docker_hub_lives_elsewhere() -> None:
    origin = Hosts().origin("docker.io")
    assert (origin.registry, origin.netloc) == ("docker.io", "registry-1.docker.io")


def test_mirrors_have_their_own_settings_and_paths() -> None:
    """[REG-8]"""
    hosts = Hosts(
        {
            "docker.io": {"mirrors": ["m.example:5000", "p.example/hub/cache/"]},
            "m.example:5000": {"http": True},
            "p.example": {"ca": "/one.crt", "keypair": [{"key": "k", "cert": "c"}]},
        }
    )
    assert hosts.mirrors("docker.io") == [
        Endpoint("m.example:5000", "m.example:5000", "/v2", ("http",), Tls(), "docker.io"),
        Endpoint(
            "p.example",
            "p.example",
            "/v2/hub/cache",
            ("https",),
            Tls(False, ("/one.crt",), (KeyPair("c", "k"),)),
            "docker.io",
        ),
    ]
    assert hosts.mirrors("ghcr.io") == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mirror": []}, 'registry."x": unknown key "mirror"'),
        ({"http": "yes"}, 'registry."x": http is true or false'),
        ({"ca": [1]}, 'registry."x": ca is a list of texts'),
        ({"keypair": [{"key": "k"}]}, 'registry."x": keypair needs the texts key and cert'),
    ],
)
def test_configuration_errors_name_the_key(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Hosts({"x": table})
    assert caught.value.message == message


def test_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    """[REG-10]"""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "client.cert").touch()
    with pytest.raises(UsageError, match='"client.key" is missing beside it'):
        Hosts(certificate_directories=[str(tmp_path)]).origin("x")


def test_certificates_of_a_host_are_those_of_its_usual_port_too() -> None:
    """A redirect to ``https://s.example/`` is to port 443, which nobody writes into a configuration."""
    hosts = Hosts({"s.example": {"ca": ["/s.pem"]}, "t.example:443": {"ca": ["/t.pem"]}})
    fallback = Tls(ca=("/f.pem",))
    for netloc, ca in (
        ("s.example", "/s.pem"),
        ("s.example:443", "/s.pem"),
        ("s.example:5000", "/f.pem"),
        ("t.example:443", "/t.pem"),
        ("t.example", "/f.pem"),
        ("other.example:443", "/f.pem"),
    ):
        assert hosts.tls_of(netloc, fallback).ca == (ca,), netloc


def test_loopback_is_not_a_matter_of_looks() -> None:
    assert is_loopback("LOCALHOST:1") and is_loopback("a.localhost")
    assert not is_loopback("localhost@evil.example") and not is_loopback("[::2]:1")


@pytest.mark.parametrize(
    ("environ", "host", "proxy"),
    [
        ({}, "r.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "r.example", "http://p:1"),
        ({"https_proxy": "p:1", "HTTPS_PROXY": "q:2"}, "r.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "r.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "other,.example"}, "r.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "example"}, "r.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "ample"}, "r.example", "http://p:1"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "r.example:444"}, "r.example", "http://p:1"),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "r.example:443"}, "r.example", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "10.1.2.3", None),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "r.example", None),
        ({"HTTPS_PROXY": "p:1"}, "127.0.0.1", None),
    ],
)
def test_proxy_is_chosen_as_go_programs_do(
    environ: dict[str, str], host: str, proxy: str | None
) -> None:
    """[REG-13]"""
    chosen = proxy_for("https", host, 443, environ)
    assert (chosen and chosen.url) == proxy
