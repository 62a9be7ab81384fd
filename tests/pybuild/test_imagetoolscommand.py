"""``pybuild imagetools`` on OCI layouts, which need no registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.cli import main
from tests.pybuild.test_images import Shell

Run = Callable[..., str]


class Layouts:
    """Two layout directories, of an image each.

    Attributes:
        one, two: their names for imagetools.
    """

    def __init__(self, folder: Path, shell: Shell) -> None:
        self.shell = shell
        self.folder = folder
        for name in ("one:1", "r.example/two:2"):
            place = folder / name[-1]
            shell("save", "--format=oci", "-o", f"{place}.tar", name)
            place.mkdir()
            subprocess.run(["tar", "xf", f"{place}.tar", "-C", place], check=True, timeout=60)
        self.one, self.two = (f"oci-layout://{folder}/{n}" for n in "12")


@pytest.fixture
def layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Layouts:
    return Layouts(tmp_path, Shell(tmp_path / "store", capsys))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path / "store"), "imagetools", *words]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def test_an_image_is_inspected(layouts: Layouts, run: Run) -> None:
    digest = layouts.shell.one.digest
    text = run("inspect", layouts.one)
    assert text.splitlines()[0] == f"Name:      {layouts.one}"
    assert text.splitlines()[1].startswith("MediaType: application/vnd.oci.image.")
    raw = run("inspect", "--raw", layouts.one)
    assert run("inspect", "--format={{json .Manifest.Digest}}", layouts.one).strip('"\n') in text
    described: dict[str, Any] = json.loads(run("inspect", "--format=json", layouts.one))
    assert described["name"] == layouts.one
    assert described["image"]["seed"] == "1"
    assert digest in raw or digest in text
    assert run("inspect", "--format={{.Image.Seed}}", layouts.one) == "1\n"


def test_nothing_refers_to_an_image_alone(layouts: Layouts, run: Run) -> None:
    assert run("inspect", "--referrers", layouts.one) == (
        f"Name:      {layouts.one}\n\nNothing refers to it.\n"
    )
    assert run("inspect", "--referrers", "--format=json", layouts.one) == "{}\n"
    message = 'format "{{.}}": referrers are shown as text, or as json'
    assert message in run("inspect", "--referrers", "--format={{.}}", layouts.one, status=2)


def test_an_index_is_made_of_images_and_shown(layouts: Layouts, run: Run) -> None:
    sources = (layouts.one, layouts.two)
    shown: dict[str, Any] = json.loads(run("create", "--dry-run", *sources))
    digests = [layouts.shell.two.digest]  # of one platform: the last
    assert [child["digest"] for child in shown["manifests"]] == digests
    target = f"oci-layout://{layouts.folder}/new:both"
    file = layouts.folder / "metadata.json"
    noted = ("--annotation=index:who=me", f"--metadata-file={file}")
    name, _, digest = run("create", "-t", target, *noted, *sources).strip().rpartition("@")
    assert name == target
    metadata: dict[str, Any] = json.loads(file.read_text())
    assert metadata["containerimage.digest"] == digest
    assert metadata["containerimage.descriptor"]["digest"] == digest
    assert metadata["image.name"] == target
    raw: dict[str, Any] = json.loads(run("inspect", "--raw", target))
    assert raw["annotations"] == {"who": "me"}
    lines = run("inspect", target).splitlines()
    assert lines[:5] == [
        f"Name:      {target}",
        "MediaType: application/vnd.oci.image.index.v1+json",
        f"Digest:    {digest}",
        "",
        "Manifests:",
    ]
    assert [line.strip() for line in lines if line.startswith("  Name:")] == [
        f"Name:      {target}@{one}" for one in digests
    ]
    assert "  Platform:  linux/amd64" in lines


def test_an_index_of_one_image_is_the_image_where_that_is_preferred(
    layouts: Layouts, run: Run
) -> None:
    shown: dict[str, Any] = json.loads(run("create", "--dry-run", layouts.one))
    assert [child["digest"] for child in shown["manifests"]] == [layouts.shell.one.digest]
    plain = run("create", "--dry-run", "--prefer-index=false", layouts.one)
    assert "config" in json.loads(plain)


def test_an_image_is_copied(layouts: Layouts, run: Run) -> None:
    targets = [f"oci-layout://{layouts.folder}/{name}:t" for name in ("a", "b")]
    lines = run("copy", layouts.one, *targets).splitlines()
    assert [line.rpartition("@")[0] for line in lines] == targets
    (digest,) = {line.rpartition("@")[2] for line in lines}
    for target in targets:
        assert f"Digest:    {digest}\n" in run("inspect", target)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list",), 'unknown command "imagetools list"\nhint: one of inspect, create, copy, rm\n'),
        (("inspect",), '"pybuild imagetools inspect" expects a NAME, got 0 arguments\n'),
        (("inspect", "a", "b"), '"pybuild imagetools inspect" expects a NAME, got 2 arguments\n'),
        (("copy", "a"), '"pybuild imagetools copy" expects SOURCE TARGET…, got 1 arguments\n'),
        (("rm",), '"pybuild imagetools rm" expects NAME:TAG or NAME@DIGEST, got 0 arguments\n'),
        (("rm", "r.example/a"), (
            '"r.example/a": a tag or a digest is needed\nhint: r.example/a:latest?\n'
        )),
        (("rm", "r.example:5000/a"), '"r.example:5000/a": a tag or a digest is needed\n'),
        (("rm", "a:1", "A"), "invalid reference format"),
        (("create", "a"), "a name for the index is needed\nhint: give it with -t\n"),
        (("create", "-t", "a"), "no sources specified\n"),
        (("create", "--dry-run"), "no sources specified\n"),
        (("copy", "--platform=linux/amd64,linux/arm64", "a", "b"), (
            "copy takes one platform, or all\nhint: imagetools create takes several\n"
        )),
    ],
)  # fmt: skip
def test_words_that_are_none(run: Run, words: tuple[str, ...], message: str) -> None:
    assert run(*words, status=2).startswith(f"error: {message}")


def test_files_of_sources_are_descriptors(run: Run, tmp_path: Path) -> None:
    gone, bad, good = (tmp_path / name for name in ("gone", "bad", "good"))
    bad.write_text("{")
    digest = f"sha256:{'1' * 64}"
    good.write_text(json.dumps({"mediaType": "x", "digest": digest, "size": 1}))
    assert run("create", "-t", "a", "-f", str(gone), status=1) == (
        f"error: open {gone}: no such file or directory\n"
    )
    assert run("create", "-t", "a", "-f", str(bad), status=1).startswith(
        f"error: {bad} is no descriptor: "
    )
    assert run("create", "--dry-run", "-f", str(good), status=2) == (
        f"error: {good} names a digest only: the repository comes from -t\n"
    )
    assert run("create", "-t", "A", "-f", str(good), status=2).startswith(
        "error: invalid reference format"
    )
