"""Cache mounts by their ids: listed, carried, removed, limited [MNT-14, CMD-3]."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

STEP = "FROM base\nRUN --mount=type=cache,id={id},target=/c {command}\n"


def step(pybuild: Pybuild, tmp_path: Path, command: str, id: str = "go") -> str:
    number = len(
        list(tmp_path.glob("ctx*"))
    )  # each step another one; --no-cache would renew mounts
    text = STEP.format(id=id, command=f": {number}; {command}")
    context = write(tmp_path / f"ctx{number}", Dockerfile=text)
    return pybuild("build", "--progress", "plain", "-o", "type=cacheonly", context).err


def rows(pybuild: Pybuild) -> list[dict[str, object]]:
    out = pybuild("cache", "mounts", "ls", "--format", "json").out
    return [json.loads(line) for line in out.splitlines()]


def test_a_mount_is_listed_inspected_shown_by_du_and_removed_by_its_id(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    step(pybuild, tmp_path, "busybox dd if=/dev/urandom of=/c/x bs=1M count=3")
    step(pybuild, tmp_path, "echo other > /c/y", id="pip")
    assert [row["id"] for row in rows(pybuild)] == ["go", "pip"]
    assert int(str(rows(pybuild)[0]["size"])) > 3 << 20
    (found,) = json.loads(pybuild("cache", "mounts", "inspect", "go").out)
    assert Path(found["path"], "x").stat().st_size == 3 << 20
    assert "cache mount go" in pybuild("du", "--filter", "type=exec.cachemount").out
    missing = pybuild("cache", "mounts", "inspect", "pup", code=1)
    assert 'there is no cache mount "pup" (did you mean pip?)' in missing.err
    assert "3.1" in pybuild("cache", "mounts", "rm", "go").out
    assert [row["id"] for row in rows(pybuild)] == ["pip"]


def test_a_mount_goes_to_another_store_and_is_the_same_there(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    command = "mkdir /c/d && echo one > /c/d/a && ln /c/d/a /c/b && ln -s d /c/l && "
    step(pybuild, tmp_path, command + "chown 1000:1000 /c/d/a && chmod 640 /c/d/a && touch /c/e")
    for name in ("one.tar", "two.tar"):
        pybuild("cache", "mounts", "export", "go", tmp_path / name)
    one = (tmp_path / "one.tar").read_bytes()
    assert one == (tmp_path / "two.tar").read_bytes()
    other = Pybuild(tmp_path / "other")
    other("cache", "mounts", "import", "go", tmp_path / "one.tar")
    other("cache", "mounts", "export", "go", tmp_path / "three.tar")
    assert (tmp_path / "three.tar").read_bytes() == one
    # Standard streams do as well, and the step finds it.
    other("cache", "mounts", "import", "again", stdin=one)
    pybuild("cache", "mounts", "import", "copy", tmp_path / "one.tar")
    step(pybuild, tmp_path, "sh -c 'test $(stat -c %u%a /c/l/a) = 1000640'", id="copy")
    assert leftovers(pybuild.store) == []


def _tar(*members: tuple[str, Callable[[tarfile.TarInfo], None]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, change in members:
            info = tarfile.TarInfo(name)
            change(info)
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def _plain(info: tarfile.TarInfo) -> None:
    info.size = 1


def _link_to(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return change


@pytest.mark.parametrize(
    "archive",
    [
        _tar(("../../escaped", _plain)),
        _tar(("a/../../escaped", _plain)),
        _tar(("l", _link_to("/tmp/ESCAPE")), ("l/escaped", _plain)),
        _tar(("h", _link_to("../../../escaped", tarfile.LNKTYPE))),
        _tar(("x", _plain))[:700],
        b"no archive at all" * 100,
        b"",
    ],
    ids=["parent", "parent-inside", "through-link", "hard-link", "cut-off", "text", "empty"],
)
def test_a_hostile_tar_is_refused_or_stays_inside_and_the_mount_is_as_before(
    pybuild: Pybuild, tmp_path: Path, archive: bytes
) -> None:
    pybuild("cache", "mounts", "import", "go", stdin=_tar(("kept", _plain)))
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = archive.replace(b"/tmp/ESCAPE", os.fsencode(outside)[:11].ljust(11, b"\0"))
    done = pybuild("cache", "mounts", "import", "go", code=None, stdin=archive)
    (found,) = json.loads(pybuild("cache", "mounts", "inspect", "go").out)
    if done.code:
        assert "standard input" in done.err
        assert os.listdir(found["path"]) == ["kept"]
    assert not [*tmp_path.rglob("escaped"), *Path("/tmp").glob("escaped")] or all(
        path.is_relative_to(pybuild.store / "mounts") for path in tmp_path.rglob("escaped")
    )


def test_limits_of_the_configuration_let_a_mount_begin_anew(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        '[cache.mounts.go]\nmax = "2MB"\n[cache.mounts."*"]\nmax = "1GB"\nmax-age = "7d"\n'
    )
    limited = Pybuild(pybuild.store, config)
    step(limited, tmp_path, "echo small > /c/x")
    step(limited, tmp_path, "echo small > /c/x", id="old")
    assert len(rows(limited)) == 2
    said = step(limited, tmp_path, "busybox dd if=/dev/zero of=/c/y bs=1M count=3")
    assert 'cache mount "go" begins anew: it takes 31' in said
    assert [row["id"] for row in rows(limited)] == ["old"]
    (old,) = rows(limited)
    meta = pybuild.store / "mounts" / str(old["name"]) / "meta.json"
    os.utime(meta, (1, 1))
    said = step(limited, tmp_path, "true")
    assert "nobody has used it for longer than its max-age" in said
    assert [row["id"] for row in rows(limited)] == ["go"]


def test_a_mount_in_use_is_neither_exported_nor_removed(pybuild: Pybuild, tmp_path: Path) -> None:
    from pybuild.cache.store import Store
    from pybuild.executor.steps.cachemounts import lock_path
    from pybuild.executor.trees.flocks import try_lock
    from tests.clocks import FakeClock

    pybuild("cache", "mounts", "import", "go", stdin=_tar(("kept", _plain)))
    (row,) = rows(pybuild)
    name = str(row["name"])
    with Store.open(pybuild.store, FakeClock()) as store:
        store.lease.add("mount", name)
        held = try_lock(lock_path(store, name))
        assert held is not None
        for words in (["export", "go", str(tmp_path / "x.tar")], ["rm", "go"]):
            refused = pybuild("cache", "mounts", *words, code=1)
            assert '" is in use by a build' in refused.err
        pybuild("cache", "mounts", "import", "go", code=1, stdin=_tar(("other", _plain)))
        held.release()
    assert not (tmp_path / "x.tar").exists()
    assert rows(pybuild)[0]["name"] == name


def test_ids_are_whatever_somebody_wrote_and_take_one_line_each(pybuild: Pybuild) -> None:
    pybuild("cache", "mounts", "import", "\x1b[31mred\nline", stdin=_tar(("kept", _plain)))
    for words in (["cache", "mounts", "ls"], ["du"], ["du", "--verbose"]):
        shown = pybuild(*words).out
        assert r"\x1b[31mred\nline" in shown and "\x1b" not in shown
    assert "needs an ID" in pybuild("cache", "mounts", "import", "", code=2).err
