"""Every key of the configuration file reaches the setting that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.cache.content.cachemounts import MountLimit
from pybuild.cache.store import Store
from pybuild.engine.limits import ceiling_of, policies
from pybuild.engine.settings import (
    Daemon,
    Devices,
    Dns,
    Settings,
    Share,
    StoreLimits,
    load_settings,
)
from pybuild.model.errors import UsageError
from tests.clocks import FakeClock

EVERYTHING = """
root = "/store"
durable = true
insecure-entitlements = ["network.host"]
provenanceEnvDir = "/facts"
debug = true

[registry."docker.io"]
mirrors = ["m:5000"]

[worker.oci]
max-parallelism = 3
gc = false
reservedSpace = 1000
maxUsedSpace = "60%"
minFreeSpace = "2GB"
binary = "crun"
rootless = true
labels = { rack = "7" }

[cache]
max = "20GB"
[cache.mounts."go-build"]
max = "2kB"
max-age = "2h"
[cache.mounts."*"]

[grpc]
address = ["tcp://h:1"]
[grpc.tls]
cert = "c"
key = "k"
ca = "a"

[dns]
nameservers = ["192.0.2.1"]
options = ["edns0"]
searchDomains = ["example.com"]

[network]
mode = "isolated"

[cdi]
specDirs = ["/cdi"]
autoAllowed = ["v/d"]

[ca]
trust = ["host", "/net.pem"]

[daemon]
share = "none"
[daemon.clients."uid:7"]
share = "all"
[daemon.clients."uid:8"]

[registry-server]
listen = "x"
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYBUILD_ROOT", raising=False)


def load(tmp_path: Path, text: str, **flags: str) -> Settings:
    path = tmp_path / "pybuild.toml"
    path.write_text(text)
    return load_settings(str(path), **flags)


def test_every_key_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, EVERYTHING)
    assert (found.root, found.durable, found.runtime) == ("/store", True, "crun")
    assert (found.max_parallelism, found.network) == (3, "isolated")
    assert found.registries == {"docker.io": {"mirrors": ["m:5000"]}}
    assert found.limits == StoreLimits(
        enabled=False, reserved_space="1000", max_used_space="60%", min_free_space="2GB"
    )
    assert found.ca == ("host", "/net.pem")
    assert found.cache_max == "20GB"
    assert found.mounts == {
        "go-build": MountLimit(max_bytes=2000, max_age_s=7200.0),
        "*": MountLimit(),
    }
    assert found.dns == Dns(
        nameservers=("192.0.2.1",), options=("edns0",), search_domains=("example.com",)
    )
    assert found.devices == Devices(directories=("/cdi",), allowed=("v/d",))
    assert found.devices.granted(frozenset(("x",))) == {"x", "device=v/d=*"}
    assert found.daemon == Daemon(
        addresses=("tcp://h:1",),
        cert="c",
        key="k",
        ca="a",
        entitlements=("network.host", "device"),
        labels={"rack": "7"},
        provenance_dir="/facts",
        share=Share.NONE,
        clients={"uid:7": Share.ALL, "uid:8": Share.OWN},
    )
    assert found.registry_server.as_dict() == {"listen": "x"}


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    found = load(tmp_path, "", root="/r")
    assert (found.root, found.durable, found.runtime, found.cache_max) == ("/r", False, "", "")
    assert (found.max_parallelism, found.network) == (0, "auto")
    assert (found.limits, found.dns, found.daemon) == (StoreLimits(), Dns(), Daemon())
    assert (found.registries, found.mounts) == ({}, {})
    assert found.registry_server.keys_any() == []


