"""The inputs of a build that are at hand: its Dockerfile, ignore files and directories [IN, CTX]."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.contexts import (
    AMBIGUOUS,
    BOTH_STDIN,
    BuildInputs,
    check_volume,
    load_inputs,
)
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.model.errors import UserError
from pybuild.model.ops import ScratchSource
from pybuild.model.snapshot import LocalTree
from pybuild.model.volumes import HostVolume, VolumeAccess
from tests.needs import needs

TEXT = b"FROM scratch\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _load(context: str, stdin: bytes = b"", **more: Any) -> BuildInputs:
    reader, writer = os.pipe()
    os.write(writer, stdin)
    os.close(writer)
    try:
        return load_inputs(BuildRequest(context=context, **more), StandardInput(reader))
    finally:
        os.close(reader)


def _write(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_standard_input_is_the_dockerfile_of_an_empty_context() -> None:
    inputs = _load("-", TEXT)
    assert (inputs.dockerfile, inputs.filename) == (TEXT, "Dockerfile")
    assert inputs.context is not None and inputs.context.op == ScratchSource()
    assert (inputs.trees, inputs.others, inputs.files) == ({}, {}, {})
    given = _load("-", b"FROM other\n", dockerfile="named", dockerfile_text=TEXT)
    assert (given.dockerfile, given.filename) == (TEXT, "Dockerfile")


@pytest.mark.parametrize(("dockerfile", "message"), [("-", BOTH_STDIN), ("named", AMBIGUOUS)])
def test_standard_input_is_one_thing_only(dockerfile: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        _load("-", TEXT, dockerfile=dockerfile)
    assert caught.value.message == message


def test_a_directory_has_a_dockerfile_of_its_own(here: Path) -> None:
    _write(here / "c", Dockerfile=TEXT, dockerfile=b"FROM lower\n")
    inputs = _load("c")
    assert (inputs.dockerfile, inputs.filename, inputs.context) == (TEXT, "Dockerfile", None)
    assert inputs.trees == {"context": LocalTree(str(here / "c"))}
    assert inputs.files == {
        f"{here}/c/Dockerfile": TEXT,
        f"{here}/c/Dockerfile.dockerignore": None,
        f"{here}/c/.dockerignore": None,
        f"{here}/c/.containerignore": None,
    }


def test_names_of_podman_will_do_where_those_of_docker_are_not(here: Path) -> None:
    _write(here / "c", **{"Containerfile": TEXT, ".containerignore": b"one\n", "d": b""})
    inputs = _load("c")
    assert (inputs.dockerfile, inputs.filename) == (TEXT, "Containerfile")
    assert inputs.trees["context"].exclude == ("one",)
    assert inputs.files[f"{here}/c/Dockerfile"] is inputs.files[f"{here}/c/dockerfile"] is None
    _write(here / "c", **{"Dockerfile": b"FROM a\n", ".dockerignore": b"two\n"})
    inputs = _load("c")
    assert (inputs.filename, inputs.trees["context"].exclude) == ("Dockerfile", ("two",))


def test_the_cause_that_git_gives_is_named_and_not_its_last_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git looks no further than the file system: its reason stands above the last line of what it says then."""
    _write(here / "c", Dockerfile=TEXT)
    script = "#!/bin/sh\nprintf 'fatal: no repository\\nStopping at …\\n' >&2; exit 128\n"
    _write(here / "bin", git=script.encode())
    (here / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}/bin:/usr/bin:/bin")
    with pytest.raises(UserError, match='ignores in "c": fatal: no repository'):
        _load("c", ignore_from_git=True)


@needs("git")
def test_what_git_ignores_is_left_out(here: Path) -> None:
    _write(
        here / "c", Dockerfile=TEXT, tracked=b"", keep=b"", **{"a[b": b"", ".dockerignore": b"x"}
    )
    _write(here / "c/out", file=b"")
    with pytest.raises(UserError, match='git cannot say what it ignores in "c": .*not a git repos'):
        _load("c", ignore_from_git=True)
    subprocess.run(["git", "init", "-q", "c"], check=True, timeout=60)
    _write(here / "c", **{".gitignore": b"out/\ntracked\na*b\n"})
    subprocess.run(["git", "-C", "c", "add", "-f", "tracked"], check=True, timeout=60)
    tree = _load("c", ignore_from_git=True).trees["context"]
    assert tree.exclude == ("x", ".git", "a\\[b", "out")


def test_a_dockerfile_in_lower_case_will_do_and_the_other_was_looked_for(here: Path) -> None:
    _write(here / "c", dockerfile=TEXT)
    inputs = _load("c")
    assert (inputs.dockerfile, inputs.filename) == (TEXT, "dockerfile")
    assert inputs.files[f"{here}/c/Dockerfile"] is None
    with pytest.raises(UserError, match="open Dockerfile: no such file or directory$") as caught:
        (here / "c" / "dockerfile").unlink()
        _load("c")
    assert caught.value.hints == (
        "name another file with -f, or write one: it begins with FROM image",
    )


