"""Commands about several things, and whole commands that build: verify, bake, prune, volumes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pybuild.cli import main
from pybuild.commandline.parser import Parsed
from pybuild.commands.several import (
    confirmed,
    for_each,
    run_verb,
    show_documents,
    show_removed,
)
from pybuild.model.errors import UsageError, UserError

Out = pytest.CaptureFixture[str]
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, capfd: Out, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with a store of its own, in a directory with a file ``f``."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c/f").write_text("1")
    monkeypatch.chdir(tmp_path / "c")

    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path / "store"), *words]) == status
        out, err = capfd.readouterr()
        return err if status else out

    return run


def test_one_failure_keeps_no_other_from_its_turn(capsys: Out) -> None:
    def act(name: str) -> object:
        if name.isupper():
            raise UserError(f"no {name}")
        return {"same": None, "quiet": False}.get(name, f"did {name}")

    with pytest.raises(UserError) as caught:
        for_each(["A", "b", "same", "quiet", "C"], act)
    assert caught.value.message == "no A; no C"
    assert capsys.readouterr().out == "did b\nsame\n"
    assert for_each(["b"], act) == 0


def test_documents_of_what_is_there_are_shown_before_the_first_that_is_not(capsys: Out) -> None:
    def look(name: str) -> Mapping[str, Any]:
        if name.isupper():
            raise UserError(f"no {name}")
        return {"Name": name}

    with pytest.raises(UserError, match="no B"):
        show_documents("", ["a", "B", "C", "d"], look)
    text = json.dumps([{"Name": "a"}, {"Name": "d"}], indent=4)
    assert capsys.readouterr().out == f"{text}\n"
    assert show_documents("json", ["a"], look) == 0
    assert capsys.readouterr().out == '[{"Name":"a"}]\n'
    assert show_documents("{{.Name}}!", ["a", "b"], look) == 0
    assert capsys.readouterr().out == "a!\nb!\n"


def test_what_was_removed_has_a_title_where_there_is_any(capsys: Out) -> None:
    assert show_removed("Deleted:", iter("ab"), 1500) == 0
    assert capsys.readouterr().out == "Deleted:\na\nb\n\nTotal reclaimed space: 1.5kB\n"
    assert show_removed("Deleted:", [], 0) == 0
    assert capsys.readouterr().out == "Total reclaimed space: 0B\n"


def test_a_verb_takes_so_many_arguments() -> None:
    heard: list[list[str]] = []

    def work(parsed: Parsed, words: list[str]) -> int:
        heard.append(words)
        return 7

    verbs = {"do": (work, "A [B]", 1, 2)}
    assert run_verb(Parsed(), "x y", verbs, ["do", "a"]) == 7
    assert run_verb(Parsed(), "x y", verbs, ["do", "a", "b"]) == 7
    assert heard == [["a"], ["a", "b"]]
    for words in (["do"], ["do", "a", "b", "c"]):
        message = f'"pybuild x y do" expects A \\[B\\], got {len(words) - 1} arguments'
        with pytest.raises(UsageError, match=message) as caught:
            run_verb(Parsed(), "x y", verbs, words)
        assert caught.value.hints == ("pybuild x --help shows how it is written",)
    with pytest.raises(UsageError, match='unknown command "x y go"') as caught:
        run_verb(Parsed(), "x y", verbs, ["go"])
    assert caught.value.hints == ("one of do",)


class Terminal(io.StringIO):
    """A terminal at which somebody answers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "removes"), [("y\n", True), (" YES \n", True), ("\n", False), ("no\n", False)]
)
def test_a_prune_asks_first(
    monkeypatch: pytest.MonkeyPatch, capsys: Out, answer: str, removes: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert confirmed(Parsed(), "all of it") is removes
    assert capsys.readouterr().err == (
        "WARNING! This will remove all of it. Are you sure you want to continue? [y/N] "
    )


def test_a_prune_asks_nobody_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="prune asks before it deletes"):
        confirmed(Parsed(), "all of it")
    parsed = Parsed()
    parsed.values["force"] = ["true"]
    assert confirmed(parsed, "all of it")


def test_volumes_take_no_value_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "1")
    assert run("volume", "create", "--label", "A", "--label", "b=c", "vol") == "vol\n"
    [shown] = json.loads(run("volume", "inspect", "vol"))
    assert shown["Labels"] == {"A": "", "b": "c"}
    assert "vol" in run("volume", "ls")
    assert run("volume", "ls", "--quiet") == "vol\n"
    assert run("volume", "rm", "vol") == "vol\n"


def test_verify_says_whether_two_builds_are_one_image(run: Run, capfd: Out) -> None:
    Path("Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    shown = json.loads(run("verify", "--format", "json", "--progress", "quiet", "."))
    assert shown["first"] == shown["second"] and shown["differences"] == []
    text = run("verify", "--quiet", ".")
    assert text == f"the same image twice: {shown['first']}\n"


def test_bake_makes_what_a_file_names_and_says_what_came_of_it(
    run: Run, tmp_path: Path, capfd: Out
) -> None:
    Path("docker-bake.json").write_text(
        json.dumps(
            {
                "target": {
                    "default": {"dockerfile-inline": "FROM scratch\nCOPY f /\n", "tags": ["a:1"]}
                }
            }
        )
    )
    printed = json.loads(run("bake", "--print"))
    assert printed["target"]["default"]["tags"] == ["a:1"]
    file = tmp_path / "metadata.json"
    words = ["--root", str(tmp_path / "store"), "bake", "--progress", "plain"]
    assert main([*words, "--metadata-file", str(file)]) == 0
    err = capfd.readouterr().err
    metadata = json.loads(file.read_text())
    assert metadata["default"]["image.name"] == "docker.io/library/a:1"
    assert "a:1" in err.splitlines()[-1] or "default" in err
    assert main(["--root", str(tmp_path / "store"), "bake", "--progress", "quiet"]) == 0
    assert capfd.readouterr().err == ""
