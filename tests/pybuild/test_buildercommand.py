"""``pybuild builder``: words in, records and lines out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.client.builders import Builders
from pybuild.model.package import VERSION


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))
    monkeypatch.delenv("PYBUILD_HOST", raising=False)


def run(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["builder", *words]) == status
    out, err = capsys.readouterr()
    return err if status else out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list",), 'unknown command "builder list"\nhint: one of add, use, ls, rm, inspect'),
        (("add", "x"), '"pybuild builder add" expects NAME ADDR, got 1 arguments'),
        (("use",), '"pybuild builder use" expects NAME, got 0 arguments'),
        (("ls", "x"), '"pybuild builder ls" expects no arguments, got 1 arguments'),
        (("rm", "a", "b"), '"pybuild builder rm" expects NAME, got 2 arguments'),
        (("inspect", "a", "b"), '"pybuild builder inspect" expects at most a NAME, got 2 arguments'),
        (("use", "x"), 'no builder "x"'),
        (("rm", "x"), 'no builder "x"'),
        (("inspect", "x"), 'no builder "x"'),
        (("add", "x", "http://h:1"), (
            'invalid address "http://h:1": expected unix://PATH or tcp://HOST:PORT'
        )),
        *(
            (("add", name, "tcp://h:1"), (
                f'invalid builder name "{name}"\nhint: letters, digits, dots, dashes; not local'
            ))
            for name in ("local", ".x", "a/b", "a b", "")
        ),
    ],
)  # fmt: skip
def test_words_that_are_none(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert run(capsys, *words, status=2).startswith(f"error: {message}\n")
    assert Builders.load().known == {}


def test_a_builder_is_replaced_only_by_force(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "add", "A.b-c_1", "unix://s") == "A.b-c_1\n"
    assert Builders.load().known["A.b-c_1"].address == f"unix://{tmp_path}/s"
    assert Builders.load().in_use == ""
    again = ("add", "A.b-c_1", "tcp://h:1")
    assert run(capsys, *again, status=2) == (
        'error: there is a builder "A.b-c_1"\nhint: replace it with --force\n'
    )
    assert run(capsys, *again, "--force") == "A.b-c_1\n"
    assert Builders.load().known["A.b-c_1"].address == "tcp://h:1"


def test_the_list_has_the_one_in_use_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "ls") == "NAME      ADDRESS        TLS\nlocal *   this process\n"
    run(capsys, "add", "b", "tcp://b:1", "--use")
    run(capsys, "add", "c", "tcp://c:1", "--tlsservername=x")
    run(capsys, "add", "a", "tcp://a:1")
    builders = Builders.load()
    builders.known["a"].cert = "/cert"
    builders.save()
    assert [line.split() for line in run(capsys, "ls").splitlines()[1:]] == [
        ["local", "this", "process"],
        ["a", "tcp://a:1", "mutual"],
        ["b", "*", "tcp://b:1"],
        ["c", "tcp://c:1", "server"],
    ]
    assert run(capsys, "rm", "a") == "a\n"
    assert Builders.load().in_use == "b"
    assert run(capsys, "rm", "b") == "b\n"
    assert Builders.load().in_use == ""


def test_files_that_are_not_there_are_missed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("add", "x", "tcp://h:1", "--tlscacert=/none/ca.pem")
    assert main(["builder", *words]) != 0
    assert "/none/ca.pem" in capsys.readouterr().err
    assert Builders.load().known == {}


@pytest.mark.parametrize("words", [(), ("local",)])
def test_this_process_describes_itself(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    lines = run(capsys, "inspect", *words).splitlines()
    assert lines[:4] == [
        "Name:      local",
        "Address:   this process",
        "Status:    running",
        f"Version:   {VERSION} pybuild",
    ]
    assert lines[4].startswith("Platforms: linux/")
    assert len(lines) == 5


def test_a_server_that_is_gone_is_described_as_far_as_it_is_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(capsys, "add", "gone", f"unix://{tmp_path}/none", "--use")
    assert main(["builder", "inspect"]) == 3
    out, err = capsys.readouterr()
    assert out == (f"Name:      gone\nAddress:   unix://{tmp_path}/none\nStatus:    unreachable\n")
    assert err.startswith("error: ") and os.path.join(tmp_path, "none") in err
