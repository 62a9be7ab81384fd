"""``imagetools``: images joined, copied and looked at where they are [CMD-7, CMD-8]."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.reference import Reference
from pybuild.registry.client.client import Client
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.registry.fakes import DirectoryBlobs, WallClock
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with start_registry(tmp_path_factory.mktemp("registry")) as process:
        yield process


@pytest.fixture
def context(tmp_path: Path) -> Path:
    text = "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n"
    return write(tmp_path / "ctx", Dockerfile=text, f="f" * 1000)


def push(pybuild: Pybuild, context: Path, name: str, platform: str, *words: str) -> str:
    """Build and push one platform as a fleet does: by digest."""
    meta = context / f"{platform.replace('/', '-')}.json"
    output = f"type=image,name={name},push=true,push-by-digest=true"
    flags = ["--platform", platform, "--metadata-file", str(meta), *words]
    pybuild("build", "-o", output, *flags, context)
    return str(json.loads(meta.read_text())["containerimage.digest"])


def inspect(pybuild: Pybuild, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        pybuild("imagetools", "inspect", "--format", "json", name).out
    )
    return found


def test_an_index_of_what_others_pushed(
    pybuild: Pybuild, context: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    app = f"{registry.host}/app"
    amd64 = push(pybuild, context, app, "linux/amd64")
    arm64 = push(pybuild, context, app, "linux/arm64")
    words = ["-t", f"{app}:1", "-t", f"{registry.host}/other:2", f"{app}@{amd64}", f"{app}@{arm64}"]
    dry = json.loads(pybuild("imagetools", "create", "--dry-run", *words).out)
    assert [entry["digest"] for entry in dry["manifests"]] == [amd64, arm64]
    meta = tmp_path / "meta.json"
    notes = ["--annotation", "index:i=1", "--annotation", "manifest-descriptor[linux/arm64]:d=2"]
    pybuild("imagetools", "create", *notes, "--metadata-file", meta, *words)
    digest = json.loads(meta.read_text())["containerimage.digest"]
    for name in (f"{app}:1", f"{registry.host}/other:2"):
        found = inspect(pybuild, name)
        assert found["manifest"]["digest"] == digest
        assert found["manifest"]["annotations"] == {"i": "1"}
        assert found["manifest"]["manifests"][1]["annotations"] == {"d": "2"}
        assert set(found["image"]) == {"linux/amd64", "linux/arm64"}
    if shutil.which("skopeo"):
        source = f"docker://{registry.host}/other:2"
        command = ["skopeo", "inspect", "--tls-verify=false", "--override-arch=arm64", source]
        seen = json.loads(
            subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
        )
        assert seen["Labels"] == {"arch": "arm64"}


def test_more_is_added_and_what_is_given_again_is_replaced(
    pybuild: Pybuild, context: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    app = f"{registry.host}/append"
    old = push(pybuild, context, app, "linux/amd64")
    arm64 = push(pybuild, context, app, "linux/arm64")
    pybuild("imagetools", "create", "-t", f"{app}:1", f"{app}@{old}", f"{app}@{arm64}")
    new = push(pybuild, context, app, "linux/amd64", "--label", "new=1")
    described = tmp_path / "new.json"
    entry = next(
        entry
        for entry in json.loads(pybuild("imagetools", "create", "--dry-run", f"{app}@{new}").out)[
            "manifests"
        ]
    )
    described.write_text(json.dumps(entry))
    pybuild("imagetools", "create", "--append", "-t", f"{app}:1", "-f", described)
    manifests = inspect(pybuild, f"{app}:1")["manifest"]["manifests"]
    assert {entry["digest"] for entry in manifests} == {arm64, new}
    pybuild("imagetools", "create", "-t", f"{app}:arm", "--platform", "linux/arm64", f"{app}:1")
    manifests = inspect(pybuild, f"{app}:arm")["manifest"]["manifests"]
    assert [entry["digest"] for entry in manifests] == [arm64]
    lone = ["--prefer-index=false", "-t", f"{app}:lone", f"{app}@{new}"]
    pybuild("imagetools", "create", *lone)
    assert inspect(pybuild, f"{app}:lone")["manifest"]["digest"] == new


def test_copies_keep_every_digest_and_what_is_attested(
    pybuild: Pybuild, context: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    name = f"{registry.host}/attested:1"
    platforms = "linux/amd64,linux/arm64"
    pybuild("build", "--platform", platforms, "--provenance=true", "-t", name, "--push", context)
    root = inspect(pybuild, name)["manifest"]["digest"]
    layout = f"oci-layout://{tmp_path}/layout:v1"
    back = f"{registry.host}/deep/copy:2"
    other = Pybuild(tmp_path / "other")
    other("imagetools", "copy", name, layout, f"{registry.host}/near:1")
    other("imagetools", "copy", layout, back)
    for copied in (layout, back, f"{registry.host}/near:1"):
        found = inspect(other, copied)
        assert found["manifest"]["digest"] == root
        assert set(found["provenance"]) == {"linux/amd64", "linux/arm64"}
        assert "SLSA" in found["provenance"]["linux/arm64"]
    assert "blobs/uploads/?from=attested&mount=" in registry.log.read_text() or (
        "mount=sha256" in registry.log.read_text()
    )
    one = f"oci-layout://{tmp_path}/one"
    other("imagetools", "copy", "--platform", "linux/arm64", back, one)
    shown = other("imagetools", "inspect", "--format", "{{.Image.architecture}}", one).out
    assert shown == "arm64\n"
    error = other("imagetools", "copy", "--platform", "linux/s390x", back, one, code=1).err
    assert "no match for platform linux/s390x" in error


def test_what_refers_to_an_image_goes_along_and_can_be_seen(
    pybuild: Pybuild, context: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    """[end-12a], at a registry without the endpoint, and through a layout."""
    name = f"{registry.host}/referred:1"
    pybuild("build", "-t", name, "--push", context)
    root = inspect(pybuild, name)["manifest"]
    subject = {key: root[key] for key in ("mediaType", "digest", "size")}
    signature = refer(registry.host, "referred", "example/signature", subject)
    note = refer(registry.host, "referred", "example/note", signature)
    other = Pybuild(tmp_path / "other")
    layout = f"oci-layout://{tmp_path}/layout:1"
    back = f"{registry.host}/referred-copy:2"
    other("imagetools", "copy", "--referrers", name, layout)
    other("imagetools", "copy", "--referrers", layout, back)
    for copied in (name, layout, back):
        done = other("imagetools", "inspect", "--referrers", "--format", "json", copied)
        [found] = json.loads(done.out)[root["digest"]]
        assert found["digest"] == signature["digest"]
        assert found["artifactType"] == "example/signature"
    by_digest = f"{registry.host}/referred-copy@{signature['digest']}"
    text = other("imagetools", "inspect", "--referrers", by_digest).out
    assert f"Referrers of {signature['digest']}:\n  Digest:       {note['digest']}" in text
    assert "ArtifactType: example/note" in text
    last = f"{registry.host}/referred-copy@{note['digest']}"
    assert "Nothing refers to it" in other("imagetools", "inspect", "--referrers", last).out

    assert other("imagetools", "rm", last).out == f"Deleted: {last}\n"
    assert "Nothing refers to it" in other("imagetools", "inspect", "--referrers", by_digest).out
    assert f"delete {last}: not found" in other("imagetools", "rm", last, code=1).err
    assert other("imagetools", "rm", "--force", last).out == ""
    assert "no tags may delete NAME@DIGEST" in other("imagetools", "rm", back, code=3).err


def refer(host: str, path: str, kind: str, subject: dict[str, Any]) -> dict[str, Any]:
    """Push an artifact about *subject* as a client of the old kind does: with its tag."""
    blobs = DirectoryBlobs(Path(tempfile.mkdtemp()))
    empty = Descriptor("application/vnd.oci.empty.v1+json", blobs.put(b"{}"), 2)
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": empty.to_json(),
        "layers": [empty.to_json()],
        "subject": subject,
    }

    async def push() -> dict[str, Any]:
        at = Reference(host, path)
        async with Client(clock=WallClock()) as client:
            await client.push_blob(at, empty, blobs)
            made = await client.push_manifest(at, OCI_MANIFEST, json.dumps(body).encode())
        return made.to_json()

    return asyncio.run(push())


def test_what_is_shown(pybuild: Pybuild, context: Path, registry: RegistryProcess) -> None:
    name = f"{registry.host}/shown:1"
    pybuild("build", "--platform", "linux/amd64,linux/arm64", "-t", name, "--push", context)
    digest = inspect(pybuild, name)["manifest"]["digest"]
    lines = pybuild("imagetools", "inspect", name).out.splitlines()
    assert lines[0] == f"Name:      {name}"
    assert lines[2] == f"Digest:    {digest}"
    assert "  Platform:  linux/arm64" in lines
    raw = pybuild("imagetools", "inspect", "--raw", name).out
    assert len(json.loads(raw)["manifests"]) == 2

    def shown(template: str, code: int = 0) -> str:
        done = pybuild("imagetools", "inspect", "--format", template, name, code=code)
        return done.out.rstrip("\n") if code == 0 else done.err

    assert shown("{{.Name}} {{.Manifest.Digest}}") == f"{name} {digest}"
    assert json.loads(shown("{{json .Manifest}}"))["digest"] == digest
    assert json.loads(shown('{{json (index .Image "linux/arm64")}}'))["architecture"] == "arm64"
    assert 'nothing is called "Nope"' in shown("{{.Nope}}", code=2)
    assert "it has no {{end}}" in shown("{{range .}}", code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "x"], "a name for the index is needed"),
        (["create", "-t", "x"], "no sources specified"),
        (["create", "-t", "x", "--annotation", "a=1", "y"], "an image that exists cannot be"),
        (["frob"], 'unknown command "imagetools frob"'),
        (["copy", "x"], "expects SOURCE TARGET"),
        (["rm", "ghcr.io/a/b"], "a tag or a digest is needed"),
        (["inspect", "UPPER"], "must be lowercase"),
    ],
)
def test_what_cannot_be_meant_is_said(pybuild: Pybuild, words: list[str], message: str) -> None:
    assert message in pybuild("imagetools", *words, code=2).err


def test_what_is_not_there_is_named(
    pybuild: Pybuild, registry: RegistryProcess, tmp_path: Path
) -> None:
    error = pybuild("imagetools", "inspect", f"{registry.host}/none:1", code=1).err
    assert f"{registry.host}/none:1: not found" in error
    error = pybuild("imagetools", "inspect", f"oci-layout://{tmp_path}/none", code=1).err
    assert "is no OCI layout directory" in error
    (tmp_path / "bad.json").write_text("{}")
    words = ["create", "-t", "x", "-f", str(tmp_path / "bad.json")]
    assert "is no descriptor" in pybuild("imagetools", *words, code=1).err
