"""``compression=estargz``: images whose files can be fetched one by one [OUT-10, OUT-11]."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
TOC = "containerd.io/snapshot/stargz/toc.digest"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY a /a\nCOPY b /b\n", a="a", b="b")


def layers_of(layout: Path) -> list[dict[str, Any]]:
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    found = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text())
    if "manifests" in found:
        digest = found["manifests"][0]["digest"]
        found = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    layers: list[dict[str, Any]] = found["layers"]
    return layers


def build(pybuild: Pybuild, context: Path, dest: Path, *more: str, **flags: Any) -> list[Any]:
    output = ",".join(["type=oci", f"dest={dest}", "tar=false", *more])
    pybuild("build", "-o", output, *flags.get("words", ()), context)
    return layers_of(dest)


def test_layers_have_tables_and_plain_ones_are_not_touched(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    lazy = build(pybuild, context, tmp_path / "lazy", "compression=estargz")
    plain = build(pybuild, context, tmp_path / "plain")
    again = build(pybuild, context, tmp_path / "again", "compression=estargz")
    assert lazy == again
    assert all(TOC in layer["annotations"] for layer in lazy)
    assert {layer["mediaType"].rpartition("+")[2] for layer in lazy} == {"gzip"}
    assert not any("annotations" in layer for layer in plain)
    assert {layer["digest"] for layer in plain}.isdisjoint(layer["digest"] for layer in lazy)
    other = Pybuild(tmp_path / "other")
    assert build(other, context, tmp_path / "first", "compression=estargz") == lazy
    assert build(other, context, tmp_path / "then") == plain, "in either order"
    stamped = build(
        pybuild,
        context,
        tmp_path / "stamped",
        "compression=estargz",
        "rewrite-timestamp=true",
        words=["--build-arg", "SOURCE_DATE_EPOCH=1700000000"],
    )
    assert all(TOC in layer["annotations"] for layer in stamped)


def test_the_image_checks_and_can_be_built_on(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    output = "type=image,name=example.test/lazy:1,compression=estargz"
    pybuild("build", "-o", output, context)
    pybuild("inspect", "--check", "example.test/lazy:1")
    upper = write(tmp_path / "upper", Dockerfile="FROM example.test/lazy:1\nCOPY c /c\n", c="c")
    layout = f"type=oci,dest={tmp_path}/upper-layout,tar=false,name=example.test/upper:1"
    tree = f"type=local,dest={tmp_path}/tree"
    pybuild("build", "-o", layout, "-o", tree, upper)
    layers = layers_of(tmp_path / "upper-layout")
    assert [TOC in layer.get("annotations", {}) for layer in layers] == [True, True, False]
    assert (tmp_path / "tree/b").read_text() == "b"
    forced = "type=oci,dest={},tar=false,compression=estargz,force-compression=true"
    pybuild("build", "-o", forced.format(tmp_path / "forced"), upper)
    assert layers_of(tmp_path / "forced")[:2] == layers[:2], "those that have one keep it"
    if shutil.which("umoci"):
        bundle = [str(tmp_path / "bundle"), *([] if os.geteuid() == 0 else ["--rootless"])]
        image = f"{tmp_path}/upper-layout:1"
        subprocess.run(["umoci", "unpack", "--image", image, *bundle], check=True, timeout=60)
        assert (tmp_path / "bundle/rootfs/a").read_text() == "a"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("type=docker,dest=x.tar,compression=estargz", "estargz needs oci-mediatypes=true"),
        ("type=oci,dest=x.tar,compression=estargz,compression-level=10", "expected 0 to 9"),
        ("type=oci,dest=x.tar,compression=stargz", "one of estargz, gzip, uncompressed, zstd"),
    ],
)
def test_what_cannot_be_is_said(
    pybuild: Pybuild, context: Path, attributes: str, message: str
) -> None:
    assert message in pybuild("build", "-o", attributes, context, code=2).err
