"""Two images are compared down to the byte, whatever the layers are compressed with."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Literal

import pytest

from pybuild.image.compare import compare_layouts

Entries = dict[str, bytes | dict[str, Any]]


def layer(entries: Entries, mode: Literal["w", "w:gz"] = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            facts: dict[str, Any] = {"data": what} if isinstance(what, bytes) else what
            data: bytes = facts.get("data", b"")
            info.size = len(data)
            for key in facts.keys() - {"data"}:
                setattr(info, key, facts[key])
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def layout(where: Path, *layers: bytes, config: dict[str, Any] | None = None) -> str:
    folder = where / "blobs/sha256"
    folder.mkdir(parents=True)

    def put(data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
        return "sha256:" + name

    history = [{"created_by": "LABEL x", "empty_layer": True}]
    history += [{"created_by": f"RUN {n}"} for n in range(len(layers))]
    written = {"history": history, **(config or {})}
    manifest = {
        "config": {"digest": put(json.dumps(written).encode())},
        "layers": [{"digest": put(data)} for data in layers],
    }
    entry = {"digest": put(json.dumps(manifest).encode())}
    (where / "index.json").write_text(json.dumps({"manifests": [entry]}))
    return str(where)


def compare(tmp_path: Path, one: str, other: str) -> list[tuple[Any, ...]]:
    return [
        (one.step, one.what, one.path, one.was, one.now, one.offset)
        for one in compare_layouts(one, other)
    ]


def test_equal_images_differ_in_nothing(tmp_path: Path) -> None:
    one = layout(tmp_path / "1", layer({"f": b"x"}))
    assert compare(tmp_path, one, layout(tmp_path / "2", layer({"f": b"x"}))) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_first_byte_that_differs_is_found(tmp_path: Path, mode: Literal["w", "w:gz"]) -> None:
    same = layer({"same": b"s"})
    big = bytes(3 << 20)
    one = layout(tmp_path / "1", same, layer({"f": big + b"one"}, mode))
    other = layout(tmp_path / "2", same, layer({"f": big + b"oh"}, mode))
    assert compare(tmp_path, one, other) == [
        ("RUN 1", "content", "f", "'ne'", "'h'", (3 << 20) + 1)
    ]


def test_what_else_a_file_has_is_told(tmp_path: Path) -> None:
    one = layer({"gone": b"", "f": {"mode": 0o644, "uid": 0, "mtime": 1}, "t": {"data": b"ab"}})
    other = layer({"f": {"mode": 0o600, "uid": 5, "mtime": 2}, "new": b"", "t": {"data": b"a"}})
    found = compare(tmp_path, layout(tmp_path / "1", one), layout(tmp_path / "2", other))
    assert [item[1:5] for item in found] == [
        ("mode", "f", "0644", "0600"),
        ("uid", "f", "0", "5"),
        ("mtime", "f", "1", "2"),
        ("only in the first", "gone", "yes", None),
        ("only in the second", "new", None, "yes"),
        ("content", "t", "'b'", "the end"),
    ]


def test_the_same_files_in_another_order_are_no_other_files(tmp_path: Path) -> None:
    one = layout(tmp_path / "1", layer({"a": b"", "b": b""}))
    other = layout(tmp_path / "2", layer({"b": b"", "a": b""}))
    assert [item[:2] for item in compare(tmp_path, one, other)] == [("RUN 0", "order or padding")]


def test_the_config_is_told_by_its_fields(tmp_path: Path) -> None:
    one = layout(tmp_path / "1", config={"config": {"Env": ["A=1"], "User": "a"}, "rootfs": 1})
    other = layout(tmp_path / "2", config={"config": {"Env": ["A=2"]}, "rootfs": 2})
    assert [item[1:5] for item in compare(tmp_path, one, other)] == [
        ("config", "config.Env[0]", '"A=1"', '"A=2"'),
        ("config", "config.User", '"a"', None),
    ]
