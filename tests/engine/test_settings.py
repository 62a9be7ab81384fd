"""The configuration file: what it says, and what it is told when it is wrong."""

from pathlib import Path

import pytest

from pybuild.engine.paths import certificate_directories
from pybuild.engine.settings import Share, load_settings
from pybuild.model.errors import UsageError


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pybuild.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYBUILD_ROOT", raising=False)


def test_registries_limits_and_dns_are_read(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            'root = "/store"\n'
            '[registry."docker.io"]\nmirrors = ["m:5000"]\n'
            '[registry."m:5000"]\nhttp = true\n'
            "[worker.oci]\nmax-parallelism = 3\n"
            '[dns]\nnameservers = ["192.0.2.1"]\n',
        )
    )
    assert settings.root == "/store"
    assert settings.registries["docker.io"]["mirrors"] == ["m:5000"]
    assert settings.registries["m:5000"]["http"] is True
    assert settings.max_parallelism == 3
    assert settings.dns.nameservers == ("192.0.2.1",)


def test_what_clients_share_is_read(tmp_path: Path) -> None:
    text = '[daemon]\nshare = "all"\n[daemon.clients."uid:7"]\nshare = "none"\n'
    daemon = load_settings(write(tmp_path, text)).daemon
    assert (daemon.share, dict(daemon.clients)) == (Share.ALL, {"uid:7": Share.NONE})
    assert load_settings(write(tmp_path, "")).daemon.share is Share.OWN
    with pytest.raises(UsageError, match="one of own, all, none"):
        load_settings(write(tmp_path, '[daemon]\nshare = "some"\n'))


def test_the_flag_wins_over_the_file(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, 'root = "/a"'), root="/b").root == "/b"


def test_the_environment_wins_over_the_file_and_the_flag_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYBUILD_ROOT", "/env")
    path = write(tmp_path, 'root = "/a"')
    assert load_settings(path).root == "/env"
    assert load_settings(path, root="/b").root == "/b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[dns]\nnameservers = ["dns.example"]',
            '"dns.nameservers" must be a list of IP addresses',
        ),
        ('[dns]\noptions = ["a\\nb"]', '"dns.options" must be a list of single words'),
        ('rot = "/x"', 'unknown key "rot" (did you mean root?)'),
        ("root = 7", '"root" must be a string, not 7'),
        ('registry = "x"', "\"registry\" must be a table, not 'x'"),
        ("[worker.oci]\nmax-parallelism = -1", "must be a whole number, not -1"),
        ("root = ", "Invalid value"),
    ],
)
def test_mistakes_name_file_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_settings(path)
    assert message in caught.value.message
    assert path in caught.value.message


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_settings(str(tmp_path / "none.toml"))


def test_certificates_are_looked_for_where_docker_and_podman_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[REG-10]"""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert certificate_directories() == [
        "/etc/docker/certs.d",
        "/etc/containers/certs.d",
        "/home/me/.config/docker/certs.d",
        "/home/me/.config/containers/certs.d",
    ]
