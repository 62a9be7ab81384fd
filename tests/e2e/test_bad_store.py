"""Builds on a store that something happened to: a miss or a refusal [GC-8, STO-1].

Never a wrong result, never a traceback: `Pybuild` insists on the latter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, remove_store, write
from tests.stress.disks import ext4, why_not

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
needs_disks = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

DOCKERFILE = """\
FROM base
COPY in /in
RUN cat /in /in > /out
RUN cat /out /out > /more
"""


def context(tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile=DOCKERFILE, **{"in": "text\n"})


def built(pybuild: Pybuild, where: Path, out: Path, code: int | None = 0) -> str:
    """Build to a directory; return what it said. What is there is right, or nothing is."""
    done = pybuild("build", "--progress", "plain", "-o", f"type=local,dest={out}", where, code=code)
    if done.code == 0:
        assert (out / "more").read_text() == "text\n" * 4
    return done.err


def deltas(store: Path) -> list[Path]:
    return sorted((store / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)


def corrupt_database(store: Path) -> None:
    with open(store / "records" / "records.db", "r+b") as file:
        file.seek(100)
        file.write(os.urandom(8000))


def cut_database(store: Path) -> None:
    os.truncate(store / "records" / "records.db", 5000)


def lose_newest_snapshot(store: Path) -> None:
    remove_store(deltas(store)[-1])


def lose_all_snapshots(store: Path) -> None:
    for path in deltas(store):
        remove_store(path)


def put_foreign_files(store: Path) -> None:
    for folder in ("snapshots", "blobs", "blobs/sha256", "mounts", "tmp", "leases", "memo", "."):
        (store / folder / "stranger").write_text("not yours")
        (store / folder / ".hidden").mkdir()
    (store / "snapshots" / ("a" * 32)).mkdir()
    (store / "blobs" / "sha256" / ("b" * 64)).write_text("not what it says")
    (store / "snapshots" / "link").symlink_to("/etc")


def lose_locks_and_leases(store: Path) -> None:
    for folder in ("locks", "leases", "tmp"):
        remove_store(store / folder)
        (store / folder).mkdir()


def put_pipes(store: Path) -> None:
    """Put pipes in place of files: to open one without a look at its kind means to wait for a writer."""
    for pattern in ("memo/*", "builds/*", "statindex/*", "*/*/meta.json", "records/records.db"):
        for path in store.glob(pattern):
            path.unlink()
            os.mkfifo(path)


def nest_deeply(store: Path) -> None:
    for pattern in ("memo/*", "builds/*", "*/*/meta.json"):
        for path in store.glob(pattern):
            path.write_text("[" * 200_000)


@pytest.mark.parametrize(
    "harm",
    [
        corrupt_database,
        cut_database,
        lose_newest_snapshot,
        lose_all_snapshots,
        put_foreign_files,
        lose_locks_and_leases,
        put_pipes,
        nest_deeply,
    ],
    ids=lambda harm: harm.__name__,
)
def test_harm_costs_time_and_never_the_result(
    pybuild: Pybuild, base: str, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    where = context(tmp_path)
    built(pybuild, where, tmp_path / "one")
    harm(pybuild.store)
    built(pybuild, where, tmp_path / "two")
    pybuild("du")
    pybuild("prune", "--force", "--all")
    built(pybuild, where, tmp_path / "three")
    assert leftovers(pybuild.store) == []


def test_a_cut_off_blob_is_no_image(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """Its layer is refused by name, and what was unpacked of it before still serves."""
    where = context(tmp_path)
    built(pybuild, where, tmp_path / "one")
    largest = max((pybuild.store / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    built(pybuild, where, tmp_path / "two")
    lose_all_snapshots(pybuild.store)
    said = built(pybuild, where, tmp_path / "three", code=None)
    assert largest.name[:12] in said
    assert not (tmp_path / "three" / "more").exists()


def test_a_store_of_the_future_is_refused(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    (pybuild.store / "store.json").write_text('{"version": 99}\n')
    before = sorted(path.name for path in pybuild.store.rglob("*"))
    said = built(pybuild, context(tmp_path), tmp_path / "one", code=3)
    assert "is of version 99, made by a newer pybuild" in said
    assert sorted(path.name for path in pybuild.store.rglob("*")) == before


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "pipe"])
@pytest.mark.parametrize(
    ("name", "said"),
    [("store.json", "store.json"), ("index.json", "index.json: not a")],
)
def test_what_a_store_cannot_do_without_is_named_if_it_is_none(
    pybuild: Pybuild, base: str, tmp_path: Path, name: str, said: str, nested: bool
) -> None:
    """Names of images are never guessed anew: they say what must not be freed."""
    where = context(tmp_path)
    pybuild("build", "--tag", "app", where)
    (pybuild.store / name).unlink()
    if nested:
        (pybuild.store / name).write_text("[" * 200_000)
    else:
        os.mkfifo(pybuild.store / name)
    for words in (("build", "--tag", "app", where), ("images",), ("prune", "--force", "--all")):
        assert said in pybuild(*words, code=3).err


def test_two_builders_of_one_thing_agree(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    where = context(tmp_path)
    words = pybuild.command("build", "--quiet", where)
    racers = [
        subprocess.Popen(words, env=pybuild.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = {racer.communicate(timeout=120)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert all(len(id) == 72 for id in ids)  # times of their own are in the configs
    built(pybuild, where, tmp_path / "one")
    for row in map(json.loads, pybuild("images", "--format", "json").out.splitlines()):
        pybuild("inspect", "--check", str(row["digest"]))


@pytest.mark.root
@needs_disks
def test_a_read_only_store_is_named_as_that(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    with ext4(tmp_path, 60_000_000) as disk:
        shutil.copytree(pybuild.store, disk / "store", symlinks=True)
        there = Pybuild(disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=60)
        said = built(there, context(tmp_path), tmp_path / "one", code=3)
        assert "read-only file system" in said
        assert "PYBUILD_ROOT" in said
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, timeout=60)
        built(there, context(tmp_path), tmp_path / "two")


LOOKING = (
    ("images",),
    ("inspect", "app"),
    ("history", "app"),
    ("explain",),
    ("du",),
    ("why-kept", "app"),
    ("cache", "mounts", "ls"),
    ("registry", "ls"),
)


@pytest.mark.root
@needs_disks
def test_who_only_looks_needs_neither_space_nor_leave_to_write(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    with ext4(tmp_path, 60_000_000) as disk:
        shutil.copytree(pybuild.store, disk / "store", symlinks=True)
        there = Pybuild(disk / "store")
        there("build", "-t", "app", context(tmp_path))
        usual = [there(*words).out for words in LOOKING]
        with open(disk / "fill", "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        full = [there(*words).out for words in LOOKING]
        assert [len(text.split("\n")) for text in full] == [len(t.split("\n")) for t in usual]
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=60)
        for words in LOOKING:
            there(*words)
        there("save", "app", "-o", tmp_path / "app.tar")
        said = there("tag", "app", "other", code=3).err
        assert "read-only file system" in said


@pytest.mark.root
@needs_disks
@pytest.mark.parametrize("megabytes", [8, 12, 16, 20, 24])
def test_a_disk_that_fills_up_anywhere_in_a_build_loses_nothing(
    pybuild: Pybuild, base: str, tmp_path: Path, megabytes: int
) -> None:
    """In the step, in its commit, in the layer or in the image, by how much else is there."""
    with ext4(tmp_path, 40_000_000) as disk:
        shutil.copytree(pybuild.store, disk / "store", symlinks=True)
        there = Pybuild(disk / "store")
        where = context(tmp_path)
        (disk / "other").write_bytes(os.urandom(megabytes * 1_000_000))
        text = DOCKERFILE + "RUN busybox dd if=/dev/urandom of=/big bs=1M count=9\n"
        full = write(tmp_path / "full", Dockerfile=text, **{"in": "text\n"})
        said = there("build", "-t", "full", full, code=None)
        if said.code:
            assert "no space left on device" in said.err.lower()
        (disk / "other").unlink()
        built(there, where, tmp_path / "one")
        there("build", "-t", "full", full)
        assert there("inspect", "--check", "full").code == 0
        assert leftovers(there.store) == []


def test_a_store_that_lost_its_version_file_is_taken_up_again(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """All that a build leaves in a store is known as a store's."""
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {base}\nRUN true\n")
    pybuild("build", context)
    (pybuild.store / "store.json").unlink()
    pybuild("build", context)
    assert (pybuild.store / "store.json").exists()
