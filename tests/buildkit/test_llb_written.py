"""Our vertices as messages, field by field, and back [remote-api 9]."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.llb.sources import write_git, write_http, write_local
from pybuild.buildkit.llb.write import WriteOptions, write, written
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    Copy,
    Device,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MergeOp,
    Mkdir,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    OciLayoutSource,
    Owner,
    Rm,
    ScratchSource,
    SecurityMode,
    StepSettings,
    Symlink,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources
from pybuild.model.span import Span
from tests.buildkit.llbs import read_all

SCRATCH = Vertex(ScratchSource())
IMAGE = Vertex(
    ImageSource(
        digest=Digest.of(b"m"),
        reference=Reference.parse("busybox:1").with_digest(Digest.of(b"m")),
        platform=LINUX_AMD64,
    )
)
FILE = Vertex(HttpSource(url="https://e.com/f", filename="f"))
ROOT = Mount(target="/", input=0, output=True)
STEP = ExecOp(args=("true",), env=(), cwd="/", mounts=(ROOT,), platform=LINUX_AMD64)


def op_of(vertex: Vertex, options: WriteOptions | None = None) -> pb.Op:
    """Return the last op of the definition, which is the vertex's."""
    definition = write(vertex, options)
    assert pb.Op.FromString(definition.defs[-1]).inputs[0].digest == Digest.of(definition.defs[-2])
    return pb.Op.FromString(definition.defs[-2])


def comes_back(vertex: Vertex) -> None:
    found = read_all(write(vertex)).result
    assert found == vertex and found.op == vertex.op


# --- steps ----------------------------------------------------------------------------------------


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


# --- files ----------------------------------------------------------------------------------------


def test_a_chain_of_actions_is_written_with_its_trees() -> None:
    actions: tuple[FileAction, ...] = (
        Mkdir(path="/a", mode=0o700, make_parents=False, mtime=-2),
        Mkfile(path="/f", data=b"x", mode=0o600, mtime=5, owner=Owner(user="5", group="bob")),
        Symlink(path="/l", target="../t", owner=Owner(user="eve")),
        Rm(path="/r", wildcard=True),
        Rm(path="/s", allow_not_found=True),
        Copy(input=2, source="/x", dest="/y"),
    )
    vertex = Vertex(FileOp(actions=actions), (IMAGE, FILE, IMAGE))
    made = op_of(vertex)
    first, second, third, fourth, fifth, last = made.file.actions
    assert [one.input for one in made.file.actions] == [0, 3, 4, 5, 6, 7]
    assert [one.output for one in made.file.actions] == [-1] * 5 + [0]
    assert [one.secondaryInput for one in made.file.actions] == [-1] * 5 + [2]
    assert (first.mkdir.path, first.mkdir.mode, first.mkdir.makeParents) == ("/a", 0o700, False)
    assert first.mkdir.timestamp == -2 * 10**9 and not first.mkdir.HasField("owner")
    assert (second.mkfile.path, second.mkfile.data, second.mkfile.mode) == ("/f", b"x", 0o600)
    assert second.mkfile.timestamp == 5 * 10**9
    assert second.mkfile.owner.user.byID == 5
    assert second.mkfile.owner.group.byName == pb.NamedUserOpt(name="bob", input=0)
    assert (third.symlink.newpath, third.symlink.oldpath) == ("/l", "../t")
    assert third.symlink.timestamp == -1
    assert third.symlink.owner.user.byName.name == "eve"
    assert not third.symlink.owner.HasField("group")
    assert fourth.rm == pb.FileActionRm(path="/r", allowWildcard=True)
    assert fifth.rm == pb.FileActionRm(path="/s", allowNotFound=True)
    assert (last.copy.src, last.copy.dest, last.copy.mode) == ("/x", "/y", -1)


def test_actions_on_nothing_begin_with_nothing() -> None:
    vertex = Vertex(FileOp(actions=(Mkdir(path="/a"), Mkdir(path="/b"))), (SCRATCH,))
    made = op_of(vertex)
    assert [one.input for one in made.file.actions] == [-1, 0]
    assert not len(made.inputs)
    comes_back(vertex)


@pytest.mark.parametrize(
    ("path", "paths"),
    [("/f", ["/f"]), ("/a/f", ["/a", "/a/f"]), ("/a/b/f", ["/a/b", "/a/b/f"])],
)
def test_a_files_directory_is_made_before_it(path: str, paths: list[str]) -> None:
    owner = Owner(user="7")
    op = FileOp(actions=(Mkfile(path=path, data=b"", owner=owner, mtime=3),))
    made = op_of(Vertex(op, (IMAGE,))).file.actions
    assert [one.mkdir.path or one.mkfile.path for one in made] == paths
    for one in made:
        action = one.mkdir if one.WhichOneof("action") == "mkdir" else one.mkfile
        assert (action.timestamp, action.owner.user.byID) == (3 * 10**9, 7)
    without = FileOp(actions=(Mkfile(path=path, data=b"", make_parents=False),))
    assert len(op_of(Vertex(without, (IMAGE,))).file.actions) == 1


