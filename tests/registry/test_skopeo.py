"""Another program reads what we push, and we read what it pushes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pybuild.model.descriptor import DOCKER_MANIFEST
from pybuild.model.digest import Digest
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from tests.needs import needs
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, make_image, make_index
from tests.services import RegistryProcess

pytestmark = [
    pytest.mark.registry,
    needs("skopeo"),
]


def skopeo(*arguments: str, home: Path) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_skopeo_reads_what_we_pushed_and_we_read_what_it_pushed(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
    tmp_path: Path,
) -> None:
    arm = Platform.parse("linux/arm64")
    one, two = make_image(blobs, b"a" * 9000), make_image(blobs, b"b", platform=arm)
    index = make_index(blobs, one, two)
    ours = Reference.parse(f"{registry.host}/{repository}:ours")

    async def push() -> None:
        async with client() as c:
            await push_image(c, blobs, index, [ours])

    run(push())
    raw = skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{ours}", home=tmp_path
    ).encode()
    assert Digest.of(raw) == index.digest
    directory = tmp_path / "copy"
    skopeo(
        *("copy", "--all", "--src-tls-verify=false"),
        *(f"docker://{ours}", f"dir:{directory}"),
        home=tmp_path,
    )
    assert (directory / Digest.of(b"a" * 9000).hex).read_bytes() == b"a" * 9000

    theirs = Reference.parse(f"{registry.host}/{repository}-theirs:v2s2")
    skopeo(
        *("copy", "--format=v2s2", "--dest-tls-verify=false", "--src-tls-verify=false"),
        *("--override-os=linux", "--override-arch=amd64"),
        *(f"docker://{ours}", f"docker://{theirs}"),
        home=tmp_path,
    )

    async def pull() -> None:
        async with client() as c:
            image = await pull_image(c, other_blobs, theirs, LINUX_AMD64, layers=True)
            assert image.manifest.media_type == DOCKER_MANIFEST
            assert other_blobs.read(image.layers[0].digest) == b"a" * 9000
            assert json.loads(image.config_bytes)["architecture"] == "amd64"

    run(pull())
