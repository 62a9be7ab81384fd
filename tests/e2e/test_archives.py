"""``save``, ``load``, ``import``, ``export``, ``history``: images as files, and back [RUN-24]."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Pybuild, write
from tests.webservers import site as web_site

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

MULTI = "linux/amd64,linux/arm64"


@pytest.fixture
def app(pybuild: Pybuild, base: str, tmp_path: Path) -> str:
    text = "FROM base\nRUN echo one > /one && chown 7:8 /one\nENV A=b\nCOPY f /f\n"
    pybuild("build", "-t", "app:1", write(tmp_path / "ctx", Dockerfile=text, f="f"))
    pybuild("tag", "app:1", "host.example/other/app:2")
    return "app:1"


def export(run: Pybuild, name: str, directory: Path) -> bytes:
    path = directory / "exported.tar"
    run("export", "-o", path, name)
    return path.read_bytes()


def facts(run: Pybuild, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("inspect", "--oci", name).out)
    return found


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_what_is_saved_is_loaded(pybuild: Pybuild, app: str, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "images.tar"
    names = [app, "host.example/other/app:2", "base"]
    pybuild("save", "--format", kind, "-o", archive, *names)
    again = tmp_path / "again.tar"
    again.write_bytes(archive.read_bytes())
    pybuild("save", "--format", kind, "-o", again, *names)
    assert again.read_bytes() == archive.read_bytes()
    other = Pybuild(tmp_path / "other")
    said = other("load", "-i", archive).out
    assert said.splitlines() == [
        "Loaded image: app:1",
        "Loaded image: host.example/other/app:2",
        "Loaded image: base:latest",
    ]
    one, two = facts(pybuild, app), facts(other, app)
    assert one["config"] == two["config"]
    assert one["manifest"]["layers"][0]["digest"] == two["manifest"]["layers"][0]["digest"]
    if kind == "oci":
        assert one["descriptor"]["digest"] == two["descriptor"]["digest"]
    other("inspect", "--check", app)
    assert other("run", app, "sh", "-c", "stat -c %u:%g /one; cat /one").out == "7:8\none\n"
    if shutil.which("skopeo"):
        reference = f"{kind}-archive:{archive}:docker.io/library/app:1"
        done = subprocess.run(
            ["skopeo", "inspect", reference], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0 or kind == "oci", done.stderr


def test_standard_streams_and_ids(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    image_id = facts(pybuild, app)["manifest"]["config"]["digest"]
    command = pybuild.command("save", image_id)
    saved = subprocess.run(
        command, env=pybuild.environment, capture_output=True, timeout=60, check=True
    ).stdout
    other = Pybuild(tmp_path / "other")
    assert other("load", stdin=saved).out.startswith("Loaded image ID: sha256:")
    assert other("load", "-i", tmp_path / "none.tar", code=1).err.startswith("error: open ")
    bad = other("load", stdin=b"no archive", code=None)
    assert bad.code in (1, 3) and "error: " in bad.err
    assert not [path for path in (other.store / "tmp").iterdir() if path.name.endswith("stdin")]
    assert "no such image: none" in pybuild("save", "none", code=1).err
    assert 'archive format "zip": one of docker, oci' in (
        pybuild("save", "--format", "zip", app, code=2).err
    )


def test_several_platforms(pybuild: Pybuild, tmp_path: Path) -> None:
    """OUT-4: one of them in a docker archive, all in an OCI archive."""
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /\n", f="f")
    pybuild("build", "--platform", MULTI, "-t", "many", context)
    other = Pybuild(tmp_path / "other")
    pybuild("save", "--format", "oci", "-o", tmp_path / "all.tar", "many")
    other("load", "-i", tmp_path / "all.tar")
    assert facts(other, "many") == facts(pybuild, "many")
    pybuild("save", "--platform", "linux/arm64", "-o", tmp_path / "arm.tar", "many")
    other("load", "-i", tmp_path / "arm.tar")
    assert facts(other, "many")["config"]["architecture"] == "arm64"


def test_a_tree_out_and_in_again(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    """The tar of a tree becomes an image of one layer; changes are the Dockerfile's words."""
    tree = tmp_path / "tree.tar"
    pybuild("export", "-o", tree, app)
    with tarfile.open(tree) as tar:
        found = tar.getmember("one")
        assert (found.uid, found.gid) == (7, 8)
    image_id = facts(pybuild, app)["manifest"]["config"]["digest"]
    pybuild("export", "-o", tmp_path / "same.tar", image_id)
    assert (tmp_path / "same.tar").read_bytes() == tree.read_bytes()
    changes = ["-c", "ENV PATH=/bin", "-c", 'CMD ["cat", "/one"]', "-c", "LABEL a='b c'"]
    made = pybuild("import", *changes, tree, "imported:1").out.strip()
    shown = facts(pybuild, "imported:1")
    assert shown["manifest"]["config"]["digest"] == made
    assert len(shown["manifest"]["layers"]) == 1
    assert shown["config"]["config"]["Labels"] == {"a": "b c"}
    assert pybuild("run", "imported:1").out == "one\n"
    same = pybuild("import", *changes, "-", stdin=tree.read_bytes()).out.strip()
    layers = facts(pybuild, same)["manifest"]["layers"]
    assert layers == shown["manifest"]["layers"]
    for change in ("RUN true", "COPY a b", "", "CMD x\nRUN y"):
        assert "invalid change" in pybuild("import", "-c", change, tree, code=2).err