def test_a_dockerfile_may_be_named_given_or_on_standard_input(here: Path) -> None:
    _write(here / "c", Dockerfile=b"FROM own\n")
    _write(here / "f", D=TEXT)
    named = _load("c", dockerfile=str(here / "f" / "D"))
    assert (named.dockerfile, named.filename) == (TEXT, "f/D")
    read = _load("c", TEXT, dockerfile="-")
    assert (read.dockerfile, read.filename) == (TEXT, "Dockerfile")
    given = _load("c", dockerfile="-", dockerfile_text=TEXT)
    assert (given.dockerfile, given.filename) == (TEXT, "Dockerfile")
    assert list(given.files) == [f"{here}/c/.dockerignore", f"{here}/c/.containerignore"]


def test_the_ignore_file_of_the_dockerfile_stands_for_that_of_the_context(here: Path) -> None:
    _write(here / "c", **{"Dockerfile": TEXT, ".dockerignore": b"all\n# no\n/both\n"})
    assert _load("c").excludes == {"context": ("all", "both")}
    _write(here / "c", **{"Dockerfile.dockerignore": b"own\n"})
    inputs = _load("c")
    assert inputs.excludes == {"context": ("own",)}
    assert f"{here}/c/.dockerignore" not in inputs.files
    assert _load("c", dockerfile_text=TEXT).excludes == {"context": ("all", "both")}


def test_a_wrong_ignore_file_is_named(here: Path) -> None:
    _write(here / "c", **{"Dockerfile": TEXT, ".dockerignore": b"\n[\n"})
    with pytest.raises(UserError, match=rf"^{here}/c/\.dockerignore: ignore file line 2: "):
        _load("c")


@pytest.mark.parametrize(
    ("path", "problem"), [("none", "no such directory"), ("file", "not a directory")]
)
def test_a_context_that_is_no_directory_is_refused(here: Path, path: str, problem: str) -> None:
    _write(here, file=b"", Dockerfile=TEXT)
    message = f'unable to prepare context: path "{path}": {problem}'
    for context, named in ((path, "."), (".", path)):
        with pytest.raises(UserError) as caught:
            _load(context, named_contexts={"n": named})
        assert caught.value.message == message


def test_named_contexts_are_directories_or_left_as_they_are_written(here: Path) -> None:
    _write(here / "c", Dockerfile=TEXT)
    _write(here / "d", **{".dockerignore": b"x\n"})
    (here / "link").symlink_to("d")
    named = {"two": "link", "image": "docker-image://alpine", "stage": "target:base"}
    inputs = _load("c", named_contexts=named)
    assert inputs.trees["two"] == LocalTree(str(here / "d"), ("x",))
    assert inputs.trees.keys() == {"context", "two"}
    assert inputs.others == {"image": "docker-image://alpine", "stage": "target:base"}
    assert inputs.contexts == {**inputs.others, "two": "two"}
    assert inputs.excludes == {"context": (), "two": ("x",)}
    assert inputs.context_trees == {}


def test_files_have_the_modes_of_git_where_that_is_said(here: Path) -> None:
    _write(here / "c", Dockerfile=TEXT)
    for git_modes in (False, True):
        inputs = _load("c", git_modes=git_modes, named_contexts={"n": "c"})
        assert [tree.git_modes for tree in inputs.trees.values()] == [git_modes] * 2


def test_nothing_on_standard_input_is_no_dockerfile() -> None:
    with pytest.raises(UserError) as caught:
        _load("-")
    assert caught.value.message == "nothing came on standard input"


def test_a_context_that_is_not_there_has_the_one_that_is_perhaps_meant(here: Path) -> None:
    _write(here / "source", Dockerfile=TEXT)
    for path, hint in (
        ("./suorce", "did you mean source?"),
        (
            "source/Dockerfile",
            "the context is a directory, the file goes with -f: -f source/Dockerfile .",
        ),
        ("zzzzzzzz", f"make it, or correct the path, which begins in {here}"),
        ("none/of/it", f"make it, or correct the path, which begins in {here}/none/of"),
    ):
        with pytest.raises(UserError) as caught:
            _load(path)
        assert caught.value.hints == (hint,), path


def test_dockerfiles_by_other_names_are_named(here: Path) -> None:
    _write(here / "c", **{"app.Dockerfile": TEXT, "other": b""})
    _write(here / "c/web", Dockerfile=TEXT)
    _write(here / "f", Containerfile=TEXT)
    for named, hint in (
        ("", "name it with -f: c/app.Dockerfile, c/web/Dockerfile"),
        ("f/none", "name it with -f: f/Containerfile, c/app.Dockerfile, c/web/Dockerfile"),
        ("gone/none", "name it with -f: c/app.Dockerfile, c/web/Dockerfile"),
    ):
        with pytest.raises(UserError) as caught:
            _load("c", dockerfile=named and str(here / named))
        assert caught.value.hints == (hint,), named


@pytest.mark.parametrize(
    ("source", "where"),
    [("", "the store lies in it"), ("store", "the store lies in it"), ("store/a", "it lies")],
)
def test_a_volume_that_shows_steps_the_store_is_refused(
    here: Path, source: str, where: str
) -> None:
    place = str(here / source).rstrip("/")
    writable = HostVolume(source=place, target="/in", access=VolumeAccess.WRITABLE, in_key=False)
    for shown in (writable, HostVolume(source=place, target="/in")):
        with pytest.raises(UserError, match=f"{place} changes while steps run: {where}"):
            check_volume(shown, f"{here}/store")
        check_volume(shown, f"{here}/elsewhere/store" if source else "/elsewhere")
    check_volume(HostVolume(source=place, target="/in", in_key=False), f"{here}/store")