NONE: list[str] = []


def copied(**fields: object) -> pb.FileActionCopy:
    made = Copy(**{"input": 1, "source": "/a", "dest": "/b", **fields})  # type: ignore[arg-type]
    (action,) = op_of(Vertex(FileOp(actions=(made,)), (IMAGE, FILE))).file.actions
    return action.copy


def test_each_flag_of_a_copy_is_its_own() -> None:
    plain = copied()
    assert plain == pb.FileActionCopy(
        src="/a", dest="/b", mode=-1, followSymlink=True, dirCopyContents=True, timestamp=-1,
        createDestPath=True,
    )  # fmt: skip
    cases: list[tuple[dict[str, object], dict[str, object]]] = [
        ({"mode": 0o640}, {"mode": 0o640}),
        ({"mode": "u+x"}, {"mode": 0, "modeStr": "u+x"}),
        ({"follow_source_links": False}, {"followSymlink": False}),
        ({"contents_only": False}, {"dirCopyContents": False}),
        ({"unpack": True}, {"attemptUnpackDockerCompatibility": True}),
        ({"require_unpack": True}, {"attemptUnpackDockerCompatibility": True}),
        ({"make_parents": False}, {"createDestPath": False}),
        ({"wildcard": True}, {"allowWildcard": True}),
        ({"allow_empty": True}, {}),
        (
            {"wildcard": True, "allow_empty": True},
            {"allowWildcard": True, "allowEmptyWildcard": True},
        ),
        ({"exclude": ("x", "!y")}, {"exclude_patterns": ["x", "!y"]}),
        ({"mtime": 0}, {"timestamp": 0}),
    ]
    for fields, change in cases:
        made = copied(**fields)
        for name in ("mode", "modeStr", "followSymlink", "dirCopyContents", "allowWildcard",
                     "attemptUnpackDockerCompatibility", "createDestPath", "timestamp",
                     "allowEmptyWildcard", "exclude_patterns"):  # fmt: skip
            assert getattr(made, name) == change.get(name, getattr(plain, name)), (fields, name)


@pytest.mark.parametrize(
    ("source", "pivot", "wildcard", "expected"),
    [
        ("/a/b/c", 0, False, ("/", False, ["a/b/c"], ["/a/b/c"])),
        ("/a/b/c", 1, False, ("/a", False, ["b/c"], ["/a/b/c"])),
        ("/a/b/*", 2, True, ("/a/b", False, ["*"], NONE)),
        ("/a/b", 2, False, ("/a/b", False, NONE, NONE)),
        ("/a*/b", 1, True, ("/a*", True, ["b"], NONE)),
    ],
)
def test_copies_with_parents_are_patterns_below_a_root(
    source: str, pivot: int, wildcard: bool, expected: tuple[str, bool, list[str], list[str]]
) -> None:
    made = copied(source=source, parents_pivot=pivot, wildcard=wildcard, allow_empty=wildcard)
    assert (
        made.src, made.allowWildcard, list(made.include_patterns), list(made.required_paths)
    ) == expected  # fmt: skip
    assert made.allowEmptyWildcard is expected[1]


# --- sources --------------------------------------------------------------------------------------


def test_images_and_layouts_are_written_with_their_digests() -> None:
    made = op_of(IMAGE)
    assert made.source.identifier == f"docker-image://docker.io/library/busybox:1@{Digest.of(b'm')}"
    assert (made.platform.OS, made.platform.Architecture) == ("linux", "amd64")
    digest = Digest.of(b"l")
    windows = Platform("windows", "amd64", "", "10.0.1")
    layout = Vertex(OciLayoutSource(path="/p", digest=digest, platform=windows))
    made = op_of(layout, WriteOptions(layouts={"/p": "shop"}))
    assert made.source.identifier == f"oci-layout://shop@{digest}"
    assert dict(made.source.attrs) == {"oci.store": "shop"}
    assert (made.platform.OS, made.platform.OSVersion) == ("windows", "10.0.1")


def test_a_directory_is_written_as_it_is_asked_for() -> None:
    source = Vertex(LocalSource(name="context", exclude=("a", "!b")))
    made = op_of(source).source
    assert made.identifier == "local://context"
    assert dict(made.attrs) == {
        "local.excludepatterns": '["a","!b"]',
        "local.sharedkeyhint": "context",
    }
    query = LocalQuery(
        dir_name="d", session="s", include=("i",), follow=("f",), shared_key="k", compare=False,
        metadata_only=True, metadata_except=("e",),
    )  # fmt: skip
    made = op_of(source, WriteOptions(locals={"context": query})).source
    assert made.identifier == "local://d"
    assert dict(made.attrs) == {
        "local.includepattern": '["i"]',
        "local.followpaths": '["f"]',
        "local.metadatatransferexclude": '["e"]',
        "local.session": "s",
        "local.sharedkeyhint": "k",
        "local.differ": "none",
        "local.metadatatransfer": "true",
    }
    assert dict(write_local(LocalQuery(dir_name="x")).attrs) == {}


