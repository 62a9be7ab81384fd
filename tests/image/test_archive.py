"""Layouts and archives, written by us and read by others [OUT-3, OUT-4, IMG-7, IMG-21, IMG-24]."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from pybuild.image.archive import (
    NamedImage,
    write_docker_archive,
    write_layout_blob,
    write_oci_archive,
    write_oci_layout,
)
from pybuild.image.archive_read import read_archive
from pybuild.image.manifest import build_index
from pybuild.image.validate import validate_image
from pybuild.model.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.platform import Platform
from tests.needs import needs

from .images import Blobs, assert_valid, make_image
from .trees import look, root_only


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "etc").mkdir(parents=True)
    (one / "etc" / "hostname").write_text("x\n")
    (one / ("long" * 40)).write_text("name")
    (two / "bin").mkdir(parents=True)
    (two / "bin" / "tool").write_text("#!/bin/sh\n")
    (two / "bin" / "tool").chmod(0o755)
    return [one, two]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_skopeo_reads_our_layout(
    tmp_path: Path, blobs: Blobs, trees: list[Path], compression: str
) -> None:
    image = make_image(blobs, trees, compression=compression)
    write_oci_layout(str(tmp_path / "out"), blobs.path, image, ["example.com/a/b:1.2"])
    shown = json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/out:1.2"))
    assert (shown["Architecture"], len(shown["Layers"])) == ("amd64", 2)
    run("skopeo", "copy", f"oci:{tmp_path}/out:1.2", f"dir:{tmp_path}/copy")
    assert Digest.of((tmp_path / "copy/manifest.json").read_bytes()) == image.digest


@needs("skopeo")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_skopeo_reads_our_archives(
    tmp_path: Path, blobs: Blobs, trees: list[Path], kind: str
) -> None:
    media_type = DOCKER_MANIFEST if kind == "docker" else OCI_MANIFEST
    image = make_image(blobs, trees, media_type=media_type)
    write = write_docker_archive if kind == "docker" else write_oci_archive
    with open(tmp_path / "a.tar", "wb") as out:
        write(out, blobs.path, [NamedImage(image, ["example.com/a:1"])])
    run("skopeo", "copy", f"{kind}-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/copy:1")
    assert len(json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/copy:1"))["Layers"]) == 2


@root_only
@needs("umoci")
def test_umoci_unpacks_our_layout(tmp_path: Path, blobs: Blobs, trees: list[Path]) -> None:
    image = make_image(blobs, trees)
    write_oci_layout(str(tmp_path / "out"), blobs.path, image, ["example.com/a/b:1"])
    run("umoci", "unpack", "--image", f"{tmp_path}/out:1", str(tmp_path / "bundle"))
    found = look(tmp_path / "bundle/rootfs")
    assert found == {**look(trees[0]), **look(trees[1])}


def test_archives_repeat_and_hold_no_times(blobs: Blobs, trees: list[Path]) -> None:
    image = make_image(blobs, trees)
    for write in (write_oci_archive, write_docker_archive):
        first, again = io.BytesIO(), io.BytesIO()
        write(first, blobs.path, [NamedImage(image, ["a:1"])])
        write(again, blobs.path, [NamedImage(image, ["a:1"])])
        assert first.getvalue() == again.getvalue()
        with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as archive:
            members = archive.getmembers()
            assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}
            assert len({m.name for m in members}) == len(members)


def test_layout_keeps_other_images_and_moves_tags(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    one, two = make_image(blobs, trees[:1]), make_image(blobs, trees)
    out = str(tmp_path / "out")
    write_oci_layout(out, blobs.path, one, ["a:1", "a:2"])
    write_oci_layout(out, blobs.path, two, ["a:2", "b:2"])
    found = json.loads((tmp_path / "out/index.json").read_bytes())["manifests"]
    names = [(e["annotations"]["io.containerd.image.name"], e["digest"]) for e in found]
    assert names == [
        ("docker.io/library/a:1", one.digest),
        ("docker.io/library/a:2", two.digest),
        ("docker.io/library/b:2", two.digest),
    ]
    layout = (tmp_path / "out/oci-layout").read_text()
    assert layout == '{"imageLayoutVersion":"1.0.0"}'


def test_a_blob_of_a_layout_that_was_cut_short_is_written_anew(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    image, out = make_image(blobs, trees), tmp_path / "out"
    write_oci_layout(str(out), blobs.path, image, ["a:1"])
    whole = {path: path.read_bytes() for path in (out / "blobs/sha256").iterdir()}
    for path, data in whole.items():
        path.write_bytes(data[:-1])
    write_oci_layout(str(out), blobs.path, image, ["a:1"])
    assert {path: path.read_bytes() for path in whole} == whole


def test_directory_with_other_things_is_not_written_to(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(UserError, match="is not empty and not an OCI layout"):
        write_oci_layout(str(tmp_path / "out"), blobs.path, make_image(blobs, trees))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_docker_archive_of_an_index_is_refused(blobs: Blobs, trees: list[Path]) -> None:
    """[OUT-4]"""
    index = blobs.put(OCI_INDEX, build_index([make_image(blobs, trees)]))
    with pytest.raises(UserError, match="holds one platform only"):
        write_docker_archive(io.BytesIO(), blobs.path, [NamedImage(index, [])])


def test_damaged_or_missing_blobs_stop_the_writing(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    image = make_image(blobs, trees)
    manifest = json.loads(Path(blobs.path(image.digest)).read_bytes())
    layer = Path(blobs.path(Digest(manifest["layers"][0]["digest"])))
    good = layer.read_bytes()
    layer.write_bytes(good[:-1] + b"!")
    with pytest.raises(EnvironmentFault, match=f"blob {manifest['layers'][0]['digest']}: got sha"):
        write_oci_archive(io.BytesIO(), blobs.path, [NamedImage(image, [])])
    layer.unlink()
    with pytest.raises(EnvironmentFault, match="is missing from the store"):
        write_oci_layout(str(tmp_path / "out"), blobs.path, image)
    assert not (tmp_path / "out/index.json").exists()


# --- reading --------------------------------------------------------------------------------------


def load(path: Path, into: Path) -> tuple[list[NamedImage], Blobs]:
    held = Blobs(into)
    (into / "scratch").mkdir()
    return read_archive(str(path), str(into / "scratch"), held.adopt, held.path), held


def archive(tmp_path: Path, blobs: Blobs, image: Descriptor, kind: str, *names: str) -> Path:
    path = tmp_path / f"{kind}.tar"
    if kind == "layout":
        path = tmp_path / "layout"
        write_oci_layout(str(path), blobs.path, image, names)
        return path
    write = write_docker_archive if kind == "docker" else write_oci_archive
    with open(path, "wb") as out:
        write(out, blobs.path, [NamedImage(image, names)])
    return path


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_archive_of_several_images_has_each_blob_once(
    tmp_path: Path, blobs: Blobs, trees: list[Path], kind: str
) -> None:
    """RUN-24: as ``docker save`` writes them."""
    one, two = make_image(blobs, trees[:1]), make_image(blobs, trees)
    write = write_docker_archive if kind == "docker" else write_oci_archive
    images = [NamedImage(one, ["docker.io/library/a:1"]), NamedImage(two, ["docker.io/x/b:2"])]
    with open(tmp_path / "a.tar", "wb") as out:
        write(out, blobs.path, images)
    with tarfile.open(tmp_path / "a.tar") as archive:
        names = archive.getnames()
        assert len(set(names)) == len(names)
    found, _ = load(tmp_path / "a.tar", tmp_path / "held")
    assert [list(image.names) for image in found] == [list(image.names) for image in images]


@pytest.mark.parametrize("kind", ["oci", "docker", "layout"])
def test_what_we_write_we_read(tmp_path: Path, blobs: Blobs, trees: list[Path], kind: str) -> None:
    image = make_image(blobs, trees)
    path = archive(tmp_path, blobs, image, kind, "example.com/a:1", "b:2")
    found, held = load(path, tmp_path / "held")
    assert [(d.digest, names) for d, names in found] == [
        (image.digest, ["example.com/a:1"]),
        (image.digest, ["docker.io/library/b:2"]),
    ]
    assert_valid(held.open, found[0][0])


def test_index_with_some_platforms_only_is_read(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    """[STO-5]"""
    image = make_image(blobs, trees)
    here = Descriptor(image.media_type, image.digest, image.size, {}, Platform("linux", "amd64"))
    absent = Descriptor(OCI_MANIFEST, Digest.of(b"no"), 2, {}, Platform("linux", "arm64"))
    index = blobs.put(OCI_INDEX, build_index([here, absent]))
    path = archive(tmp_path, blobs, index, "oci", "a:1")
    found, held = load(path, tmp_path / "held")
    assert found[0][0].digest == index.digest
    assert Path(held.path(image.digest)).exists()
    assert validate_image(held.open, index) == [f"{absent.digest}: missing"]


@needs("skopeo")
def test_docker_archives_of_others_are_read(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    """Classic ones, with plain layers and nothing of OCI in them."""
    image = make_image(blobs, trees)
    write_oci_layout(str(tmp_path / "l"), blobs.path, image, ["a:1"])
    made = tmp_path / "classic.tar"
    run("skopeo", "copy", f"oci:{tmp_path}/l:1", f"docker-archive:{made}:example.com/c:3")
    found, held = load(made, tmp_path / "held")
    assert [names for _, names in found] == [["example.com/c:3"]]
    assert found[0][0].media_type == DOCKER_MANIFEST
    assert_valid(held.open, found[0][0])


def evil(tmp_path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as out:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                out.addfile(info, io.BytesIO(member[1]))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


OCI = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
LYING = ("blobs/sha256/" + "0" * 64, b"x")
WHERE = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}


def index_of(*entries: object) -> tuple[str, bytes]:
    return "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def docker(*entries: object) -> tuple[str, bytes]:
    return "manifest.json", json.dumps(entries).encode()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "neither an OCI layout nor a docker archive"),
        ([OCI, LYING, index_of(WHERE)], "got sha256:"),
        ([OCI, index_of(WHERE)], "is missing"),
        ([("oci-layout", b'{"imageLayoutVersion":"9"}'), index_of()], "layout version '9'"),
        ([OCI, index_of({})], "broken index.json"),
        ([OCI, ("index.json", b"[")], "not valid JSON"),
        ([OCI], "no index.json"),
        ([docker({"Config": "../c", "Layers": []})], "is not in the archive"),
        ([docker({"Config": "c", "Layers": ["l"]}), ("c", b"{}")], "is not in the archive"),
        ([docker({"Config": "c", "Layers": []}), ("c", b"[]")], "not a JSON object"),
        ([docker({"Config": 7})], "broken manifest.json"),
        ([docker(7)], "broken manifest.json"),
        ([docker({"Config": "c", "Layers": []}), link("c", "/etc/passwd")], "not in the archive"),
        ([docker({"Config": "c", "Layers": []}), link("c", "c")], "is not in the archive"),
    ],
)
def test_hostile_archives_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo], message: str
) -> None:
    with pytest.raises((EnvironmentFault, UserError), match=message):
        load(evil(tmp_path, *members), tmp_path / "held")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar", "held"]


def test_docker_archive_whose_layer_lies_is_refused(
    tmp_path: Path, blobs: Blobs, trees: list[Path]
) -> None:
    image = make_image(blobs, trees[:1])
    manifest = json.loads(Path(blobs.path(image.digest)).read_bytes())
    config = Path(blobs.path(Digest(manifest["config"]["digest"]))).read_bytes()
    members = docker({"Config": "c.json", "Layers": ["l.tar"]}), ("c.json", config)
    with pytest.raises(EnvironmentFault, match=r"layer l\.tar: got diffID sha256:"):
        load(evil(tmp_path, *members, ("l.tar", bytes(1024))), tmp_path / "held")


def test_two_writers_of_one_blob_do_not_write_to_the_same_file(
    blobs: Blobs, tmp_path: Path
) -> None:
    """One that was given up goes on in its thread; what another has finished stays whole."""
    layout = tmp_path / "layout"
    blob = blobs.put("text/plain", b"x" * 100)
    target = layout / "blobs/sha256" / blob.digest.hex

    def finished_by_another(digest: Digest) -> str:
        write_layout_blob(str(layout), blob, blobs.path)
        written.append(target.read_bytes())
        return blobs.path(digest)

    written: list[bytes] = []
    write_layout_blob(str(layout), blob, finished_by_another)
    assert written == [target.read_bytes()] == [b"x" * 100]
    assert [path.name for path in target.parent.iterdir()] == [blob.digest.hex]
