"""Files that name a cluster: members, certificates beside the file, workers to start here; and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cluster import members
from pybuild.cluster.certificates import Certificates
from pybuild.cluster.clusterfile import read_cluster
from pybuild.cluster.coordinating import ClusterBuilder
from pybuild.commandline import find
from pybuild.commandline.parser import parse
from pybuild.engine.settings import Settings
from pybuild.model.errors import UsageError


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def test_workers_scheduler_and_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "has_engine", lambda: True)
    text = (
        'workers = ["tcp://w1:8373", "unix:///w2.sock"]\n'
        'scheduler = "tcp://s:8786"\n'
        '[tls]\nca = "ca.pem"\ncert = "/etc/c.pem"\nkey = "keys/c.pem"\n'
    )
    read, local = read_cluster(written(tmp_path, text), Settings(root="/store"))
    assert local is None
    assert read.addresses == ("tcp://w1:8373", "unix:///w2.sock")
    assert read.scheduler == "tls://s:8786"
    assert read.certificates == Certificates(
        ca=f"{tmp_path}/ca.pem", cert="/etc/c.pem", key=f"{tmp_path}/keys/c.pem"
    )


def test_without_certificates_a_scheduler_is_spoken_to_in_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "has_engine", lambda: True)
    path = written(tmp_path, 'scheduler = "tcp://[::1]:8786"\n')
    read, _ = read_cluster(path, Settings(root="/store"))
    assert read.scheduler == "tcp://[::1]:8786"
    assert read.certificates == Certificates()


def test_workers_to_start_here(tmp_path: Path) -> None:
    path = written(tmp_path, '[local]\nworkers = 3\nengine = "none"\n')
    read, local = read_cluster(path, Settings(root="/store"))
    assert read.addresses == ()
    assert local is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no workers"),
        ("[local]\nworkers = 0\n", "names no workers"),
        ("worker = []\n", 'unknown key "worker" (did you mean workers?)'),
        ("[tls]\nca-file = 'x'\n", 'unknown key "tls.ca-file"'),
        ("[local]\nlots = 1\n", 'unknown key "local.lots" (did you mean slots?)'),
        (
            'workers = ["w1:8373"]\n',
            "\"workers\" must be a list of unix://PATH and tcp://HOST:PORT, not 'w1:8373'",
        ),
        ('[local]\nworkers = 1\nengine = "ray"\n', '"local.engine" must be one of'),
        ("[local]\nworkers = -1\n", '"local.workers" must be a whole number, not -1'),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_cluster(written(tmp_path, text), Settings(root="/store"))
    assert message in caught.value.message


def test_an_address_of_a_scheduler_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "has_engine", lambda: True)
    path = written(tmp_path, 'scheduler = "s:8786"\n')
    with pytest.raises(UsageError, match='"scheduler" must be tcp://HOST:PORT'):
        read_cluster(path, Settings(root="/store"))


def test_one_build_starts_no_workers(tmp_path: Path) -> None:
    command = find("build")
    assert command is not None
    path = written(tmp_path, '[local]\nworkers = 1\nengine = "none"\n')
    words = ("--root", str(tmp_path / "store"), "--cluster", path, ".")
    with pytest.raises(UsageError, match="not for one build") as caught:
        ClusterBuilder(parse(words, command.options))
    [hint] = caught.value.hints
    assert hint == f"pybuild daemon --cluster {path} starts them for all of its builds"