def test_a_fetched_file_says_what_is_not_the_default() -> None:
    assert dict(write_http(HttpSource(url="https://e/f")).attrs) == {}
    digest = Digest.of(b"x")
    made = write_http(
        HttpSource(url="http://e/f", checksum=digest, filename="g", mode=0o755, uid=1, gid=2)
    )
    assert made.identifier == "http://e/f"
    assert dict(made.attrs) == {
        "http.checksum": digest,
        "http.filename": "g",
        "http.perm": "0755",
        "http.uid": "1",
        "http.gid": "2",
    }
    assert write_http(HttpSource(url="upload:abc")).identifier == "http://buildkit-session/abc"
    assert write_http(HttpSource(url="stdin:")).identifier == "http://buildkit-session/stdin"
    with pytest.raises(UserError, match=r'"ftp://e/f" is no http\(s\) URL'):
        write_http(HttpSource(url="ftp://e/f"))


@pytest.mark.parametrize(
    ("source", "identifier", "attrs"),
    [
        (GitSource(remote="http://h/r"), "git://h/r", {"git.fullurl": "http://h/r"}),
        (
            GitSource(remote="https://u:p@h:8/r/s.git", ref="v1", subdir="a/b"),
            "git://h:8/r/s.git#v1:a/b",
            {"git.fullurl": "https://u:p@h:8/r/s.git"},
        ),
        (
            GitSource(remote="git@h:o/r.git", subdir="d"),
            "git://h/o/r.git#:d",
            {"git.fullurl": "git@h:o/r.git", "git.mountsshsock": "default"},
        ),
        (
            GitSource(remote="SSH://u@h/r", known_hosts="k"),
            "git://h/r",
            {
                "git.fullurl": "SSH://u@h/r",
                "git.mountsshsock": "default",
                "git.knownsshhosts": "k",
            },
        ),
        (
            GitSource(
                remote="git://h/r", keep_git_dir=True, checksum="abc", submodules=False,
                mtime="commit", fetch_by_commit=True,
            ),
            "git://h/r",
            {
                "git.fullurl": "git://h/r", "git.keepgitdir": "true", "git.checksum": "abc",
                "git.skipsubmodules": "true", "git.mtime": "commit", "git.fetchbycommit": "true",
            },
        ),
    ],
)  # fmt: skip
def test_a_repository_is_written(source: GitSource, identifier: str, attrs: dict[str, str]) -> None:
    made = write_git(source)
    assert made.identifier == identifier
    given = dict(made.attrs)
    secrets = {given.pop("git.authheadersecret", ""), given.pop("git.authtokensecret", "")}
    assert given == attrs
    by_ssh = "git.mountsshsock" in attrs
    assert secrets == ({""} if by_ssh else {"GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"})
    comes_back(Vertex(source))


# --- composition ----------------------------------------------------------------------------------


def test_what_is_merged_with_nothing_is_itself() -> None:
    definition, edges = written(Vertex(MergeOp(), (SCRATCH, IMAGE)))
    assert len(definition.defs) == 2
    assert edges[SCRATCH.digest] is None
    both = Vertex(MergeOp(), (IMAGE, SCRATCH, FILE))
    made = op_of(both)
    assert [one.input for one in made.merge.inputs] == [0, 1] and len(made.inputs) == 2


def test_a_difference_names_both_sides() -> None:
    made = op_of(Vertex(DiffOp(), (IMAGE, FILE)))
    assert (made.diff.lower.input, made.diff.upper.input) == (0, 1)
    comes_back(Vertex(DiffOp(), (IMAGE, FILE)))
    made = op_of(Vertex(DiffOp(), (IMAGE, SCRATCH)))
    assert (made.diff.lower.input, made.diff.upper.input) == (0, -1)


def test_names_and_lines_stand_once_beside_an_op_that_two_vertices_are() -> None:
    meta = VertexMeta(name="one", spans=(Span("D", 1, 2), Span("E", 3, 3), Span("D", 5, 5)))
    one, other = replace(FILE, meta=meta), replace(FILE, meta=replace(meta, spans=()))
    definition = write(Vertex(MergeOp(), (one, other)), WriteOptions(files={"D": b"text"}))
    assert len(definition.defs) == 3
    source = definition.Source
    assert [(info.filename, info.data) for info in source.infos] == [("D", b"text"), ("E", b"")]
    (where,) = source.locations.values()
    assert [
        (place.sourceIndex, place.ranges[0].start.line, place.ranges[0].end.line)
        for place in where.locations
    ] == [(0, 1, 2), (1, 3, 3), (0, 5, 5)]
    metadata = definition.metadata[Digest.of(definition.defs[0])]
    assert metadata.description["llb.customname"] == "one" and not metadata.ignore_cache