def test_settings_of_nobody_say_nothing() -> None:
    found = Settings(root="/r")
    assert (found.durable, found.network, found.limits.enabled) == (False, "auto", True)
    assert (found.max_parallelism, found.runtime, found.cache_max) == (0, "", "")
    assert (found.daemon.share, found.daemon.addresses) == (Share.OWN, ())


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, EVERYTHING, runtime="runc", cache_max="1GB")
    assert (found.runtime, found.cache_max) == ("runc", "1GB")
    with pytest.raises(UsageError, match='invalid size "much"'):
        load(tmp_path, "", cache_max="much")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[worker]\nrunc = {}", '"worker.runc"'),
        ("[worker.oci]\nmax = 1", '"worker.oci.max"'),
        ("[grpc]\nport = 1", '"grpc.port"'),
        ("[grpc.tls]\nsecret = 1", '"grpc.tls.secret"'),
        ("[daemon]\nx = 1", '"daemon.x"'),
        ('[daemon.clients."a"]\nx = 1', '"daemon.clients.a.x"'),
        ("[dns]\nx = 1", '"dns.x"'),
        ("[network]\nx = 1", '"network.x"'),
        ("[cache]\nx = 1", '"cache.x"'),
        ('[cache.mounts."a"]\nx = 1', '"cache.mounts.a.x"'),
        ('[cache.mounts."a"]\nmax = "5%"', "must be a size such as 10GB, not '5%'"),
        ('[network]\nmode = "none"', '"network.mode" must be one of auto, host, isolated'),
    ],
)
def test_a_mistake_is_found_in_every_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert message in caught.value.message


@pytest.mark.parametrize("mode", ["auto", "host", "isolated"])
def test_a_network_is_as_it_is_written(tmp_path: Path, mode: str) -> None:
    assert load(tmp_path, f'[network]\nmode = "{mode}"').network == mode


def test_other_keys_of_buildkits_file_are_passed_over(tmp_path: Path) -> None:
    known: Mapping[str, str] = {
        "": "trace = true",
        "log": 'format = "json"',
        "worker.oci": 'enabled = true\ncniConfigPath = "x"',
        "worker.containerd": "enabled = false",
        "grpc": "uid = 0",
    }
    text = "\n".join(f"[{name}]\n{body}" if name else body for name, body in known.items())
    assert load(tmp_path, text, root="/r") is not None


def test_a_share_of_the_disk_is_counted_of_all_of_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", FakeClock()) as store:
        whole = ceiling_of(store, Settings(root="/", cache_max="100%"))
        assert whole > 0
        assert ceiling_of(store, Settings(root="/", cache_max="50%")) == whole // 2
        assert ceiling_of(store, Settings(root="/", cache_max="3kB")) == 3000
        assert ceiling_of(store, Settings(root="/")) == 0
        (policy,) = policies(store, StoreLimits(min_free_space="100%"))
        assert (policy.reserved_space, policy.max_used_space) == (0, None)
        assert policy.min_free_space == whole
        assert len(policies(store, StoreLimits(reserved_space="1kB"))) == 1
        assert len(policies(store, StoreLimits())) > 1


def test_authorities_of_the_command_line_win_and_none_lets_go_of_them(tmp_path: Path) -> None:
    path = tmp_path / "pybuild.toml"
    path.write_text('[ca]\ntrust = ["host"]\n')
    here = f"{Path.cwd()}/a.pem"
    for given, expected in (
        ((), ("host",)),
        (("a.pem",), (here,)),
        (("none",), ()),
        (("a.pem", "none", "host"), ("host",)),
    ):
        assert load_settings(str(path), ca=given).ca == expected
    with pytest.raises(UsageError, match="an authority is a file or host"):
        load_settings(str(path), ca=[""])


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ('[worker.oci]\nnetworkMode = "host"', "host"),
        ('[worker.oci]\nnetworkMode = "bridge"', "auto"),
        ('[worker.oci]\nnetworkMode = "host"\n[network]\nmode = "auto"', "auto"),
    ],
)
def test_the_host_s_network_of_buildkits_file_is_that_of_steps(
    tmp_path: Path, text: str, network: str
) -> None:
    assert load(tmp_path, text).network == network


def test_a_proxy_of_all_steps_is_as_buildkits_file_has_it(tmp_path: Path) -> None:
    assert load(tmp_path, "proxyNetwork = true").daemon.proxy_network
    with pytest.raises(UsageError, match="true or false"):
        load(tmp_path, 'proxyNetwork = "x"')
