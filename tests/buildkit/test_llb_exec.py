"""Received execs: mounts, results, and what is refused [remote-api 9]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.llb.containers import read_container
from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb.gateway import NewContainerRequest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    ExecOp,
    MergeOp,
    Mount,
    MountType,
    NetworkMode,
    ScratchSource,
    SecurityMode,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.resources import Resources
from tests.buildkit.llbs import BUSYBOX, Builder, exec_op, file_op, one, read_all


def read_exec(op: pb.Op, *inputs: pb.Op) -> ExecOp:
    found = read_all(one(op, *(inputs or (BUSYBOX,)))).result.op
    assert isinstance(found, ExecOp)
    return found


def test_everything_about_a_process() -> None:
    op = exec_op(args=["sh", "-c", "x"])
    step = op.exec
    step.network = pb.HOST
    step.security = pb.INSECURE
    meta = step.meta
    meta.env.append("A=b")
    meta.cwd, meta.user, meta.hostname = "/w/../v/", "5:6", "h"
    meta.extraHosts.add(Host="a", IP="::1")
    meta.ulimit.add(Name="nofile", Soft=1, Hard=-1)
    meta.validExitCodes.extend([0, 3])
    meta.proxy_env.https_proxy = "http://p"
    op.platform.OS, op.platform.Architecture = "linux", "aarch64"
    found = read_exec(op)
    assert (found.args, found.env) == (("sh", "-c", "x"), ("A=b",))
    assert (found.cwd, found.user, found.settings.hostname) == ("/v", "5:6", "h")
    assert (found.settings.network, found.security) == (NetworkMode.HOST, SecurityMode.INSECURE)
    assert found.settings.add_hosts == (("a", "::1"),)
    assert found.settings.ulimits == (("nofile", 1, -1),)
    assert found.valid_exit_codes == (0, 3)
    assert found.proxy_env == ("HTTPS_PROXY=http://p", "https_proxy=http://p")
    assert str(found.platform) == "linux/arm64"


def test_the_root_shares_its_input_with_no_mount() -> None:
    """So that what a mount reads counts by content, as in our own frontend."""
    op = exec_op(pb.Mount(dest="/m", input=0, output=-1, readonly=True))
    found = read_all(one(op, BUSYBOX)).result
    assert isinstance(found.op, ExecOp)
    assert [mount.input for mount in found.op.mounts] == [0, 1]
    assert found.inputs[0] == found.inputs[1]


def test_a_root_of_nothing_is_scratch() -> None:
    op = pb.Op(exec=pb.ExecOp(meta=pb.Meta(args=["/x"]), mounts=[pb.Mount(dest="/", input=-1)]))
    found = read_all(one(op)).result
    assert isinstance(found.inputs[0].op, ScratchSource)
    assert isinstance(found.op, ExecOp) and found.op.cwd == "/"


def test_mounts_of_all_kinds_in_our_order() -> None:
    op = exec_op(
        pb.Mount(dest="/z/", input=0, selector="../etc", output=-1),
        pb.Mount(
            dest="/c", input=-1, output=-1, mountType=pb.CACHE,
            cacheOpt=pb.CacheOpt(ID="//c", sharing=pb.LOCKED),
        ),
        pb.Mount(dest="/t", input=-1, mountType=pb.TMPFS, TmpfsOpt=pb.TmpfsOpt(size=5)),
        pb.Mount(dest="/dev/shm", input=-1, mountType=pb.TMPFS, TmpfsOpt=pb.TmpfsOpt(size=7)),
        pb.Mount(
            dest="/s", mountType=pb.SECRET,
            secretOpt=pb.SecretOpt(ID="s", uid=1, gid=2, mode=0o440, optional=True),
        ),
        pb.Mount(dest="/a", mountType=pb.SSH, SSHOpt=pb.SSHOpt(mode=0o600)),
    )  # fmt: skip
    op.exec.secretenv.add(ID="e", name="E")
    found = read_exec(op)
    assert found.settings.shm_size_bytes == 7
    assert found.mounts == (
        Mount(target="/", input=0, output=True),
        Mount(target="", type=MountType.SECRET, id="e", env="E", required=True, readonly=True,
              mode=0o400),
        Mount(target="/a", type=MountType.SSH, id="default", required=True, readonly=True,
              mode=0o600),
        Mount(target="/c", type=MountType.CACHE, cache_id="/c", sharing=CacheSharing.LOCKED),
        Mount(target="/s", type=MountType.SECRET, id="s", uid=1, gid=2, mode=0o440, readonly=True),
        Mount(target="/t", type=MountType.TMPFS, tmpfs_size_bytes=5),
        Mount(target="/z", input=1, selector="/etc"),
    )  # fmt: skip


def test_a_seed_that_only_makes_a_directory_gives_a_cache_its_owner() -> None:
    """The Dockerfile frontend's way to give a cache mount its uid and mode [MNT-15]."""
    made = pb.FileActionMkDir(path="/cache", mode=0o700, timestamp=-1)
    made.owner.user.byID = 7
    made.owner.group.byID = 0
    seed = file_op(pb.FileAction(input=-1, secondaryInput=-1, mkdir=made))
    cache = pb.Mount(
        dest="/c", input=1, output=-1, selector="/cache", mountType=pb.CACHE,
        cacheOpt=pb.CacheOpt(ID="x"),
    )  # fmt: skip
    found = read_exec(exec_op(cache), BUSYBOX, seed)
    assert found.mounts[1] == Mount(
        target="/c", type=MountType.CACHE, cache_id="x", uid=7, gid=0, mode=0o700
    )
    cache.selector = "/"
    assert read_exec(exec_op(cache), BUSYBOX, seed).mounts[1].input == 1


