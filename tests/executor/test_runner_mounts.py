"""Things that a step sees and that are not of its own tree: mounts, secrets, caches, hosts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    StepSettings,
)
from tests.executor.filetrees import Entry, Link, Spec
from tests.executor.runner_site import Run, Site, site

__all__ = ["site"]

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.mark.slow
def test_bind_mounts_of_the_context_hide_ignored_files_and_belong_to_root(site: Run) -> None:
    """MNT-5, MNT-13, CTX-3, CP-7, E174, E175."""

    async def body(s: Site) -> None:
        base = await s.base()
        spec: Spec = {"a": Entry("A", uid=7), "no": "x", "d/f": "F", "l": Link("d/f")}
        context = s.local(spec, exclude=["no"])
        ro = Mount(target="/ro", input=1, readonly=True)
        rw = Mount(target="/rw", input=1)
        file = Mount(target="/file", input=1, selector="/l", readonly=True)
        result = await s.shell(
            "ls /ro; stat -c %u /ro/a; cat /file; echo; touch /rw/new && echo ok; "
            "touch /ro/new 2>/dev/null || echo refused",
            base, ro, rw, file, more=[context],
        )  # fmt: skip
        assert s.output().split() == ["a", "d", "l", "0", "F", "ok", "refused"]
        assert not (Path(context.path) / "new").exists()
        assert os.listdir(s.top(result)) == []
        before = len(os.listdir(os.path.join(s.store.root, "snapshots")))
        await s.shell("ls /ro", base, ro, more=[context], runner=s.again())
        assert len(os.listdir(os.path.join(s.store.root, "snapshots"))) == before + 1

    site(body)


@pytest.mark.slow
def test_missing_mount_source_is_a_user_error(site: Run) -> None:
    """E189."""

    async def body(s: Site) -> None:
        base = await s.base()
        mount = Mount(target="/x", input=1, selector="/nope", readonly=True)
        with pytest.raises(UserError, match='"nope" is not in the context'):
            await s.shell("true", base, mount, more=[s.local({"a": ""})])
        with pytest.raises(UserError, match="/nope"):
            await s.shell("true", base, mount, more=[base])

    site(body)


@pytest.mark.slow
def test_secrets_as_files_and_variables(site: Run) -> None:
    """MNT-18, MNT-19, E176, E177, E180."""

    async def body(s: Site) -> None:
        base = await s.base()
        s.secrets["s"] = lambda: b"hush"
        file = Mount(target="/run/secrets/s", type=MountType.SECRET, id="s", mode=0o400)
        env = Mount(target="", type=MountType.SECRET, id="s", env="TOK")
        both = Mount(target="/t", type=MountType.SECRET, id="s", env="T2", uid=3)
        none = Mount(target="/n", type=MountType.SECRET, id="absent")
        result = await s.shell(
            'cat /run/secrets/s /t; echo " $TOK $T2"; stat -c %u /t; ls /n || echo none',
            base, file, env, both, none,
        )  # fmt: skip
        words = s.output().split()
        assert words[:4] == ["hushhush", "hush", "hush", "3"]
        assert "none" in words
        assert os.listdir(s.top(result)) == []
        for data, message in ((None, "secret r: not found"), (bytes(600_000), "at most 512000")):
            if data is not None:
                s.secrets["r"] = lambda data=data: data  # type: ignore[misc]
            wanted = Mount(target="/r", type=MountType.SECRET, id="r", required=True)
            with pytest.raises(UserError, match=message):
                await s.shell("true", base, wanted)

    site(body)


def cache(target: str = "/c", **options: Any) -> Mount:
    return Mount(target=target, type=MountType.CACHE, cache_id="id", **options)


def test_cache_mounts_are_kept_and_never_in_the_layer(site: Run) -> None:
    """MNT-14, MNT-15, MNT-23."""

    async def body(s: Site) -> None:
        base = await s.base()
        first = cache(uid=5, gid=6, mode=0o750)
        result = await s.shell("echo 1 > /c/f; stat -c '%u %g %a' /c", base, first)
        assert os.listdir(s.top(result)) == []
        await s.shell("cat /other/f; touch /other/f || echo ro", base,
                      cache("/other", readonly=True), runner=s.again())  # fmt: skip
        assert s.output().split()[:4] == ["5", "6", "750", "1"]
        assert "ro" in s.output()
        await s.shell("ls /c", base, Mount(target="/c", type=MountType.CACHE, cache_id="../x"))
        assert set(os.listdir(s.store.mounts_dir)) and all(
            os.path.isdir(os.path.join(s.store.mounts_dir, n))
            for n in os.listdir(s.store.mounts_dir)
        )

    site(body)


@pytest.mark.slow
def test_cache_mount_is_seeded_once(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        seed = await s.files(Mkfile(path="/in/f", data=b"seed\n"), Mkfile(path="/out", data=b""))
        mount = cache(input=1, selector="/in")
        await s.shell("cat /c/f; ls /c; echo more >> /c/f", base, mount, more=[seed])
        await s.shell("cat /c/f", base, mount, more=[seed])
        assert s.output().split() == ["seed", "f", "seed", "more"]
        await s.shell("ls /c", base, cache())
        assert s.output().split() == ["seed", "f", "seed", "more"]

    site(body)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", list(CacheSharing))
def test_no_cache_begins_cache_mounts_anew_once_a_build(site: Run, sharing: CacheSharing) -> None:
    """KEY-11: a build that ignores results wants no directory of earlier ones, but its own."""

    async def body(s: Site) -> None:
        base = await s.base()
        mount = cache(sharing=sharing)
        await s.shell("touch /c/old", base, mount, runner=s.again())
        runner = s.again()
        await s.shell("touch /c/one", base, mount, runner=runner, ignore_cache=True)
        await s.shell("touch /c/two; ls /c", base, mount, runner=runner, ignore_cache=True)
        assert s.output().split() == ["one", "two"]
        runner = s.again()
        await s.shell("touch /c/three", base, mount, runner=runner)
        await s.shell("ls /c", base, mount, runner=runner, ignore_cache=True)
        assert s.output().split()[2:] == ["one", "three", "two"]

    site(body)


@pytest.mark.slow
def test_no_cache_leaves_what_another_build_works_with(site: Run) -> None:
    """KEY-11."""

    async def body(s: Site) -> None:
        base = await s.base()
        wait = "touch /c/busy; while [ -e /c/busy ]; do sleep 0.02; done"
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(s.shell(wait, base, cache(), runner=s.again()))
            while not any(Path(s.store.mounts_dir).glob("*/fs/busy")):
                await asyncio.sleep(0.01)
            await s.shell("rm /c/busy", base, cache(), runner=s.again(), ignore_cache=True)

    site(body)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", list(CacheSharing))
def test_sharing_of_a_cache_between_two_steps_at_once(site: Run, sharing: CacheSharing) -> None:
    """MNT-7, MNT-16, E178: each step says that it is there, and looks for the other when all are."""
    at_once = 1 if sharing is CacheSharing.LOCKED else 2

    async def body(s: Site) -> None:
        base = await s.base()
        wait = "touch /c/$ME; while [ ! -e /c/go ]; do sleep 0.02; done; "
        wait += (
            "for i in 1 2 3 4 5 6 7 8; do [ -e /c/$YOU ] && echo met; sleep 0.02; done; rm /c/$ME"
        )

        async def one(me: str, you: str) -> None:
            env = ("PATH=/bin", f"ME={me}", f"YOU={you}")
            await s.shell(wait, base, cache(sharing=sharing), env=env, runner=s.again())

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(one("a", "b"))
            group.create_task(one("b", "a"))
            mounts = Path(s.store.mounts_dir)
            while len(list(mounts.glob("*/fs/[ab]"))) < at_once:
                await asyncio.sleep(0.01)
            for mount in mounts.glob("*/fs"):
                (mount / "go").touch()
        assert ("met" in s.output()) is (sharing is CacheSharing.SHARED)
        expected = 2 if sharing is CacheSharing.PRIVATE else 1
        assert len(os.listdir(s.store.mounts_dir)) == expected

    site(body)


@pytest.mark.slow
def test_two_locked_caches_in_different_order_do_not_deadlock(site: Run) -> None:
    """MNT-16."""

    async def body(s: Site) -> None:
        base = await s.base()
        mounts = [
            Mount(target=f"/{n}", type=MountType.CACHE, cache_id=n, sharing=CacheSharing.LOCKED)
            for n in "xy"
        ]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(4):
                pair = mounts if number % 2 else mounts[::-1]
                group.create_task(s.shell("sleep 0.01", base, *pair, runner=s.again()))

    site(body)


@pytest.mark.slow
def test_tmpfs_leaves_nothing(site: Run) -> None:
    """E179."""

    async def body(s: Site) -> None:
        mount = Mount(target="/new", type=MountType.TMPFS, tmpfs_size_bytes=1 << 20)
        result = await s.shell("touch /new/f && ls /new", await s.base(), mount)
        assert s.output() == "f\n"
        assert os.listdir(s.top(result)) == []

    site(body)


@pytest.mark.slow
def test_hosts_and_resolv_conf_are_ours_and_leave_no_trace(site: Run) -> None:
    """SBX-9, RUN-4."""

    async def body(s: Site) -> None:
        result = await s.shell(
            "cat /etc/hosts; grep -c nameserver /etc/resolv.conf; hostname",
            await s.base(), settings=StepSettings(
                network=NetworkMode.NONE, hostname="box", add_hosts=(("db", "10.1.2.3"),)
            ),
        )  # fmt: skip
        assert "10.1.2.3\tdb\n" in s.output()
        assert s.output().endswith("box\n")
        assert os.listdir(s.top(result)) == []

    site(body)


@pytest.mark.slow
def test_cancelling_a_step_leaves_nothing(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        lock = cache(sharing=CacheSharing.LOCKED)
        task = asyncio.create_task(s.shell("echo on; sleep 60", base, lock))
        async with asyncio.timeout(60):
            while "on" not in s.output():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await s.shell("true", base, lock)

    site(body)


@pytest.mark.slow
def test_steps_at_once_share_mount_points_and_leave_none(site: Run) -> None:
    async def body(s: Site) -> None:
        base = await s.base()
        script = "[ -s /etc/hosts ] && [ -d /proc/self ] && echo $N > /own"
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(s.shell(script, base, env=("PATH=/bin", f"N={n}")))
                for n in range(8)
            ]
        for number, task in enumerate(tasks):
            top = s.top(task.result())
            assert sorted(os.listdir(top)) == ["own"]
            assert (top / "own").read_text() == f"{number}\n"

    site(body)
