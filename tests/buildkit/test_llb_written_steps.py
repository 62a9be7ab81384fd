"""Our steps as messages, field by field, and back [remote-api 9]."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.buildkit.llb.write import write, written
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    Device,
    ExecOp,
    Mount,
    MountType,
    NetworkMode,
    SecurityMode,
    StepSettings,
    Vertex,
)
from pybuild.model.platform import Platform
from pybuild.model.resources import Resources
from tests.buildkit.llbs import read_all
from tests.buildkit.vertices import FILE, IMAGE, ROOT, SCRATCH, STEP, comes_back, op_of


def test_a_step_is_written_with_all_that_it_says() -> None:
    op = ExecOp(
        args=("sh", "-c", "x"),
        env=("A=b", "C=d"),
        cwd="/w",
        user="5:6",
        mounts=(ROOT,),
        security=SecurityMode.INSECURE,
        platform=Platform("linux", "arm", "v6"),
        valid_exit_codes=(0, 3),
        proxy_env=("HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=n", "other=1"),
        devices=(Device(name="gpu", required=True), Device(name="tpu")),
        settings=StepSettings(
            network=NetworkMode.NONE,
            hostname="h",
            add_hosts=(("a", "::1"),),
            ulimits=(("nofile", 1, -1),),
            shm_size_bytes=7,
            resources=Resources(parent="/g"),
        ),
    )
    made = op_of(Vertex(op, (IMAGE,)))
    step, meta = made.exec, made.exec.meta
    assert (list(meta.args), list(meta.env)) == (["sh", "-c", "x"], ["A=b", "C=d"])
    assert (meta.cwd, meta.user, meta.hostname, meta.cgroupParent) == ("/w", "5:6", "h", "/g")
    assert list(meta.validExitCodes) == [0, 3] and meta.removeMountStubsRecursive
    assert (step.network, step.security) == (pb.NONE, pb.INSECURE)
    assert [(host.Host, host.IP) for host in meta.extraHosts] == [("a", "::1")]
    assert [(item.Name, item.Soft, item.Hard) for item in meta.ulimit] == [("nofile", 1, -1)]
    assert meta.proxy_env == pb.ProxyEnv(http_proxy="http://p", no_proxy="n")
    assert [(one.name, one.optional) for one in step.cdiDevices] == [("gpu", False), ("tpu", True)]
    platform = made.platform
    assert (platform.OS, platform.Architecture, platform.Variant) == ("linux", "arm", "v6")
    root, shm = step.mounts
    assert (root.dest, root.input, root.output, root.selector) == ("/", 0, 0, "")
    assert (shm.dest, shm.input, shm.output, shm.mountType) == ("/dev/shm", -1, -1, pb.TMPFS)
    assert shm.TmpfsOpt.size == 7


def test_a_plain_step_says_nothing_that_is_so_anyway() -> None:
    made = op_of(Vertex(STEP, (IMAGE,))).exec
    assert not made.meta.HasField("proxy_env")
    assert (list(made.meta.validExitCodes), len(made.cdiDevices)) == ([], 0)
    assert (made.network, made.security, len(made.mounts)) == (pb.UNSET, pb.SANDBOX, 1)
    only = replace(STEP, valid_exit_codes=(7,))
    assert list(op_of(Vertex(only, (IMAGE,))).exec.meta.validExitCodes) == [7]


def test_mounts_of_all_kinds_are_written() -> None:
    mounts = (
        ROOT,
        Mount(target="", type=MountType.SECRET, id="e", env="E", readonly=True, mode=0o400),
        Mount(target="/a", type=MountType.SSH, id="default", uid=1, gid=2, readonly=True),
        Mount(target="/b", input=1, selector="/etc", readonly=True),
        Mount(
            target="/c", type=MountType.CACHE, cache_id="x", sharing=CacheSharing.LOCKED, input=1,
            selector="/s", readonly=True,
        ),
        Mount(
            target="/s", type=MountType.SECRET, id="s", required=True, uid=3, gid=4, mode=0o440,
            readonly=True,
        ),
        Mount(target="/t", type=MountType.TMPFS, tmpfs_size_bytes=5, readonly=True),
        Mount(target="/u", type=MountType.SECRET, id="u", readonly=True),
    )  # fmt: skip
    made = op_of(Vertex(replace(STEP, mounts=mounts), (IMAGE, FILE))).exec
    (variable,) = made.secretenv
    assert (variable.ID, variable.name, variable.optional) == ("e", "E", True)
    root, ssh, bind, cache, secret, tmpfs, other = made.mounts
    assert (root.mountType, root.output, root.readonly) == (pb.BIND, 0, False)
    assert {one.output for one in (ssh, bind, cache, secret, tmpfs, other)} == {-1}
    assert (ssh.mountType, ssh.dest, ssh.input) == (pb.SSH, "/a", -1)
    assert ssh.SSHOpt == pb.SSHOpt(ID="default", uid=1, gid=2, mode=0o600, optional=True)
    assert (bind.mountType, bind.dest, bind.input) == (pb.BIND, "/b", 1)
    assert (bind.selector, bind.readonly) == ("/etc", True)
    assert (cache.mountType, cache.input, cache.selector, cache.readonly) == (
        pb.CACHE, 1, "/s", True
    )  # fmt: skip
    assert cache.cacheOpt == pb.CacheOpt(ID="/x", sharing=pb.LOCKED)
    assert secret.secretOpt == pb.SecretOpt(ID="s", uid=3, gid=4, mode=0o440)
    assert (tmpfs.mountType, tmpfs.TmpfsOpt.size, tmpfs.readonly) == (pb.TMPFS, 5, True)
    assert other.secretOpt == pb.SecretOpt(ID="u", mode=0o400, optional=True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CacheSharing.SHARED, pb.SHARED),
        (CacheSharing.PRIVATE, pb.PRIVATE),
        (CacheSharing.LOCKED, pb.LOCKED),
    ],
)
def test_caches_are_shared_as_they_say(ours: CacheSharing, theirs: int) -> None:
    mount = Mount(target="/c", type=MountType.CACHE, cache_id="x", sharing=ours)
    vertex = Vertex(replace(STEP, mounts=(ROOT, mount)), (IMAGE,))
    assert op_of(vertex).exec.mounts[1].cacheOpt.sharing == theirs
    comes_back(vertex)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (NetworkMode.DEFAULT, pb.UNSET),
        (NetworkMode.HOST, pb.HOST),
        (NetworkMode.NONE, pb.NONE),
    ],
)
def test_networks_are_those_of_the_protocol(ours: NetworkMode, theirs: int) -> None:
    vertex = Vertex(replace(STEP, settings=StepSettings(network=ours)), (IMAGE,))
    assert op_of(vertex).exec.network == theirs
    comes_back(vertex)


@pytest.mark.parametrize(
    ("owned", "mode"),
    [
        ({"uid": 7}, 0o755),
        ({"gid": 8}, 0o755),
        ({"mode": 0o700}, 0o700),
        ({"uid": 7, "gid": 8, "mode": 0}, 0),
    ],
)
def test_a_caches_owner_is_that_of_a_directory_it_starts_from(
    owned: dict[str, int], mode: int
) -> None:
    cache = Mount(target="/c", type=MountType.CACHE, cache_id="x", **owned)  # type: ignore[arg-type]
    vertex = Vertex(replace(STEP, mounts=(ROOT, cache)), (IMAGE,))
    definition = write(vertex)
    seed = pb.Op.FromString(definition.defs[1]).file.actions[0]
    made = seed.mkdir
    assert (seed.input, made.path, made.mode, made.makeParents) == (-1, "/cache", mode, False)
    assert made.owner.user.byID == owned.get("uid", 0)
    assert made.owner.group.byID == owned.get("gid", 0)
    written_mount = pb.Op.FromString(definition.defs[2]).exec.mounts[1]
    assert (written_mount.input, written_mount.selector) == (1, "/cache")
    found = read_all(definition).result.op
    assert isinstance(found, ExecOp)
    assert (found.mounts[1].uid, found.mounts[1].gid, found.mounts[1].mode) == (
        owned.get("uid", 0), owned.get("gid", 0), mode
    )  # fmt: skip


def test_a_cache_has_no_owner_and_a_content_to_start_with() -> None:
    cache = Mount(target="/c", type=MountType.CACHE, cache_id="x", input=1, uid=7)
    with pytest.raises(UserError, match='the cache mount "/c" cannot have both'):
        write(Vertex(replace(STEP, mounts=(ROOT, cache)), (IMAGE, FILE)))
    op_of(Vertex(replace(STEP, mounts=(ROOT, replace(cache, uid=0))), (IMAGE, FILE)))


def test_results_are_numbered_among_what_is_kept() -> None:
    mounts = (
        replace(ROOT, output=False, shared_output=True),
        Mount(target="/a"),
        Mount(target="/b", output=True),
    )
    vertex = Vertex(replace(STEP, mounts=mounts), (IMAGE,))
    definition, edges = written(vertex)
    outputs = [one.output for one in pb.Op.FromString(definition.defs[1]).exec.mounts]
    assert outputs == [0, -1, 1]
    edge = edges[vertex.digest]
    assert edge is not None and edge.index == 1
    assert pb.Op.FromString(definition.defs[-1]).inputs[0].index == 1
    first = edges[IMAGE.digest]
    assert first is not None and first.index == 0


def test_a_root_of_nothing_is_no_input() -> None:
    mounts = (ROOT, Mount(target="/b", input=1), Mount(target="/c", input=2))
    made = op_of(Vertex(replace(STEP, mounts=mounts), (SCRATCH, IMAGE, FILE)))
    assert [one.input for one in made.exec.mounts] == [-1, 0, 1]
    assert len(made.inputs) == 2
    comes_back(Vertex(replace(STEP, mounts=mounts), (SCRATCH, IMAGE, FILE)))


def test_limits_are_said_beside_the_op() -> None:
    resources = Resources(memory_bytes=1 << 23, memory_swap_bytes=-1, cpu_shares=2, pids=5)
    settings = StepSettings(resources=resources)
    vertex = Vertex(replace(STEP, settings=settings), (IMAGE,))
    definition = write(vertex)
    metadata = definition.metadata[Digest.of(definition.defs[1])]
    limits = metadata.linux_resources
    assert (limits.memory, limits.memorySwap, limits.cpuShares) == (1 << 23, -1, 2)
    assert list(metadata.description.values()) == ["5"]
    found = read_all(definition).result.op
    assert isinstance(found, ExecOp) and found.settings.resources == resources
    plain = write(Vertex(STEP, (IMAGE,)))
    assert definition.defs == plain.defs
    assert not plain.metadata[Digest.of(plain.defs[1])].description
