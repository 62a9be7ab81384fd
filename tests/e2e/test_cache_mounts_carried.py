"""Cache mounts that caches carry to machines without any [MNT-14, CCH-10]."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.caches import Machines
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

STEP = "FROM base\nRUN --mount=type=cache,id=go,target=/c,uid=3 : {}; {}\n"


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def step(machines: Machines, machine: Pybuild, number: int, command: str, *words: str) -> str:
    write(machines.context, Dockerfile=STEP.format(number, command))
    log = machines.build(machine, *words, output="type=cacheonly").log
    assert leftovers(machine.store) == []
    return log


def test_a_mount_begins_with_what_a_build_elsewhere_has_left(machines: Machines) -> None:
    place = machines.where / "cache"
    made = "mkdir /c/d && echo one > /c/d/a && ln /c/d/a /c/b && ln -s d /c/l && chmod 640 /c/d/a"
    step(machines, machines.fresh(), 1, made, "--cache", str(place))
    second = machines.fresh()
    look = "test $(cat /c/l/a) = one && test $(stat -c %u%a%h /c/b) = 06402 && echo two > /c/e"
    log = step(machines, second, 2, look, "--cache", str(place))
    assert 'cache mount "go": ' in log
    assert f"from {place}, saved " in log
    assert "it counts in no key" in log
    step(
        machines,
        machines.fresh(),
        3,
        "test -e /c/e && test $(stat -c %u /c) = 3",
        "--cache",
        str(place),
    )
    # A machine that has one of its own keeps that.
    assert "it counts in no key" not in step(
        machines, second, 4, "test -e /c/e", "--cache", str(place)
    )


def test_only_changed_chunks_move(machines: Machines) -> None:
    """Issue 19, show 2: a hundredth of a mount changes, at most three of it are written."""
    place = machines.where / "cache"
    many = "for i in $(seq 100); do dd if=/dev/urandom of=/c/$i bs=64k count=4 2>&-; done"
    step(machines, machines.fresh(), 1, many, "--cache", str(place))
    before = _size(place)
    assert before > 25 << 20
    other = "dd if=/dev/urandom of=/c/50 bs=64k count=4"
    step(machines, machines.fresh(), 2, other, "--cache", str(place))
    assert _size(place) - before < 0.03 * before
    # Nothing of it is kept twice here.
    same = machines.fresh()
    step(machines, same, 3, "true", "--cache", str(place))
    assert len(list((same.store / "mounts").iterdir())) == 1


@pytest.mark.parametrize("damage", ["index", "pack"])
def test_a_damaged_mount_is_refused_and_begins_empty(machines: Machines, damage: str) -> None:
    place = machines.where / "cache"
    step(machines, machines.fresh(), 1, "echo one > /c/a", "--cache", str(place))
    (blob,) = (path for path in _mount_blobs(place)[damage])
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    log = step(machines, machines.fresh(), 2, "! test -e /c/a", "--cache", str(place))
    assert 'cache mount "go" begins empty: ' in log
    assert " is damaged (line 2)" in log


@pytest.mark.parametrize(
    ("to", "start"),
    [
        ("--cache={},mounts=false", "--cache={}"),
        ("--cache-to=type=local,dest={},mode=max", "--cache={}"),
        ("--cache={}", "--cache-from=type=local,src={},mounts=false"),
        ("--cache-to=type=local,dest={},mode=max,mounts=true,mounts-max-size=1kB", "--cache={}"),
        ("--cache={}", "--no-cache --cache={}"),
    ],
)
def test_mounts_stay_where_nobody_wants_them_elsewhere(
    machines: Machines, to: str, start: str
) -> None:
    place = machines.where / "cache"
    step(machines, machines.fresh(), 1, "echo one > /c/a", to.format(place))
    log = step(machines, machines.fresh(), 2, "! test -e /c/a", *start.format(place).split())
    assert "begins empty" not in log


def test_a_failed_build_keeps_the_mounts_of_the_one_before(machines: Machines) -> None:
    place = machines.where / "cache"
    step(machines, machines.fresh(), 1, "echo one > /c/a", "--cache", str(place))
    write(machines.context, Dockerfile=STEP.format(2, "echo half > /c/a; false"))
    machines.build(machines.fresh(), "--cache", place, output="type=cacheonly", code=1)
    step(machines, machines.fresh(), 3, "grep one /c/a", "--cache", str(place))


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _mount_blobs(place: Path) -> dict[str, list[Path]]:
    """Return the blobs of cache mounts at a place: indexes and packs."""
    found: dict[str, list[Path]] = {"index": [], "pack": []}
    for path in (place / "blobs/sha256").iterdir():
        if path.stat().st_size > 1 << 20 or not path.read_bytes().startswith(b"{"):
            continue
        for layer in json.loads(path.read_bytes()).get("layers") or ():
            kind = str(layer.get("mediaType")).partition("cachemount.")[2].partition(".")[0]
            if kind:
                found[kind].append(path.parent / layer["digest"].partition(":")[2])
    return {kind: list(dict.fromkeys(paths)) for kind, paths in found.items()}
