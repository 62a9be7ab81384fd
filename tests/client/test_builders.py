"""Named build servers: the file that keeps them, and which one a command is for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.client.builders import BuilderRecord, Builders, chosen, records_file
from pybuild.commandline.parser import REMOTE, Parsed, parse
from pybuild.model.errors import UsageError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PYBUILD_HOST", "BUILDX_BUILDER", "BUILDKIT_HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config"


def parsed(**values: str) -> Parsed:
    made = Parsed()
    made.values = {name: [value] for name, value in values.items()}
    return made


def run(*words: str) -> int:
    return main(["builder", *words])


def test_builders_are_kept_used_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(parsed()) is None
    assert run("add", "one", "unix:///run/one.sock") == 0
    assert run("add", "--use", "two", "tcp://two:1234", "--tlsservername", "t") == 0
    found = chosen(parsed())
    assert found is not None and (found.name, found.server_name) == ("two", "t")
    assert run("use", "one") == 0
    found = chosen(parsed())
    assert found is not None and found.address == "unix:///run/one.sock"
    assert run("ls") == 0
    assert "one *   unix:///run/one.sock" in capsys.readouterr().out
    assert run("rm", "one") == 0
    assert chosen(parsed()) is None
    assert list(Builders.load().known) == ["two"]
    assert run("use", "two") == run("use", "local") == 0
    assert chosen(parsed()) is None


def test_the_command_line_wins_over_the_environment_over_the_builder_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        run("add", name, f"tcp://{name}:1")
    run("use", "a")
    monkeypatch.setenv("PYBUILD_HOST", "b")

    def address(**values: str) -> str:
        found = chosen(parsed(**values))
        return found.address if found else ""

    assert address() == "tcp://b:1"
    assert address(host="tcp://c:1") == "tcp://c:1"
    assert address(host="a") == "tcp://a:1"
    assert address(host="local") == ""
    # A cluster's file is coordinated here, whatever server is in use; its server is one like others.
    assert address(cluster="cluster.toml") == ""
    assert address(cluster="tcp://d:1") == "tcp://d:1"
    with pytest.raises(UsageError, match="--cluster and --host name two builders"):
        address(cluster="cluster.toml", host="a")
    monkeypatch.setenv("PYBUILD_HOST", "local")
    assert address() == ""


def test_files_of_the_command_line_replace_those_of_the_record() -> None:
    Builders.load().save()
    builders = Builders.load()
    builders.known["a"] = BuilderRecord("a", "tcp://a:1", ca="/ca", cert="/cert")
    builders.save()
    found = chosen(parsed(host="a", tlscacert="mine"))
    assert found is not None and (found.ca, found.cert) == (os.path.abspath("mine"), "/cert")
    with pytest.raises(UsageError, match="need a server"):
        chosen(parsed(tlscacert="mine"))


@pytest.mark.parametrize(
    "words",
    [
        ("add", "local", "unix:///s"),
        ("add", "a/b", "unix:///s"),
        ("add", "a", "host:1"),
        ("add", "a", "tcp://a:1", "--tlscacert", "/no/such/file"),
        ("add", "a"),
        ("use", "none"),
        ("rm", "none"),
        ("inspect", "none"),
        ("ls", "x"),
        ("frobnicate",),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(words: tuple[str, ...]) -> None:
    assert run(*words) == 2
    assert not os.path.exists(records_file())


def test_a_name_is_not_taken_over_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", "one", "tcp://a:1") == 0
    assert run("add", "one", "tcp://b:1") == 2
    assert "--force" in capsys.readouterr().err
    assert run("add", "-f", "one", "tcp://b:1") == 0
    assert Builders.load().get("one").address == "tcp://b:1"
    assert run("use", "ono") == 2
    assert "did you mean one?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"builders": 3}', '{"builders": {"a": {"x": "y"}}}']
)
def test_a_damaged_file_is_named(config: Path, text: str) -> None:
    path = config / "pybuild/builders.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UsageError, match="is damaged"):
        Builders.load()


def test_the_file_is_replaced_as_a_whole_and_private(config: Path) -> None:
    run("add", "one", "unix://rel.sock")
    path = config / "pybuild/builders.json"
    assert [entry.name for entry in path.parent.iterdir()] == ["builders.json"]
    assert path.stat().st_mode & 0o777 == 0o600
    content = json.loads(path.read_text())
    assert content["builders"] == {"one": {"address": f"unix://{os.path.abspath('rel.sock')}"}}


def test_variables_of_others_name_a_builder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(*words: str) -> str:
        record = chosen(parse(words, REMOTE))
        return record.address if record else ""

    monkeypatch.setenv("BUILDKIT_HOST", "tcp://kit:1")
    assert address() == "tcp://kit:1"
    monkeypatch.setenv("BUILDX_BUILDER", "default")
    assert address() == ""
    assert address("--builder", "tcp://b:1") == "tcp://b:1"
    assert address("--builder", "tcp://b:1", "-H", "tcp://h:1") == "tcp://h:1"
    monkeypatch.setenv("BUILDX_BUILDER", "none")
    with pytest.raises(UsageError) as caught:
        address()
    assert caught.value.hints[0] == "$BUILDX_BUILDER names it; unset that, or give -H"
    monkeypatch.setenv("PYBUILD_HOST", "local")
    assert address() == ""