def test_only_the_result_that_is_used_is_kept() -> None:
    """Clients mark whatever is writable."""
    builder = Builder()
    base = builder.add(BUSYBOX)
    op = exec_op(pb.Mount(dest="/o", input=-1, output=1), pb.Mount(dest="/p", output=2))
    digest, _ = builder.add(op, base)
    found = read_all(builder.end((digest, 1)))
    assert isinstance(found.result.op, ExecOp)
    kept = [mount.target for mount in found.result.op.mounts if mount.output]
    assert kept == ["/o"]


def test_several_results_are_one_step_that_is_there_several_times() -> None:
    builder = Builder()
    base = builder.add(BUSYBOX)
    op = exec_op(pb.Mount(dest="/o", input=-1, output=1), pb.Mount(dest="/p", output=5))
    digest, _ = builder.add(op, base, name="step")
    merge = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=n) for n in range(3)]))
    definition = builder.end(builder.add(merge, (digest, 0), (digest, 1), (digest, 5)))
    found = read_all(definition)
    assert isinstance(found.result.op, MergeOp)
    kept: list[tuple[str, list[str]]] = []
    for vertex in found.result.inputs:
        assert isinstance(vertex.op, ExecOp)
        assert found.origins[vertex.digest].digest == digest
        own = [mount.target for mount in vertex.op.mounts if mount.output]
        kept.append((own[0], [m.target for m in vertex.op.mounts if m.shared_output]))
    assert kept == [("/", ["/o", "/p"]), ("/o", ["/", "/p"]), ("/p", ["/", "/o"])]
    again = write(found.result)
    assert len(again.defs) == 4  # the image, the step once, the merge and the end
    assert read_all(again).result == found.result


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (pb.Mount(dest="/m", input=1, output=-1), "refers to input 1 of 1"),
        (pb.Mount(dest="/m", input=-2, output=-1), "refers to input -2 of 1"),
        (pb.Mount(dest="/m", input=2**62, output=-1), "refers to input"),
        (pb.Mount(dest="/", input=0, output=-1), "2 rootfs"),
        (pb.Mount(dest="/m", output=0), "result 0 is that of two mounts"),
        (pb.Mount(dest="", output=-1, mountType=pb.TMPFS), "invalid mount target"),
        (pb.Mount(dest="/m\0", output=-1), "NUL"),
        (pb.Mount(dest="/m", output=-1, mountType=9), "mount type 9"),  # type: ignore[arg-type,unused-ignore]
        (pb.Mount(dest="/m", output=-1, mountType=pb.CACHE), "has no id"),
        (pb.Mount(dest="/m", output=-1, mountType=pb.SECRET), "has no id"),
        (pb.Mount(dest="/m", output=-1, resultID="r"), 'the result "r"'),
        (
            pb.Mount(dest="/m", mountType=pb.TMPFS, input=-1, TmpfsOpt=pb.TmpfsOpt(size=-1)),
            "the size -1",
        ),
        (
            pb.Mount(dest="/m", mountType=pb.SSH, input=-1, SSHOpt=pb.SSHOpt(uid=2**32 - 1)),
            "the id 4294967295",
        ),
        (
            pb.Mount(
                dest="/m", mountType=pb.CACHE, input=-1,
                cacheOpt=pb.CacheOpt(ID="x", sharing=7),
            ),
            "invalid sharing mode: 7",
        ),
    ],
)  # fmt: skip
def test_mounts_that_cannot_be(mount: pb.Mount, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_all(one(exec_op(mount), BUSYBOX))
    assert words in caught.value.message


def test_steps_that_cannot_be() -> None:
    bare = pb.Op(exec=pb.ExecOp(meta=pb.Meta(args=["x"])))
    group = exec_op()
    group.exec.meta.cgroupParent = "/g/../h"
    network = exec_op()
    network.exec.network = 9
    secret = exec_op()
    secret.exec.secretenv.add(ID="x", name="A=b")
    argument = exec_op(args=["a\0b"])
    for op, words in (
        (bare, "there is no result 0"),
        (exec_op(args=[]), "no args"),
        (group, "invalid cgroup-parent"),
        (network, "invalid network mode: 9"),
        (secret, "invalid secret variable"),
        (argument, "NUL"),
    ):
        with pytest.raises(UserError, match=words):
            read_all(one(op, BUSYBOX))


def test_limits_of_resources_are_read_and_never_count() -> None:
    """[KEY-1] Two steps that differ in nothing else are one."""
    op = exec_op()
    op.exec.meta.cgroupParent = "/builds"
    definition = one(op, BUSYBOX)
    plain = read_all(definition).result
    for digest in read_all(definition).vertices:
        limits = definition.metadata[digest].linux_resources
        limits.memory, limits.memorySwap, limits.cpuShares = 1 << 30, -1, 512
        limits.cpuPeriod, limits.cpuQuota, limits.cpusetCpus = 50_000, 25_000, "0-1"
    found = read_all(definition).result
    assert isinstance(found.op, ExecOp)
    assert found.op.settings.resources == Resources(
        memory_bytes=1 << 30,
        memory_swap_bytes=-1,
        cpu_shares=512,
        cpu_period_us=50_000,
        cpu_quota_us=25_000,
        cpuset_cpus="0-1",
        parent="/builds",
    )
    assert found.digest == plain.digest


def test_limits_that_cannot_be_are_refused() -> None:
    definition = one(exec_op(), BUSYBOX)
    for digest in read_all(definition).vertices:
        definition.metadata[digest].linux_resources.cpusetCpus = "one"
    with pytest.raises(UserError, match="invalid cpuset-cpus: one"):
        read_all(definition)


def test_a_read_only_mount_has_no_result_of_its_own() -> None:
    builder = Builder()
    base = builder.add(BUSYBOX)
    digest, _ = builder.add(exec_op(pb.Mount(dest="/r", readonly=True, output=1)), base)
    with pytest.raises(UserError, match="read-only mount"):
        read_all(builder.end((digest, 1)))


def test_groups_of_progress_and_names_come_along() -> None:
    definition = one(exec_op(args=["a", "b"]), BUSYBOX)
    plain = read_all(definition)
    assert plain.result.meta.name == "a b"
    origin = plain.origins[plain.result.digest]
    assert origin.group is None
    definition.metadata[origin.digest].progress_group.id = "g"
    definition.metadata[origin.digest].description["llb.customname"] = "[1/1] RUN a b"
    found = read_all(definition)
    group = found.origins[found.result.digest].group
    assert group is not None and group.id == "g"
    assert found.result.meta.name == "[1/1] RUN a b"
    assert found.result == plain.result


def test_a_relative_mount_lies_in_the_working_directory() -> None:
    step = exec_op(
        pb.Mount(dest="rel/./path", input=-1, output=1), pb.Mount(dest="../up", input=-1)
    )
    step.exec.meta.cwd = "/root/w"
    step.exec.mounts[2].output = -1
    op = read_all(one(step, BUSYBOX)).result.op
    assert isinstance(op, ExecOp)
    assert [mount.target for mount in op.mounts] == ["/", "/root/up", "/root/w/rel/path"]


def test_a_clients_container_is_a_step_that_nobody_runs() -> None:
    """Equal results are one input; what may be written to is its own [GWY]."""
    request = NewContainerRequest(
        Network=pb.HOST,
        hostname="h",
        extraHosts=[pb.HostIP(Host="a", IP="::1")],
        Mounts=[
            pb.Mount(dest="/", resultID="r1"),
            pb.Mount(dest="/own", resultID="r2"),
            pb.Mount(dest="/shown", resultID="r1", readonly=True),
            pb.Mount(dest="/t", mountType=pb.TMPFS),
            pb.Mount(dest="/none"),
        ],
    )
    op, inputs = read_container(request, LINUX_AMD64)
    assert (op.args, op.cwd, op.settings.network) == (("-",), "/", NetworkMode.HOST)
    assert op.settings.hostname == "h"
    mounts = {mount.target: mount for mount in op.mounts}
    assert sorted(mounts) == ["/", "/none", "/own", "/shown", "/t"]
    named = {
        target: None if mount.input is None else inputs[mount.input]
        for target, mount in mounts.items()
    }
    assert (named["/"], named["/own"], named["/shown"]) == ("r1", "r2", "r1")
    assert named["/t"] is None and named["/none"] in (None, "")
    assert mounts["/t"].type is MountType.TMPFS
    assert mounts["/shown"].readonly and not mounts["/own"].readonly


@pytest.mark.parametrize(
    "mount", [pb.Mount(dest="/"), pb.Mount(dest="/", mountType=pb.TMPFS, resultID="r")]
)
def test_a_container_has_a_root(mount: pb.Mount) -> None:
    with pytest.raises(UserError):
        read_container(NewContainerRequest(Mounts=[mount]), LINUX_AMD64)
