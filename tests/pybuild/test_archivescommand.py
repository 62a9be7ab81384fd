"""``save``, ``load``, ``import`` and ``image prune`` on a store of this process."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.commandline.parser import Parsed
from pybuild.commands import archives
from pybuild.model.errors import UsageError
from tests.clocks import FakeClock
from tests.pybuild.test_images import ONE, TWO, Shell, image


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "store", capsys)


def names_in(path: Path) -> list[str]:
    """Return the names that docker gives the images of an archive."""
    with tarfile.open(path) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        listed: list[dict[str, list[str] | None]] = json.loads(member.read())
    return [name for one in listed for name in one["RepoTags"] or ()]


def test_images_are_saved_with_the_names_they_were_called_by(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    shell("tag", "one:1", "uno")
    shell("save", "-o", str(file), "one:1", "uno", "one:1", shell.two.digest)
    assert names_in(file) == ["one:1", "uno:latest"]


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_what_was_saved_is_loaded(
    shell: Shell, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.tar"
    shell("save", f"--format={kind}", f"--output={file}", "one:1", "r.example/two:2")
    other = str(tmp_path / "other")
    assert main(["--root", other, "load", "-i", str(file)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "Loaded image: one:1",
        "Loaded image: r.example/two:2",
    ]
    with Store.open(other, FakeClock(), to_read=True) as store:
        assert sorted(name for names, _ in store.images.list() for name in names) == [ONE, TWO]


def test_an_image_without_a_name_is_loaded_as_an_id(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.tar"
    shell("save", "--format=oci", f"--output={file}", shell.one.digest)
    assert main(["--root", str(tmp_path / "other"), "load", f"--input={file}"]) == 0
    assert capsys.readouterr().out == f"Loaded image ID: {shell.one.digest}\n"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("save", "--format=zip", "a"), 2, 'archive format "zip": one of docker, oci\n'),
        (("save", "--platform=linux/amd64,linux/arm64", "one:1"), 2, (
            "linux/amd64,linux/arm64: one platform at a time\n"
        )),
        (("save", "none:1"), 1, "no such image: none:1\nhint: did you mean one:1?"),
        (("load", "-i", "/none.tar"), 1, "open /none.tar: no such file or directory\n"),
        (("import", "/none.tar", "A b"), 2, "invalid reference format"),
        (("import", "/none.tar"), 1, "open /none.tar: no such file or directory\n"),
        (("import", "-c", "RUN x", "/none.tar"), 2, 'invalid change "RUN x": one of CMD, ENTRY'),
        (("import", "-c", "", "/none.tar"), 2, 'invalid change "": one of CMD'),
        (("import", "-c", "ENV a=b\nRUN x", "/none.tar"), 2, 'invalid change "ENV a=b'),
        (("import", "-c", "env a=b", "/none.tar"), 1, "open /none.tar: no such file"),
        (("image", "prine"), 2, 'unknown command "image prine" (did you mean prune?)'),
        (("image", "prune", "-f", "--filter=age=1"), 2, (
            'unknown filter "age=1"\nhint: known: until=24h, dangling=true or false\n'
        )),
        (("image", "prune", "-f", "--filter=dangling=x"), 2, 'unknown filter "dangling=x"'),
        (("pull", "--platform=linux/amd64,linux/arm64", "a"), 2, "pull takes one platform\n"),
        (("pull", "A"), 2, "invalid reference format"),
        (("run", "sha256:1234"), 125, "no such image: sha256:1234\nhint: one without a name is freed"),
        (("run", "a b"), 125, 'no such image: "a b": invalid reference format'),
        (("history", "none:1"), 1, "no such image: none:1\n"),
        (("push", "--quiet", "none:1"), 1, "no such image: docker.io/library/none:1\n"),
        (("run", "--platform=linux/amd64,linux/arm64", "a"), 125, "a container has one platform\n"),
    ],
)  # fmt: skip
def test_words_that_are_none(
    shell: Shell,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    assert main(["--root", str(shell.root), *words]) == status
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_an_archive_is_not_read_from_a_terminal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.StringIO()
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    parsed = Parsed()
    parsed.values = {"root": [str(shell.root)]}
    with pytest.raises(UsageError, match="refusing to read an archive from a terminal") as caught:
        archives.load(parsed)
    assert caught.value.hints == ("name a file",)


def test_a_bundle_is_written_into_nothing(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    for place in (full, full / "x"):
        assert main(["--root", str(shell.root), "unpack", "one:1", str(place)]) == 2
        assert capsys.readouterr().err == f"error: {place} is not empty\n"


# --- image prune ----------------------------------------------------------------------------------


def left(shell: Shell) -> list[str]:
    with Store.open(shell.root, FakeClock(), to_read=True) as store:
        return sorted(name for names, _ in store.images.list() for name in names or ("",))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), [ONE, TWO]),
        (("--all",), []),
        (("--filter=dangling=false",), []),
        (("--filter=dangling=0",), []),
        (("--filter=dangling=TRUE",), [ONE, TWO]),
        (("--all", "--filter=dangling=true"), []),
        (("--all", "--filter=until=24h"), ["", ONE, TWO]),
        (("--all", "--filter=until=24h", "--filter=until=0s"), ["", ONE, TWO]),
        (("--all", "--filter=until=0s", "--filter=until=24h"), ["", ONE, TWO]),
        (("--filter=until=0s",), [ONE, TWO]),
    ],
)
def test_images_go_by_name_and_age(shell: Shell, words: tuple[str, ...], names: list[str]) -> None:
    with Store.open(shell.root, FakeClock()) as store:
        dangling = image(store, "3")
        store.images.add_dangling(dangling)
    text = shell("image", "prune", "--force", *words)
    assert left(shell) == names
    assert (f"Deleted: {dangling.digest}\n" in text) is ("" not in names)
    assert (f"Untagged: {ONE}\nDeleted: {shell.one.digest}\n" in text) is (ONE not in names)
    assert text.splitlines()[-1].startswith("Total:\t")


def test_pruning_asks_first(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
    for words, what in (
        (("--all",), "all images that nothing uses"),
        ((), "images without a name"),
    ):
        assert main(["--root", str(shell.root), "image", "prune", *words]) == 0
        assert f"WARNING! This will remove {what}. Are you" in capsys.readouterr().err
    assert left(shell) == [ONE, TWO]