@pytest.mark.parametrize("kind", ["text", "empty", "zeros", "cut gzip"])
@pytest.mark.parametrize("place", ["file", "input", "url"])
def test_what_is_no_tree_makes_no_image(
    pybuild: Pybuild, tmp_path: Path, kind: str, place: str
) -> None:
    """ADD copies what it does not unpack; an image of such a file was made."""
    data = {"text": b"<html>\n", "empty": b"", "zeros": bytes(10240), "cut gzip": b"\x1f\x8b\x08"}
    file = tmp_path / "rubbish"
    file.write_bytes(data[kind])
    if place == "file":
        shown, done = str(file), pybuild("import", file, "x", code=1)
    elif place == "input":
        shown = "standard input"
        done = pybuild("import", "-", "x", stdin=data[kind], code=1)
    else:
        with web_site() as site:
            site.files["/rubbish"] = data[kind]
            shown = f"{site.url}/rubbish"
            done = pybuild("import", shown, "x", code=1)
    assert done.err.splitlines()[-2:] == [
        f"error: {shown} is no tar archive with files in it",
        "hint: import takes a tar of a file tree, plain or compressed by gzip, bzip2, xz or zstd",
    ]
    assert pybuild("inspect", "x", code=None).code != 0


def test_a_tree_comes_from_a_url(pybuild: Pybuild, tmp_path: Path) -> None:
    write(tmp_path / "tree", a="one\n")
    subprocess.run(["tar", "czf", tmp_path / "t.gz", "-C", tmp_path / "tree", "."], check=True)
    with web_site() as site:
        site.files["/t.gz"] = (tmp_path / "t.gz").read_bytes()
        pybuild("import", f"{site.url}/t.gz", "fetched")
    with tarfile.open(fileobj=io.BytesIO(export(pybuild, "fetched", tmp_path))) as tar:
        assert [member.name for member in tar if member.isfile()] == ["a"]


def test_a_hostile_tree_stays_inside(pybuild: Pybuild, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("../../escaped")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    pybuild("import", "-", "evil", stdin=data.getvalue(), code=1)
    assert not list(tmp_path.rglob("escaped"))


def test_history_of_an_image(pybuild: Pybuild, app: str) -> None:
    rows = [
        json.loads(line) for line in pybuild("history", "--format", "json", app).out.splitlines()
    ]
    config = facts(pybuild, app)["config"]
    assert [row["created_by"] for row in rows] == [
        entry["created_by"] for entry in reversed(config["history"])
    ]
    sizes = [layer["size"] for layer in facts(pybuild, app)["manifest"]["layers"]]
    assert [row["size"] for row in reversed(rows) if row["size"]] == sizes
    lines = pybuild("history", app).out.splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert "COPY f /f" in lines[1]
    assert len(lines) == len(rows) + 1
