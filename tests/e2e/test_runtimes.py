"""A build whose steps an OCI runtime runs is the same build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import Pybuild, write
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

STEPS = """
RUN addgroup -S web 2>/dev/null; echo "web:x:70:70::/srv:/bin/sh" >> /etc/passwd; \\
    mkdir -p /srv/a /srv/b; echo hi > /srv/a/f; ln /srv/a/f /srv/b/hard; ln -s f /srv/a/soft; \\
    chown -R 70:70 /srv/a; chmod 2755 /srv/b; mkfifo /srv/p; mknod /srv/dev c 5 1
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch \\
    --mount=type=secret,id=s,target=/run/s touch /cache/x /scratch/y; cat /run/s | wc -c > /len; rm /etc/passwd
USER 70
WORKDIR /srv/a/deep
RUN id -u > who
"""


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_the_image_is_the_same(pybuild: Pybuild, base: str, tmp_path: Path, runtime: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need(runtime)
    (tmp_path / "s").write_text("secret")
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\n{STEPS}")
    made: list[bytes] = []
    for options in ([], ["--runtime", runtime]):
        out = tmp_path / "image.tar"
        done = pybuild(
            *("build", "--no-cache", "--progress=plain", *options),
            *(f"--secret=id=s,src={tmp_path}/s", "--build-arg=SOURCE_DATE_EPOCH=1"),
            *(f"--output=type=oci,dest={out},rewrite-timestamp=true", context),
        )
        made.append(out.read_bytes())
        assert ("steps are run by" in done.err) == bool(options)
    assert made[0] == made[1]


def test_the_configuration_may_name_one(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """The key that buildkitd.toml has."""
    config = tmp_path / "config.toml"
    config.write_text('[worker.oci]\nbinary = "/no/such/runtime"\n')
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    done = pybuild("--config", str(config), "build", context, code=3)
    assert 'OCI runtime "/no/such/runtime": not found' in done.err
    assert "--runtime" in done.err
