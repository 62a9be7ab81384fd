"""Steps that trade a directory of a cache for a link while another step's mounts are prepared [MNT-14]."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import Pybuild, make_base, write

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

_TRADES = (
    "i=0; while [ $i -lt 150 ];"
    " do rm -rf /c/place; ln -s {link} /c/place; rm -f /c/place; mkdir /c/place;"
    " i=$((i+1)); done; rm -rf /c/place; ln -s {link} /c/place"
)


@pytest.fixture(scope="module")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path_factory.mktemp("base")
    made = Pybuild(where / "store")
    make_base(made, where / "context", "base")
    return made.store


@pytest.mark.parametrize("inner", ["secret", "bind", "cache", "tmpfs"])
@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_a_mount_inside_a_cache_lands_in_no_directory_of_the_host(
    base_store: Path, tmp_path: Path, sharing: str, inner: str
) -> None:
    """However the links that are traded lead out; two builds do it to a third at once."""
    store = tmp_path / "store"
    subprocess.run(["cp", "-a", base_store, store], check=True, timeout=60)
    pybuild = Pybuild(store)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    (outside / "canary").write_text("canary")
    before = sorted(os.listdir(outside)), outside.stat().st_mtime_ns
    cache = f"--mount=type=cache,id=x,sharing={sharing},target=/c"
    mount = {
        "secret": "--mount=type=secret,id=s,target=/c/place/s",
        "bind": "--mount=type=bind,source=f,target=/c/place/s",
        "cache": "--mount=type=cache,id=y,target=/c/place/s",
        "tmpfs": "--mount=type=tmpfs,target=/c/place/s",
    }[inner]
    links = (
        str(outside),
        "../../../../../../../.." + str(outside),
        "/proc/self/root" + str(outside),
    )
    lines = [
        f"FROM base AS t{n}\nARG again\nRUN {cache} {_TRADES.format(link=link)}"
        for n, link in enumerate(links)
    ]
    lines.append("FROM base AS victim\nARG again")
    # Where the link leads is the step's own affair: a missing target is an error of its own.
    lines += [f"RUN {cache} {mount} echo {n} > /c/n; cat /c/place/s; true" for n in range(8)]
    lines += ["FROM base"] + [f"COPY --from=t{n} /etc /t{n}" for n in range(len(links))]
    lines.append("COPY --from=victim /etc /victim")
    context = write(tmp_path / "context", Dockerfile="\n".join(lines) + "\n", f="f")
    (tmp_path / "s").write_text("s3cr3t")
    for again in "12":  # the second time the caches have what the first one left
        words = ("--secret", f"id=s,src={tmp_path}/s", "--build-arg", f"again={again}")
        done = pybuild("build", *words, context, code=None)
        assert "RUN --mount=type=cache" in done.err
        assert (sorted(os.listdir(outside)), outside.stat().st_mtime_ns) == before
    found = [
        path
        for path in (store / "mounts").rglob("*")
        if path.is_file() and not path.is_symlink() and b"s3cr3t" in path.read_bytes()
    ]
    assert found == []
