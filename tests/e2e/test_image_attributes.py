"""Attributes of an image output: annotations, compression of all layers, pushing by digest."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_epoch import Layout, layout
from tests.harness import Pybuild, write
from tests.needs import need
from tests.services import RegistryProcess, start_registry

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile="FROM scratch\nLABEL a=label\nCOPY f /f\n", f="f")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    need("docker-registry")
    with start_registry(tmp_path / "registry") as process:
        yield process


def test_annotations_of_one_platform(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-14, BLD-17: a label is no annotation."""
    words = ["--annotation", "org.x/Case=1", "--annotation", "manifest-descriptor:b=2"]
    found = layout(pybuild, tmp_path / "out", *words, context)
    assert found.top["annotations"] == {"org.x/Case": "1"}
    assert found.entry["annotations"]["b"] == "2"
    error = pybuild("build", "--annotation", "index:a=1", context, code=2).err
    assert "index annotations not supported for single platform export" in error
    words = ["--annotation", "a=1", "-o", f"type=local,dest={tmp_path}/tree"]
    assert "needs an output that is an image" in pybuild("build", *words, context, code=2).err
    words = ["--annotation", "a=1", "-o", "type=image,oci-mediatypes=false"]
    assert "annotations need OCI media types" in pybuild("build", *words, context, code=2).err


def test_annotations_of_several_platforms(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-13, OUT-14: what is said of one platform wins over what is said of all."""
    attrs = (
        ",annotation-index.i=1,annotation-index-descriptor.d=2,annotation.m=all"
        ",annotation-manifest[linux/arm64].m=arm,annotation-manifest-descriptor[linux/amd64].e=3"
        ",annotation-manifest[linux/s390x].m=none"
    )
    words = ["--platform", "linux/amd64,linux/arm64", "--progress", "plain"]
    found = layout(pybuild, tmp_path / "out", *words, context, attrs=attrs)
    assert found.top["annotations"] == {"i": "1"}
    assert found.entry["annotations"]["d"] == "2"
    amd64, arm64 = found.top["manifests"]
    assert amd64["annotations"] == {"e": "3"}
    assert "annotations" not in arm64
    assert found.read(amd64["digest"])["annotations"] == {"m": "all"}
    assert found.read(arm64["digest"])["annotations"] == {"m": "arm"}


def test_a_cached_build_keeps_its_annotations(pybuild: Pybuild, context: Path) -> None:
    """The memo of a build is that of its annotations, too."""

    def annotated(value: str) -> object:
        pybuild("build", "-t", "app", "--annotation", f"a={value}", context)
        shown = json.loads(pybuild("inspect", "--oci", "app").out)
        return shown["manifest"]["annotations"]

    assert [annotated("1"), annotated("2"), annotated("1")] == [{"a": "1"}, {"a": "2"}, {"a": "1"}]


def test_layers_of_the_base_in_another_compression(
    pybuild: Pybuild, tmp_path: Path, context: Path, registry: RegistryProcess
) -> None:
    """OUT-10: only when it is asked for; the diffIDs stay, and so does what the config says."""
    name = f"{registry.host}/base:1"
    pybuild("build", "-t", name, "--push", context)
    top = write(tmp_path / "top", Dockerfile=f"FROM {name}\nCOPY g /g\n", g="g")
    other = Pybuild(tmp_path / "other")
    kept = layout(other, tmp_path / "kept", top, attrs=",compression=zstd")
    forced = layout(
        other, tmp_path / "forced", top, attrs=",compression=zstd,force-compression=true"
    )
    again = layout(other, tmp_path / "again", top, attrs=",compression=zstd,force-compression=true")

    def kinds(found: Layout) -> list[str]:
        return [layer["mediaType"].rpartition("+")[2] for layer in found.top["layers"]]

    assert kinds(kept) == ["gzip", "zstd"]
    assert kinds(forced) == ["zstd", "zstd"]
    assert again.top == forced.top
    assert kept.config["rootfs"] == forced.config["rootfs"]
    gzip = layout(other, tmp_path / "gzip", top, attrs=",force-compression=true")
    assert gzip.top["layers"][0] == kept.top["layers"][0]


def test_an_image_that_only_its_digest_names(
    pybuild: Pybuild, context: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    """OUT-12: what each machine of a fleet pushes before somebody makes the index."""
    output = (
        f"type=image,name={registry.host}/app,push=true,push-by-digest=true,name-canonical=true"
    )
    meta = tmp_path / "meta.json"
    pybuild("build", "-o", output, "--metadata-file", meta, context)
    digest = json.loads(meta.read_text())["containerimage.digest"]
    url = f"http://{registry.host}/v2/app"
    wanted = urllib.request.Request(f"{url}/manifests/{digest}", headers={"Accept": MANIFEST})
    with urllib.request.urlopen(wanted, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    assert found["layers"]
    with pytest.raises(urllib.error.HTTPError, match="404"):  # what a repository without tags says
        urllib.request.urlopen(f"{url}/tags/list", timeout=60)
    assert json.loads(pybuild("inspect", "--oci", f"{registry.host}/app@{digest}").out)[
        "names"
    ] == [f"{registry.host}/app@{digest}"]
    tagged = output.replace("/app,", "/app:1,")
    assert "can't push tagged ref" in pybuild("build", "-o", tagged, context, code=2).err
