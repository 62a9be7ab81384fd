"""Containers made of images, and images of containers, by one engine [CTR-9, CTR-85, CTR-90, CTR-100, EP-15].

Real layers, workers and mounts, so each takes some tenths of a second, as in `test_life`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.containers import treejobs
from pybuild.containers.beginning import noted, started
from pybuild.containers.committing import commit_container, reconfigured, with_config
from pybuild.containers.config import ContainerConfig
from pybuild.containers.connecting import prune_networks
from pybuild.containers.copying import copy_in, copy_out
from pybuild.containers.diskusage import disk_usage
from pybuild.containers.image import (
    FoundImage,
    find_image,
    find_stored,
    held_image,
    with_tag,
)
from pybuild.containers.imageuse import conflict, refuse_used, users_of
from pybuild.containers.making import make_at_once, make_container
from pybuild.containers.mounts import GivenMounts
from pybuild.containers.names import new_id
from pybuild.containers.pruning import prune_containers
from pybuild.containers.starting import NotExecuted
from pybuild.containers.trees import tree_of
from pybuild.containers.volumepruning import includes_all, prune_volumes, volume_choice
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.settings import Settings
from pybuild.executor.workers.job import job
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import Platform
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint
from tests.clocks import FakeClock
from tests.containers.busyboxes import BusyboxContainers
from tests.executor.sandbox_helpers import skip_unless_possible

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


def with_engine(folder: Path, work: Callable[[Engine, BusyboxContainers], Awaitable[None]]) -> None:
    """Do *work* with an engine on a store of its own, whose containers are gone then."""
    skip_unless_possible()

    async def do() -> None:
        async with Engine(Settings(root=str(folder / "store"))) as engine:
            containers = BusyboxContainers(engine.store)
            try:
                await work(engine, containers)
            finally:
                for one in containers.list():
                    await asyncio.to_thread(containers.remove, one, force=True)

    asyncio.run(do())


async def base_of(engine: Engine, containers: BusyboxContainers, **given: Any) -> FoundImage:
    """Return an image that a container was made to, which has a file of its own."""
    seed = containers.make("", "seed", labels={"of": "seed"})
    place = Path(seed.path, "fs/data")
    place.mkdir()
    (place / "file").write_text("text")
    image = await commit_container(engine, seed, comment="why", author="me", given=given)
    engine.store.images.tag("docker.io/library/base:latest", image.manifest)
    containers.remove(seed)
    return held_image(engine.store, "base", None)


def described(**fields: Any) -> ContainerConfig:
    config = ContainerConfig(
        id=new_id(), name="", image="base", manifest="", deltas=(), cmd=("cat", "/data/file"), network="none"
    )  # fmt: skip
    return config._replace(**fields)


def test_an_image_has_a_layer_more_and_the_config_with_what_was_given(tmp_path: Path) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        image = await base_of(engine, containers, Labels={"b": "c"}, Env=["A=d", "E=f"], User="u")
        document = image.document
        config = document["config"]
        assert config["Labels"] == {"of": "seed", "b": "c"}
        assert config["Env"] == ["A=d", "E=f", "PATH=/bin"]
        assert config["User"] == "u" and "Hostname" not in config
        assert document["author"] == "me" and len(document["rootfs"]["diff_ids"]) == 2
        assert document["history"][-1]["comment"] == "why"
        assert document["history"][-1]["created_by"].startswith("sh -c")
        store = engine.store
        assert find_stored(store, "base", None) == image
        assert await find_image(engine, "base:latest", None) == image
        assert find_stored(store, "base", None, "always") is None
        assert find_stored(store, "other", None) is None
        for name in ("other", "sha256:" + "0" * 64):
            with pytest.raises(UserError, match="(?i)no such image"):
                find_stored(store, name, None, "never")
        with pytest.raises(UserError, match="one without a name is freed|no such image"):
            find_stored(store, "sha256:0000", None)
        with pytest.raises(UserError, match="no such image: other:latest"):
            held_image(store, "other", None)
        with pytest.raises(UserError, match='no such image: "A"'):
            find_stored(store, "A", None)
        native = native_platform()
        assert find_stored(store, "base", native) == image
        with pytest.raises(UserError, match=r"base was found but does not provide .* \(windows/"):
            held_image(store, "base", Platform("windows", native.arch))
        assert with_tag("A") == "A"
        seed = containers.make("", "seed")
        image_of = [await commit_container(engine, seed, given={"User": user}) for user in "ab"]
        for name, one in zip("ab", image_of, strict=True):
            store.images.tag(f"docker.io/library/{name}:1", one.manifest)
        made = reconfigured(store, image_of[0], str(image_of[1].config.digest))
        known = [json.loads(store.blobs.read(one.config.digest)) for one in (image_of[0], made)]
        assert [one["config"]["User"] for one in known] == ["a", "b"]
        assert known[0]["rootfs"] == known[1]["rootfs"]
        assert [name for names, _ in store.images.list() for name in names] == [
            "docker.io/library/base:latest"
        ]

    with_engine(tmp_path, work)


def test_a_config_comes_over_another() -> None:
    own = {"Env": ["A=1", "GONE"], "Labels": {"a": "b"}, "Cmd": ["x"]}
    assert with_config(own, {}) == {"Env": ["A=1"], "Labels": {"a": "b"}, "Cmd": ["x"]}
    given: dict[str, Any] = {
        "Env": ["A=2"],
        "Labels": {"c": "d"},
        "Cmd": ["y"],
        "Volumes": {"/v": {}},
    }
    assert with_config(own, given) == {
        "Env": ["A=2"], "Labels": {"a": "b", "c": "d"}, "Cmd": ["y"], "Volumes": {"/v": {}}
    }  # fmt: skip


def test_one_is_made_at_once_of_layers_that_are_there(tmp_path: Path) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        store, image = engine.store, await base_of(engine, containers)
        bind = MountPoint(MountKind.BIND, "/there", source=str(tmp_path / "new"))
        mounts = GivenMounts((bind,), ())
        one = make_at_once(store, described(), image, mounts)
        if one is None:  # its newest layer is still to be unpacked
            one = await make_container(engine, described(), image, mounts)
        config = one.config
        assert "_" in config.name and len(config.deltas) == 2
        assert config.image_id == "sha256:" + str(config.image_id).removeprefix("sha256:")
        assert config.image_digests == {str(image.root.digest), str(image.manifest.digest)}
        again = make_at_once(store, described(name="two"), image, GivenMounts((), (config.name,)))
        assert again is not None and again.config.deltas == config.deltas
        (theirs,) = again.config.mounts
        assert (theirs.target, theirs.origin) == ("/there", MountOrigin.VOLUMES_FROM)
        readonly = make_at_once(store, described(), image, GivenMounts((), (f"{config.name}:ro",)))
        assert readonly is not None and readonly.config.mounts[0].readonly
        volume = GivenMounts((MountPoint(MountKind.VOLUME, "/v", source="vol"),))
        assert make_at_once(store, described(), image, volume) is None
        lost = described(networks=(EndpointOrder("nowhere"),))
        with pytest.raises(UserError, match="nowhere"):
            make_at_once(store, lost, image, GivenMounts())
        assert make_at_once(store, lost, image, GivenMounts(), checks_networks=False) is not None

    with_engine(tmp_path, work)


def test_a_volume_is_filled_used_and_pruned(tmp_path: Path) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        store, image = engine.store, await base_of(engine, containers)
        own = (
            MountPoint(MountKind.VOLUME, "/data", source="vol", labels={"a": "b"}),
            MountPoint(MountKind.VOLUME, "/more"),
        )
        now = described(name="one", created=time.time_ns())
        one = await make_container(engine, now, image, GivenMounts(own))
        nameless = next(mount.source for mount in one.config.mounts if mount.target == "/more")
        assert len(nameless) == 64
        await asyncio.to_thread(containers.start, one)
        assert await asyncio.to_thread(one.wait) == 0
        one.wait_gone()
        rows = {row["Type"]: row for row in disk_usage(store)}
        assert (rows["Containers"]["TotalCount"], rows["Containers"]["Active"]) == ("1", "0")
        assert (rows["Local Volumes"]["TotalCount"], rows["Local Volumes"]["Active"]) == ("2", "2")
        assert rows["Local Volumes"]["Reclaimable"] == "0B (0%)"
        assert rows["Images"]["TotalCount"] == "1" and rows["Images"]["Size"] != "0B"
        assert prune_volumes(store, all=True, filters=()) == ([], 0)
        removed, freed = prune_containers(store, ["label=none"])
        assert (removed, freed) == ([], 0)
        removed, freed = prune_containers(store, ["until=1h"])
        assert removed == []
        assert prune_containers(store, ["label!=none"])[0] == [one.config.id]
        fits = volume_choice(["dangling=true", "name=vo", "driver=local"], containers)
        assert prune_volumes(store, all=False, filters=["label=a"]) == ([], 0)
        removed, freed = prune_volumes(store, all=True, filters=["label=a=b"])
        assert removed == ["vol"] and freed >= 4
        assert prune_volumes(store, all=False, filters=["label!=a"])[0] == [nameless]
        assert fits is not None

    with_engine(tmp_path, work)


def test_volumes_are_chosen_by_filters(tmp_path: Path) -> None:
    from pybuild.containers.containers import Containers
    from pybuild.volumes.volume import LocalVolume

    with Store.open(tmp_path, FakeClock()) as store:
        containers = Containers(store)
        volume = LocalVolume(name="vol", mountpoint="", labels={"a": "b"})
        for fitting in ("name=o", "driver=local", "label=a", "label=a=b", "label!=c", "dangling=1"):
            assert volume_choice([fitting], containers)(volume), fitting
        for other in ("name=x", "driver=nfs", "label=c", "label=a=c", "label!=a", "dangling=false"):
            assert not volume_choice([other], containers)(volume), other
        assert not volume_choice(["label=a", "label=c"], containers)(volume)
        assert volume_choice(["name=x", "name=v"], containers)(volume)
        with pytest.raises(UsageError, match="invalid filter 'dangling=maybe'"):
            volume_choice(["dangling=maybe"], containers)
        with pytest.raises(UsageError):
            volume_choice(["colour=red"], containers)
    assert [includes_all(one) for one in ([], ["all=1"], ["all=0"], ["all=0", "all=true"])] == [
        False, True, False, True
    ]  # fmt: skip


def test_files_go_in_and_come_out_of_one_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        one = containers.make("", "one")
        (tmp_path / "in").write_text("x")
        (tmp_path / "link").symlink_to("in")
        (tmp_path / "d").mkdir()
        (tmp_path / "d/inner").write_text("y")
        await copy_in(engine, one, str(tmp_path / "in"), "/etc/", follow=False)
        await copy_in(engine, one, str(tmp_path / "link"), "/kept", follow=False)
        await copy_in(engine, one, str(tmp_path / "link"), "/followed", follow=True)
        await copy_in(engine, one, f"{tmp_path}/d/.", "/etc", follow=False)
        tree = Path(one.path, "fs")
        assert (tree / "etc/in").read_text() == "x" and (tree / "etc/inner").read_text() == "y"
        assert os.readlink(tree / "kept") == "in"
        assert (tree / "followed").read_text() == "x" and not (tree / "followed").is_symlink()
        with pytest.raises(UserError, match="lstat .*/nothing: no such file or directory"):
            await copy_in(engine, one, f"{tmp_path}/nothing", "/etc", follow=False)
        with pytest.raises(UserError, match="no such directory|Could not find"):
            await copy_in(engine, one, str(tmp_path / "in"), "/no/where/", follow=False)
        out = tmp_path / "out"
        out.mkdir()
        await copy_out(engine, one, "/etc/in", str(out), follow=False, owners=False)
        await copy_out(engine, one, "/etc/.", str(out), follow=False, owners=False)
        await copy_out(engine, one, "/kept", str(out / "as"), follow=False, owners=False)
        assert (out / "in").read_text() == "x" and (out / "passwd").exists()
        assert os.readlink(out / "as") == "in"
        with pytest.raises(UsageError, match="the path in the container is empty"):
            await copy_out(engine, one, "", str(out), follow=False, owners=False)
        with pytest.raises(UserError, match="Could not find the file /nothing in container one"):
            await copy_out(engine, one, "/nothing", str(out), follow=False, owners=False)
        # More than a pipe holds, so that its writer finds nobody there; and one that ends with a record.
        with pytest.raises(UserError, match="cannot copy to .*/in/below: .*/in: no such file"):
            await copy_out(
                engine, one, "/bin/busybox", f"{out}/in/below", follow=False, owners=False
            )
        (tree / "record").write_bytes(bytes(9216))
        os.utime(tree / "record", (1, 1))
        await copy_out(engine, one, "/record", str(out), follow=False, owners=False)
        assert (out / "record").stat().st_size == 9216
        await copy_out(engine, one, "/etc/in", "-", follow=False, owners=False)
        sys.stdout.flush()
        with tarfile.open(fileobj=io.BytesIO(capfdbinary.readouterr().out)) as archive:
            assert archive.getnames() == ["in"]
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.add(tmp_path / "in", arcname="first/second")
        (tmp_path / "tar").write_bytes(data.getvalue())
        kept = os.dup(0)
        fd = os.open(tmp_path / "tar", os.O_RDONLY)
        os.dup2(fd, 0)
        os.close(fd)
        try:
            await copy_in(engine, one, "-", "", follow=False)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
        assert (tree / "first/second").read_text() == "x"
        with tree_of(engine.store, one, engine.mount_dir(), bare=True) as (known, fds):
            changes = await engine.workers.call(job(treejobs.changes, known), fds=fds)
        assert ("A", "/first/second") in changes and ("C", "/etc") in changes
        assert ("A", "/etc/in") in changes and ("C", "/etc/passwd") not in changes
        with tree_of(engine.store, one, engine.mount_dir(), name="far") as (known, fds):
            facts = await engine.workers.call(job(treejobs.look, known, "/kept"), fds=fds)
        assert (facts.name, facts.size, facts.target) == ("kept", 2, "/in")
        with (
            tree_of(engine.store, one, engine.mount_dir(), name="far") as (known, fds),
            pytest.raises(UserError, match="find the file /none in container far"),
        ):
            await engine.workers.call(job(treejobs.look, known, "/none"), fds=fds)

    with_engine(tmp_path, work)


def test_an_image_that_containers_need_is_not_removed(tmp_path: Path) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        digest, short = "sha256:" + "ab" * 32, "ab" * 6
        assert conflict("base", short, (), own=True, force=False) == ""
        one = containers.make("exec sleep 1000", image_root=digest)
        assert [one.config.id for one in users_of(containers, digest)] == [one.config.id]
        assert users_of(containers, "sha256:" + "cd" * 32) == []
        assert (
            conflict("base", short, [one], own=True, force=False)
            == 'conflict: unable to remove repository reference "base" (must force) - container '
            f"{one.config.short_id} is using its referenced image {short}"
        )
        assert conflict("base", short, [one], own=True, force=True) == ""
        with pytest.raises(UserError, match="must force"):
            refuse_used(containers, "base", digest, own=True, force=False)
        await asyncio.to_thread(containers.start, one)
        said = conflict("base", short, [one], own=True, force=False)
        assert said.startswith(
            "conflict: unable to delete base (cannot be forced) - image is being used"
        )
        assert conflict("base", short, [one], own=True, force=True) == ""
        assert f"unable to delete {short} (cannot" in conflict(
            "x", short, [one], own=False, force=True
        )
        refuse_used(containers, "base", digest, own=True, force=True)

    with_engine(tmp_path, work)


def test_one_that_goes_with_its_end_goes_where_it_cannot_begin(tmp_path: Path) -> None:
    async def work(engine: Engine, containers: BusyboxContainers) -> None:
        kept = containers.make("", "kept", cmd=("/nothing",))
        passing = containers.make("", "passing", cmd=("/nothing",), auto_remove=True)
        for one in (kept, passing):
            with pytest.raises(NotExecuted):
                await asyncio.to_thread(started, engine.store, one, ())
        assert [one.config.name for one in containers.list()] == ["kept"]
        place = tmp_path / "id"
        assert noted(engine.store, kept, str(place)) is kept
        assert noted(engine.store, kept, "") is kept
        assert place.read_text() == kept.config.id
        with pytest.raises(UsageError, match="--cidfile .*/id: file exists"):
            noted(engine.store, kept, str(place))
        assert containers.list() == []

    with_engine(tmp_path, work)


def test_a_name_that_an_id_begins_with_keeps_no_other_network(tmp_path: Path) -> None:
    skip_unless_possible()
    with Store.open(tmp_path, FakeClock()) as store:
        networks, containers = Networks(store.root), BusyboxContainers(store)
        free, by_id = (networks.create(NewNetwork(name=name)) for name in ("free", "by-id"))
        named = networks.create(NewNetwork(name=free.id[:2]))
        places = (EndpointOrder(named.name), EndpointOrder(by_id.id[:12]))
        containers.make("", "one", networks=places)
        assert [one.name for one in prune_networks(store, ())] == ["free"]
        assert {one.name for one in networks.all()} >= {named.name, "by-id"}
