"""eStargz: a gzip layer as before, with a table by which each file can be had alone [OUT-10, OUT-11]."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from pybuild.image.layer import estargz, tarformat
from pybuild.image.layer.apply import apply_job
from pybuild.image.layer.estargz import CHUNK, FOOTER_BYTES, TOC_DIGEST, UNCOMPRESSED_SIZE, footer
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder, LayerBlob, UnpackedLayer, UnpackOrder
from pybuild.image.layer.recompress import recompress_job
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault
from tests.image.trees import root_only


def make(
    tmp_path: Path, tree: Path, name: str = "out", level: int | None = None
) -> tuple[bytes, LayerBlob]:
    out = tmp_path / name
    answer = layer_job(WorkerCall(), str(tree), BlobOrder(str(out), "estargz", level))
    return out.read_bytes(), answer


def a_tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "dir/deep").mkdir(parents=True)
    (tree / "dir/small").write_bytes(b"small")
    (tree / "dir/empty").write_bytes(b"")
    (tree / "big").write_bytes(b"0123456789abcdef" * (CHUNK // 16) * 2 + b"rest")
    (tree / "exactly").write_bytes(b"x" * CHUNK)
    (tree / "link").symlink_to("dir/small")
    (tree / "zlast").write_bytes(b"its padding counts, too")
    os.link(tree / "dir/small", tree / "dir/twin")
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return tree


def table(blob: bytes) -> tuple[int, bytes]:
    """Find the table of contents as a lazy reader does: by the footer alone."""
    tail = blob[-FOOTER_BYTES:]
    assert tail[12:16] == b"SG\x16\x00" and tail[32:38] == b"STARGZ"
    place = int(tail[16:32], 16)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob[place:-FOOTER_BYTES]))) as tar:
        [only] = tar.getmembers()
        assert only.name == "stargz.index.json"
        file = tar.extractfile(only)
        assert file is not None
        return place, file.read()


def chunk(blob: bytes, entry: dict[str, Any], size: int) -> bytes:
    """Read one chunk from the gzip member that begins at its offset."""
    return zlib.decompressobj(31).decompress(blob[entry["offset"] :], size)


def test_every_file_can_be_had_by_the_table_alone(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    blob, answer = make(tmp_path, tree)
    place, data = table(blob)
    assert answer.annotations[TOC_DIGEST] == "sha256:" + hashlib.sha256(data).hexdigest()
    toc = json.loads(data)
    assert toc["version"] == 1
    found: dict[str, bytes] = {}
    wholes: dict[str, dict[str, Any]] = {}
    for entry in toc["entries"]:
        if entry["type"] not in ("reg", "chunk") or "offset" not in entry:
            continue
        name = entry["name"]
        if entry["type"] == "reg":
            wholes[name] = entry
        size = entry.get("chunkSize") or wholes[name]["size"] - entry.get("chunkOffset", 0)
        piece = chunk(blob, entry, size)
        assert entry["chunkDigest"] == "sha256:" + hashlib.sha256(piece).hexdigest()
        assert len(found.get(name, b"")) == entry.get("chunkOffset", 0)
        assert entry["offset"] < place
        found[name] = found.get(name, b"") + piece
    assert found == {
        "big": (tree / "big").read_bytes(),
        "exactly": b"x" * CHUNK,
        "dir/small": b"small",
        "zlast": b"its padding counts, too",
    }
    for name, entry in wholes.items():
        assert entry["digest"] == "sha256:" + hashlib.sha256(found[name]).hexdigest()
    kinds = {entry["name"]: entry["type"] for entry in toc["entries"] if entry["type"] != "chunk"}
    assert kinds == {
        "big": "reg",
        "dir/": "dir",
        "dir/deep/": "dir",
        "dir/empty": "reg",
        "dir/small": "reg",
        "dir/twin": "hardlink",
        "exactly": "reg",
        "link": "symlink",
        "zlast": "reg",
    }
    assert sum(entry["type"] == "chunk" for entry in toc["entries"]) == 2
    link = next(entry for entry in toc["entries"] if entry["name"] == "link")
    assert link["linkName"] == "dir/small" and link["modtime"] == "2023-11-14T22:13:20Z"


@pytest.mark.root
def test_for_others_it_is_a_gzip_layer_with_one_file_more(tmp_path: Path) -> None:
    blob, answer = make(tmp_path, a_tree(tmp_path))
    plain = gzip.decompress(blob)
    assert answer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert answer.digest == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert answer.size == len(blob)
    assert answer.annotations[UNCOMPRESSED_SIZE] == str(len(plain))
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert tar.getnames()[-1] == "stargz.index.json"
    (tmp_path / "target").mkdir()
    order = UnpackOrder(
        str(tmp_path / "target"),
        str(tmp_path / "out"),
        lowers=[],
        diff_id=answer.diff_id,
        digest=answer.digest,
        size=len(blob),
    )
    assert isinstance(apply_job(WorkerCall(), order), UnpackedLayer)
    assert (tmp_path / "target/stargz.index.json").stat().st_mode == 0o100444
    assert (tmp_path / "target/dir/twin").read_bytes() == b"small"
    assert (tmp_path / "target/big").read_bytes() == (tmp_path / "tree/big").read_bytes()


@pytest.mark.slow
def test_the_same_tree_gives_the_same_bytes_by_either_way(tmp_path: Path) -> None:
    """Written from files, and from another blob of the same tar."""
    tree = a_tree(tmp_path)
    one, answer = make(tmp_path, tree, "one")
    two, _ = make(tmp_path, tree, "two")
    plain = tmp_path / "plain"
    of_plain = layer_job(WorkerCall(), str(tree), BlobOrder(str(plain), "zstd"))
    order = BlobOrder(str(tmp_path / "three"), "estargz")
    again = recompress_job(WorkerCall(), str(plain), of_plain.diff_id, 1 << 30, order)
    assert one == two == (tmp_path / "three").read_bytes()
    assert again == answer
    other, _ = make(tmp_path, tree, "nine", level=9)
    assert gzip.decompress(other)[:BEFORE_TOC] == gzip.decompress(one)[:BEFORE_TOC]
    assert other != one


BEFORE_TOC = 3 * CHUNK


@root_only
def test_devices_and_attributes_are_in_the_table(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "f").write_bytes(b"1")
    os.setxattr(tree / "f", "user.note", b"\xff\x00")
    os.mknod(tree / "null", 0o20600, os.makedev(1, 3))
    os.mknod(tree / "gone", 0o20000, os.makedev(0, 0))
    blob, _ = make(tmp_path, tree)
    entries = {entry["name"]: entry for entry in json.loads(table(blob)[1])["entries"]}
    assert base64.b64decode(entries["f"]["xattrs"]["user.note"]) == b"\xff\x00"
    assert (entries["null"]["type"], entries["null"]["devMajor"], entries["null"]["devMinor"]) == (
        "char",
        1,
        3,
    )
    assert entries[".wh.gone"]["type"] == "reg"


def test_a_file_of_the_tables_name_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "stargz.index.json").write_text("{}")
    with pytest.raises(EnvironmentFault, match=r"has a file stargz\.index\.json"):
        make(tmp_path, tree)
    assert sorted(os.listdir(tmp_path)) == ["tree"]


def test_many_entries_without_content_are_not_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estargz, "CHUNK", 4096)
    tar = b"".join(tarformat.entry(b"d%d/" % n, b"5") for n in range(100)) + tarformat.END
    answer = estargz.pack(str(tmp_path / "out"), None, lambda out: out.write(tar), lambda _: None)
    blob = (tmp_path / "out").read_bytes()
    assert blob.count(b"\x1f\x8b\x08\0\0\0\0\0\0\xff") > 5
    assert len(json.loads(table(blob)[1])["entries"]) == 100
    assert answer.size == len(blob)


def test_the_footer_is_an_empty_member_of_51_bytes() -> None:
    assert len(footer(1 << 40)) == FOOTER_BYTES
    assert gzip.decompress(footer(12345)) == b""
