"""Outputs that hold several platforms [OUT-3, OUT-5, OUT-6, OUT-13]."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.host import native_platform
from tests.e2e.test_epoch import layout
from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """\
FROM scratch
ARG TARGETARCH TARGETPLATFORM
LABEL target=$TARGETPLATFORM
COPY $TARGETARCH /whoami
"""
PLATFORMS = "windows/amd64,linux/arm,linux/s390x"
FOLDERS = ["linux_arm_v7", "linux_s390x", "windows_amd64"]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile=DOCKERFILE, amd64="64", arm="arm", s390x="390")


def test_a_directory_for_each(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-5, REP-2."""
    words: list[str | Path] = [
        "--platform",
        PLATFORMS,
        "--build-arg",
        "SOURCE_DATE_EPOCH=5",
        context,
    ]
    pybuild("build", "-o", tmp_path / "out", *words)
    found = {p.name: (p / "whoami").read_text() for p in (tmp_path / "out").iterdir()}
    assert found == {"linux_arm_v7": "arm", "linux_s390x": "390", "windows_amd64": "64"}
    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {5}


def test_one_directory_for_all(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-5: without the same file twice."""
    dest = f"type=local,dest={tmp_path}/out,platform-split=false"
    words: list[str | Path] = ["--platform", "linux/amd64,linux/arm64", "-o", dest]
    write(context, arm64="arm64")
    error = pybuild("build", *words, context, code=1).err
    assert (
        "cannot overwrite whoami from linux/amd64 with linux/arm64 "
        "when split option is disabled" in error
    )
    assert not list((tmp_path / "out").iterdir())
    text = DOCKERFILE.replace("/whoami", "/d/$TARGETARCH")
    write(context, Dockerfile=text)
    pybuild("build", *words, context)
    assert sorted(p.name for p in (tmp_path / "out/d").iterdir()) == ["amd64", "arm64"]


def test_a_tar_has_a_directory_for_each(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-6."""
    dest = f"type=tar,dest={tmp_path}/out.tar"
    pybuild("build", "--platform", PLATFORMS, "-o", dest, context)
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = [name for folder in FOLDERS for name in (folder, f"{folder}/whoami")]
        assert tar.getnames() == names
        member = tar.extractfile("windows_amd64/whoami")
        assert member is not None and member.read() == b"64"


def test_an_index_names_them_in_order(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-13, IMG-19: with the version of an operating system that has one."""
    words: list[str | Path] = [
        "--platform",
        "windows(10.0.20348.1)/amd64,linux/arm/v6,linux/s390x",
        context,
    ]
    write(context, arm="v6")
    found = layout(pybuild, tmp_path / "out", *words)
    shown = [entry["platform"] for entry in found.top["manifests"]]
    assert shown == [
        {"architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1"},
        {"architecture": "arm", "os": "linux", "variant": "v6"},
        {"architecture": "s390x", "os": "linux"},
    ]
    configs: list[dict[str, Any]] = [
        found.read(found.read(entry["digest"])["config"]["digest"])
        for entry in found.top["manifests"]
    ]
    for platform, config in zip(shown, configs, strict=True):
        assert {key: config[key] for key in platform} == platform
    assert configs[-1]["config"]["Labels"] == {"target": "linux/s390x"}


def test_one_platform_as_one_of_several(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """OUT-13."""
    words: list[str | Path] = [
        "--build-arg",
        "BUILDKIT_MULTI_PLATFORM=1",
        "--platform",
        "linux/s390x",
        context,
    ]
    found = layout(pybuild, tmp_path / "layout", *words)
    assert [entry["platform"]["architecture"] for entry in found.top["manifests"]] == ["s390x"]
    pybuild("build", "-o", tmp_path / "out", *words)
    assert (tmp_path / "out/linux_s390x/whoami").exists()
    plain = f"type=local,dest={tmp_path}/plain,platform-split=true"
    pybuild("build", "--platform", "linux/s390x", "-o", plain, context)
    assert (tmp_path / "plain/linux_s390x/whoami").exists()


def test_several_names_in_a_layout(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """IMG-21, OUT-18."""
    dest = f'type=oci,tar=false,dest={tmp_path}/out,"name=org/repo:tag1,org/repo:tag2"'
    pybuild("build", "--platform", "linux/s390x", "-o", dest, context)
    entries = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    names = [entry["annotations"]["io.containerd.image.name"] for entry in entries]
    assert names == ["docker.io/org/repo:tag1", "docker.io/org/repo:tag2"]
    assert entries[0]["digest"] == entries[1]["digest"]


def test_a_directory_may_hold_the_result_alone(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    """OUT-17: for who allows it; platforms that are no more go as well."""
    out = tmp_path / "out"
    words: list[str | Path] = ["-o", f"type=local,dest={out},mode=delete", context]
    write(out, **{"linux_riscv64/whoami": "old", "linux_s390x/more": "old", "file": "old"})
    error = pybuild("build", "--platform", PLATFORMS, *words, code=2).err
    assert f"output mode=delete removes what is not in the result from {out}" in error
    assert "--allow buildx.local.delete" in error
    words = ["--allow", "buildx.local.delete", *words]
    pybuild("build", "--platform", PLATFORMS, *words)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert found == sorted([*FOLDERS, *(f"{folder}/whoami" for folder in FOLDERS)])
    pybuild("build", "--platform", "linux/s390x", *words)
    assert [path.name for path in out.iterdir()] == ["whoami"]
    shared = f"type=local,dest={out},mode=delete,platform-split=false"
    words = ["--platform", PLATFORMS, "--allow", "buildx.local.delete", "-o", shared, context]
    assert 'mode "delete" needs a directory' in pybuild("build", *words, code=2).err
    wrong = f"type=local,dest={out},mode=move"
    assert 'output mode "move": expected copy or delete' in (
        pybuild("build", "-o", wrong, context, code=2).err
    )


def test_a_base_of_another_platform_is_told_for_each_platform(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """Only the first of several platforms was looked at, and images of the others were mislabelled in silence."""
    here = str(native_platform())
    other = "linux/s390x"
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {base}\nLABEL a=b\n")
    said = f'Base image {base} was pulled with platform "{here}", expected "{other}"'
    for platforms in (f"{here},{other}", f"{other},{here}", other):
        done = pybuild("build", "--platform", platforms, context)
        assert done.err.count(said) == 1
    assert said not in pybuild("build", context).err
