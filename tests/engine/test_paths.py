"""The places of the store and of the configuration, for root and for everybody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.engine.paths import (
    certificate_directories,
    config_file,
    config_to_write,
    default_root,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PYBUILD_ROOT", "PYBUILD_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_a_store_is_in_the_users_data_and_roots_in_var(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert default_root() == str(tmp_path / ".local/share/pybuild")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_root() == "/data/pybuild"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == "/var/lib/pybuild"


def test_a_configured_store_counts_and_the_environments_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_root("/a/../b") == "/b"
    assert default_root("here") == os.path.abspath("here")
    monkeypatch.setenv("PYBUILD_ROOT", "/env")
    assert default_root("/a") == "/env"
    monkeypatch.setenv("PYBUILD_ROOT", "")
    assert default_root("/a") == "/a"


def test_a_named_configuration_counts_whether_it_is_there_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYBUILD_CONFIG", "env.toml")
    assert config_file("/none.toml") == "/none.toml"
    assert config_file("") == os.path.abspath("env.toml")


def test_a_hint_names_the_file_that_a_setting_takes_effect_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert config_to_write("") == "~/.config/pybuild/pybuild.toml"
    assert config_to_write("/none.toml") == "/none.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert config_to_write("") == "/xdg/pybuild/pybuild.toml"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config_to_write("") == "/etc/pybuild/pybuild.toml"


def test_the_users_own_configuration_counts_where_it_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert config_file("") is None
    for folder in (tmp_path / ".config", tmp_path / "xdg"):
        path = folder / "pybuild/pybuild.toml"
        path.parent.mkdir(parents=True)
        path.touch()
        assert config_file("") == str(path)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
        path.unlink()
        assert config_file("") is None


@pytest.mark.parametrize("is_there", [True, False])
def test_roots_configuration_is_in_etc(monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    path = "/etc/pybuild/pybuild.toml"

    def exists(asked: str) -> bool:
        return is_there and asked == path

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os.path, "exists", exists)
    assert config_file("") == (path if is_there else None)


def test_certificates_of_the_user_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert certificate_directories() == [
        "/etc/docker/certs.d",
        "/etc/containers/certs.d",
        "/xdg/docker/certs.d",
        "/xdg/containers/certs.d",
    ]
