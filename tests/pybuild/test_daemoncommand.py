"""The words of ``pybuild daemon`` and of ``buildkitd`` as the settings of a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pybuild.commandline import find
from pybuild.commandline.parser import BadOption, parse
from pybuild.commands import daemon
from pybuild.daemon import process
from pybuild.engine.settings import Settings
from pybuild.model.errors import UsageError
from pybuild.model.package import VERSION

CONFIG = """\
root = "/of-the-file"
insecure-entitlements = ["network.host"]
[worker.oci]
binary = "youki"
[worker.oci.labels]
a = "file"
b = "file"
[grpc.tls]
cert = "file.crt"
key = "file.key"
ca = "file.ca"
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("PYBUILD_ROOT", raising=False)
    path = tmp_path / "pybuild.toml"
    path.write_text(CONFIG)
    empty = tmp_path / "empty.toml"
    empty.touch()
    monkeypatch.setenv("PYBUILD_CONFIG", str(empty))
    return str(path)


Served = list[tuple[Settings, list[str], bool]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """The settings, addresses and laxity that servers were started with."""
    calls: Served = []

    async def serve(
        settings: Settings,
        addresses: Sequence[str],
        *,
        insecure: bool,
        docker: object,
        within: object = None,
    ) -> None:
        calls.append((settings, list(addresses), insecure))

    monkeypatch.setattr(process, "serve", serve)
    return calls


def run(*words: str) -> int:
    command = find("daemon")
    assert command is not None
    return daemon.main(parse(words, command.options))


def test_nothing_said_is_the_files_word(served: Served, config: str) -> None:
    assert run("--config", config) == 0
    ((settings, addresses, insecure),) = served
    made = settings.daemon
    assert (addresses, insecure, settings.root) == ([], False, "/of-the-file")
    assert (made.cert, made.key, made.ca) == ("file.crt", "file.key", "file.ca")
    assert (made.entitlements, made.labels) == (("network.host",), {"a": "file", "b": "file"})
    assert (settings.runtime, settings.cache_max) == ("youki", "")


def test_flags_win_over_the_file(served: Served, config: str) -> None:
    words = ("--addr=unix:///a", "--addr=tcp://b:1", "--insecure", "--runtime=crun")
    more = ("--tlscert=c", "--tlskey=k", "--tlscacert=a", "--root=/r", "--cache-max=1GB")
    assert run("--config", config, *words, *more, "--allow-insecure-entitlement=x") == 0
    ((settings, addresses, insecure),) = served
    made = settings.daemon
    assert (addresses, insecure) == (["unix:///a", "tcp://b:1"], True)
    assert (made.cert, made.key, made.ca) == ("c", "k", "a")
    assert made.entitlements == ("network.host", "x")
    assert (settings.root, settings.runtime, settings.cache_max) == ("/r", "crun", "1GB")


@pytest.mark.parametrize("flag", ["--tlskey=k", "--tlscacert=a"])
def test_tls_needs_a_certificate(served: Served, flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(flag)
    assert caught.value.message == "TLS needs a certificate"
    assert caught.value.hints == ("give it with --tlscert",)
    assert run(flag, "--tlscert=c") == 0
    assert len(served) == 1


def test_buildkitd_is_understood(served: Served, config: str) -> None:
    words = ["--config", config, "--addr", "tcp://b:1", "--debug", "--group", "g", "--rootless"]
    words += ["--oci-worker=true", "--containerd-worker", "--containerd-worker=false"]
    words += ["--oci-worker-labels", "a=flag", "--oci-worker-labels=c=x=y"]
    words += ["--oci-worker-binary", "crun", "--oci-worker-snapshotter", "native"]
    words += ["--oci-worker-net=host", "--oci-cni-config-path", "/x", "--oci-cni-pool-size=3"]
    words += ["--oci-worker-gc", "--root", "/r"]
    assert daemon.buildkitd(words) == 0
    ((settings, addresses, insecure),) = served
    assert (addresses, insecure, settings.root) == (["tcp://b:1"], True, "/r")
    assert settings.daemon.labels == {"a": "flag", "b": "file", "c": "x=y"}
    assert settings.runtime == "crun"


@pytest.mark.parametrize("flag", ["--oci-worker-labels", "--oci-worker-binary", "--oci-worker-net"])
def test_a_flag_about_workers_may_be_the_last_word(served: Served, flag: str) -> None:
    assert daemon.buildkitd(["--addr=tcp://b:1", flag]) == 0
    assert served[0][1] == ["tcp://b:1"]


def test_buildkitd_tells_its_version(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--version", "-v"):
        assert daemon.buildkitd([word]) == 0
        assert capsys.readouterr().out == f"buildkitd pybuild {VERSION}\n"
    assert served == []


def test_words_that_buildkitd_does_not_know(served: Served) -> None:
    with pytest.raises(BadOption, match="unexpected argument x"):
        daemon.buildkitd(["x"])
    with pytest.raises(BadOption, match="unknown flag: --runtime"):
        daemon.buildkitd(["--runtime=crun"])
    with pytest.raises(BadOption, match="unexpected argument value"):
        daemon.buildkitd(["--oci-worker", "value"])  # it takes none
    assert served == []
