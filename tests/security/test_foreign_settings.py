"""Files that say which programs are run and where secrets go: not believed where others wrote them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cache.disk.ownership import warning_of_key
from pybuild.client.builders import Builders
from pybuild.engine.settings import load_settings
from pybuild.exporter.docker.address import address_of
from pybuild.model.errors import UsageError
from pybuild.registry.client.credentials import DockerCredentials
from tests.harness import Pybuild, write
from tests.security.planting import STRANGER

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of somebody else"),
]


def _given_away(path: Path) -> Path:
    os.chown(path, STRANGER, STRANGER)
    return path


def _open(path: Path) -> Path:
    path.chmod(0o666)
    return path


def _of_a_group(path: Path) -> Path:
    os.chown(path, 0, STRANGER)
    path.chmod(0o664)
    return path


def _by_a_strangers_link(path: Path) -> Path:
    link = path.with_name("link.toml")
    link.symlink_to(path)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    return link


def _in_a_strangers_directory(path: Path) -> Path:
    os.chown(path.parent, STRANGER, STRANGER)
    return path


def _in_an_open_directory(path: Path) -> Path:
    path.parent.chmod(0o777)
    return path


WAYS: tuple[Callable[[Path], Path], ...] = (
    *(_given_away, _open, _of_a_group, _by_a_strangers_link, _in_a_strangers_directory),
    _in_an_open_directory,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    made = folder / "pybuild.toml"
    made.write_text(f'root = "{tmp_path}/planted"\n[worker.oci]\nbinary = "{tmp_path}/evil"\n')
    made.chmod(0o644)
    return made


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_configuration_of_others_is_refused(config: Path, way: Callable[[Path], Path]) -> None:
    path = way(config)
    with pytest.raises(UsageError) as caught:
        load_settings(str(path))
    assert caught.value.message.startswith(
        f"configuration file {path} may be somebody else's word: "
    )
    assert caught.value.hints == ("chown and chmod it, or name another with --config",)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o444])
def test_a_usual_configuration_is_read(config: Path, tmp_path: Path, mode: int) -> None:
    config.chmod(mode)
    link = config.with_name("link.toml")
    link.symlink_to(config.name)
    for path in (config, link):
        assert load_settings(str(path)).root == f"{tmp_path}/planted"


def test_who_called_sudo_may_own_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _given_away(config)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert load_settings(str(config)).root


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_fully_cached_build_believes_none_either(
    config: Path, tmp_path: Path, way: Callable[[Path], Path]
) -> None:
    config.write_text("")
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    Pybuild(tmp_path / "store", config)("build", context)
    pybuild = Pybuild(tmp_path / "store", way(config))
    said = pybuild("build", context, code=2).err
    assert "may be somebody else's word" in said
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("way", [_open, _of_a_group], ids=lambda way: way.__name__)
def test_logins_that_others_can_change_are_not_used(
    tmp_path: Path, way: Callable[[Path], Path]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"r.example": {"auth": "ZXZlOmV2ZQ=="}}}))
    path.chmod(0o600)
    given = DockerCredentials({"DOCKER_CONFIG": str(tmp_path)})
    assert asyncio.run(given.find("r.example")) is not None
    way(path)
    given = DockerCredentials({"DOCKER_CONFIG": str(tmp_path)})
    assert asyncio.run(given.find("r.example")) is None
    assert given.problems == (f"{path}: not read, as other users can change it",)


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)]
)
def test_a_key_that_everybody_can_read_is_named(tmp_path: Path, mode: int, warns: bool) -> None:
    key = tmp_path / "key.pem"
    key.write_text("x")
    key.chmod(mode)
    assert bool(warning_of_key(str(key))) is warns
    assert not warning_of_key(str(tmp_path / "none"))


# --- who gets what is built, and what it is built from ---------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_no_build_is_sent_to_a_server_that_somebody_else_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], Path]
) -> None:
    made = tmp_path / "pybuild/builders.json"
    made.parent.mkdir()
    content = {"use": "evil", "builders": {"evil": {"address": "tcp://192.0.2.1:1"}}}
    made.write_text(json.dumps(content))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Builders.load().in_use == "evil"
    way(made)
    if (link := made.with_name("link.toml")).is_symlink():
        made.rename(made.with_name("real"))
        os.unlink(link)
        made.symlink_to("real")
        os.chown(made, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(UsageError, match="is not used") as caught:
        Builders.load()
    assert caught.value.hints


@pytest.mark.parametrize("what", ["config.json", "contexts/meta/{}/meta.json"])
def test_no_image_is_loaded_into_an_engine_that_somebody_else_chose(
    tmp_path: Path, what: str
) -> None:
    hashed = hashlib.sha256(b"evil").hexdigest()
    config = tmp_path / "config.json"
    config.write_text('{"currentContext": "evil"}')
    meta = tmp_path / f"contexts/meta/{hashed}/meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text('{"Endpoints": {"docker": {"Host": "unix:///evil.sock"}}}')
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert address_of(environ).url == "unix:///evil.sock"
    _open(tmp_path / what.format(hashed))
    try:
        assert "evil" not in address_of(environ).url
    except UsageError as error:
        assert "is not used" in error.message
