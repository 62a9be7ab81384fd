"""Images that lost their name or never had one go; what was built last stays [STO-2, GC-4]."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from pybuild.cache.content.images import reach
from pybuild.cache.disk.extent import measure
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.settings import load_settings
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.reference import Reference
from tests.daemon.buildsites import daemon
from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

LARGE = "FROM base\nARG V\nRUN echo $V > /v && busybox dd if=/dev/urandom of=/f bs=1M count=3\n"
MB = 1_000_000


def image_ids(pybuild: Pybuild) -> list[str]:
    return pybuild("images", "-q", "--no-trunc").out.split()


def test_builds_under_one_name_leave_one_image(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile=LARGE)
    for _ in range(3):
        pybuild("build", "-q", "--no-cache", "-t", "same:1", context)
    before = measure(str(pybuild.store))
    out = pybuild("image", "prune", "-f").out
    assert out.count("Deleted: sha256:") == 2
    assert before - measure(str(pybuild.store)) > 6 * MB
    assert "Total:\t6." in out
    assert len(image_ids(pybuild)) == 2
    pybuild("prune", "-af")
    assert measure(str(pybuild.store)) < 12 * MB
    pybuild("run", "--rm", "same:1", "test", "-f", "/f")


def test_a_result_without_a_name_can_be_used_until_the_next_build(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=LARGE)
    first = pybuild("build", "-q", "--build-arg", "V=1", context).out.strip()
    pybuild("prune", "-af")
    pybuild("run", "--rm", first, "test", "-f", "/f")
    assert pybuild("inspect", "--check", first).code == 0
    first = pybuild("build", "-q", "--build-arg", "V=1", context).out.strip()  # its steps are gone
    second = pybuild("build", "-q", "--build-arg", "V=2", context).out.strip()
    # Answered from the cache, and the last result all the same.
    assert pybuild("build", "-q", "--build-arg", "V=1", context).out.strip() == first
    pybuild("prune", "-f")
    assert first in image_ids(pybuild)
    assert second not in image_ids(pybuild)
    assert pybuild("build", "-q", "--build-arg", "V=1", context).out.strip() == first
    shown = pybuild("why-kept", first).out
    assert f"last of     {context}\n" in shown
    assert "kept until  the next build\n" in shown
    gone = pybuild("run", second, "true", code=125).err
    assert f"error: no such image: {second}\nhint: " in gone


def test_what_runs_stays_though_its_name_and_its_place_are_taken(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=LARGE)
    pybuild("build", "-q", "-t", "app", context)
    command = pybuild.command(
        "run", "--rm", "-i", "app", "sh", "-c", "echo up; cat; busybox wc -c < /f"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=pybuild.environment, stdin=pipe, stdout=pipe) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        pybuild("build", "-q", "--no-cache", "-t", "app", context)
        pybuild("prune", "-af")
        pybuild("image", "prune", "-f")
        out, _ = running.communicate(b"\n", timeout=60)
        assert out.split() == [b"3145728"]
    assert len(image_ids(pybuild)) == 3, "a container had it"
    pybuild("image", "prune", "-f")
    assert len(image_ids(pybuild)) == 2


def test_a_base_stays_while_it_is_built_on_whoever_takes_its_name(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=LARGE)
    pybuild("build", "-q", "-t", "app", context)

    async def build_on_it() -> None:
        async with Engine(load_settings(root=str(pybuild.store))) as engine:
            request = ImageRequest(Reference.parse("app"), native_platform())
            found = await engine.images.resolve(request, pull=False)
            for words in (("build", "-q", "--no-cache", "-t", "app", context), ("prune", "-af")):
                await asyncio.to_thread(pybuild, *words)
            parts: set[str] = set()
            reach(engine.store.blobs, [found.digest], parts)
            assert len(parts) == 4
            assert all(map(engine.store.blobs.has, parts))
            assert "Deleted" not in (await asyncio.to_thread(pybuild, "image", "prune", "-f")).out

    asyncio.run(build_on_it())
    assert "Deleted" in pybuild("image", "prune", "-f").out


def test_image_prune_asks_and_knows_its_filters(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN true\n")
    pybuild("build", "-q", context)
    assert "prune asks before it deletes" in pybuild("image", "prune", code=2).err
    assert 'unknown filter "label=a"' in pybuild(
        "image", "prune", "-f", "--filter", "label=a", code=2
    ).err  # fmt: skip
    assert 'unknown command "image no"' in pybuild("image", "no", code=2).err
    assert pybuild("image", "prune", "-f").out == "Total:\t0B\n"
    assert pybuild("image", "prune", "-af", "--filter", "until=1h").out == "Total:\t0B\n"
    out = pybuild("image", "prune", "-f", "--filter", "dangling=false").out
    assert out.count("Deleted: ") == 2
    assert "Untagged: docker.io/library/base:latest\n" in out
    assert image_ids(pybuild) == []


def test_a_server_frees_what_clients_left_without_a_name(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY data /\n")
    with daemon(pybuild, tmp_path) as server:
        for name in ("", "", ",name=same:1", ",name=same:1"):
            (context / "data").write_bytes(os.urandom(3 * MB))
            pybuild("-H", server.address, "build", "-q", "-o", f"type=image{name}", context)
        assert len(image_ids(pybuild)) == 4
        pybuild("-H", server.address, "prune", "-f")
        assert len(image_ids(pybuild)) == 1
        assert measure(str(pybuild.store)) < 9 * MB
