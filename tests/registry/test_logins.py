"""Logins are kept where docker keeps them, and nothing else is lost [REG-3, REG-4]."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.reference import DOCKER_HUB
from pybuild.registry.client.credentials import Credential, DockerCredentials
from pybuild.registry.client.logins import Logins, parse_host
from tests.registry.conftest import run

ANN = Credential("ann", "p:w")
KEEPER = """\
#!/bin/sh
echo "$1" >> "$HOME/asked"
cat >> "$HOME/asked"
echo >> "$HOME/asked"
[ "$1" != store ] || exit 0
echo "credentials not found in native keychain"
exit 1
"""


def logins(home: Path) -> Logins:
    return Logins({"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}, helper_timeout_s=15)


def test_the_file_keeps_all_else_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    config = tmp_path / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"HttpHeaders": {"a": "b"}, "auths": {"other": {"auth": "x"}}}))
    keeper = logins(tmp_path)
    assert run(keeper.save("r.example:5000", ANN)) == str(config)
    run(keeper.save(DOCKER_HUB, ANN))
    found = json.loads(config.read_text())
    assert found["HttpHeaders"] == {"a": "b"}
    assert list(found["auths"]) == ["other", "r.example:5000", "https://index.docker.io/v1/"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert [path.name for path in config.parent.iterdir()] == ["config.json"]
    reader = DockerCredentials({"HOME": str(tmp_path)})
    assert run(reader.find("r.example:5000")) == ANN
    assert run(reader.find(DOCKER_HUB)) == ANN
    assert run(keeper.forget("r.example:5000"))
    assert not run(keeper.forget("r.example:5000"))
    assert list(json.loads(config.read_text())["auths"]) == ["other", "https://index.docker.io/v1/"]


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / ".docker/config.json").symlink_to("../dotfiles/config.json")
    run(logins(tmp_path).save("r.example", ANN))
    assert (tmp_path / ".docker/config.json").is_symlink()
    assert "r.example" in (tmp_path / "dotfiles/config.json").read_text()


@pytest.mark.parametrize("how", [{"credsStore": "keep"}, {"credHelpers": {"r.example": "keep"}}])
def test_a_helper_is_given_what_it_keeps(tmp_path: Path, how: dict[str, object]) -> None:
    config = tmp_path / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(how))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/docker-credential-keep"
    program.write_text(KEEPER)
    program.chmod(0o755)
    assert run(logins(tmp_path).save("r.example", ANN)) == "docker-credential-keep"
    assert run(logins(tmp_path).forget("r.example"))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "store"
    assert json.loads(asked[1]) == {
        "ServerURL": "r.example",
        "Username": "ann",
        "Secret": "p:w",
    }
    assert asked[2:] == ["erase", "r.example"]
    assert json.loads(config.read_text()) == how, "the password is the helper's alone"


def test_a_helper_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = tmp_path / ".docker/config.json"
    config.parent.mkdir()
    for helper in ("none", "../evil"):
        config.write_text(json.dumps({"credsStore": helper}))
        with pytest.raises(EnvironmentFault, match="not found on PATH") as caught:
            run(logins(tmp_path).save("r.example", ANN))
        assert str(config) in caught.value.hints[0]


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000])
def test_a_broken_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    config = tmp_path / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(UserError, match="is not a JSON object"):
        run(logins(tmp_path).save("r.example", ANN))
    assert config.read_text() == text


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("", DOCKER_HUB),
        ("https://index.docker.io/v1/", DOCKER_HUB),
        ("registry-1.docker.io", DOCKER_HUB),
        ("r.example:5000", "r.example:5000"),
        ("http://localhost/v2/", "localhost"),
    ],
)
def test_a_registry_is_named_as_references_name_it(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["no_host!", "nothost", "r.example:port", "a b"])
def test_what_can_be_no_registry_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f'^invalid registry "{text}"$'):
        parse_host(text)


def test_a_helper_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    config = tmp_path / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credsStore": "keep"}))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/docker-credential-keep"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    environ = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    with pytest.raises(EnvironmentFault) as caught:
        run(Logins(environ, helper_timeout_s=0.01).save("r.example", ANN))
    assert caught.value.message == "docker-credential-keep: no answer within 0.01 s"
