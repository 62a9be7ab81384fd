"""LLB that is written is read back as it was; LLB that is changed on the way is read or refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.buildkit.llb.read import NeedAnswers, read
from pybuild.buildkit.llb.write import WriteOptions, write
from pybuild.buildkit.pb import ops as pb
from pybuild.frontend.lowering import paths
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
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
    Op,
    Owner,
    Rm,
    ScratchSource,
    SecurityMode,
    StepSettings,
    Symlink,
    Vertex,
    VertexMeta,
    walk,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources
from pybuild.model.span import Span
from tests.buildkit.llbs import answers, read_all

ARM = Platform.make("linux", "arm", "v6")
SCRATCH = Vertex(ScratchSource())
LAYOUTS = WriteOptions(layouts={"shop": "shop"})

_word = st.text("abcxyz.-_é", min_size=1, max_size=6).filter(lambda t: t not in (".", ".."))
_path = st.lists(_word, min_size=1, max_size=3).map(lambda parts: paths.clean("/".join(parts)))
_digest = st.binary(max_size=2).map(Digest.of)
_mode = st.integers(0, 0o7777)
_id = st.integers(0, 2**32 - 2)
_mtime = st.none() | st.integers(-(10**9), 4 * 10**9)
_platform = st.sampled_from([LINUX_AMD64, ARM])
_owner = st.none() | st.builds(
    Owner, user=_id.map(str) | _word, group=st.none() | _id.map(str) | _word
)
_meta = st.builds(
    VertexMeta,
    name=st.text("abc [1/2]", min_size=1),
    spans=st.lists(st.builds(Span, st.just("Dockerfile"), st.just(2), st.just(3))).map(tuple),
    ignore_cache=st.booleans(),
)


@st.composite
def _images(draw: st.DrawFn) -> ImageSource:
    name = draw(st.sampled_from(["busybox:1", "ghcr.io/a/b:latest", "127.0.0.1:5000/x:y"]))
    digest = draw(_digest)
    reference = Reference.parse(name).with_digest(digest)
    return ImageSource(digest=digest, reference=reference, platform=draw(_platform))


_http = st.builds(
    HttpSource,
    url=st.sampled_from(["https://e.com/x.tgz", "http://u:p@h:1/a?b=c"]),
    checksum=st.none() | _digest,
    filename=_word,
    mode=_mode,
    uid=_id,
    gid=_id,
)
_git = st.builds(
    GitSource,
    remote=st.sampled_from(
        ["https://h/r.git", "git@h:o/r.git", "ssh://u@h:22/r", "git://h/r", "http://u:p@h/r.git"]
    ),
    ref=st.sampled_from(["", "main", "refs/tags/v1"]),
    subdir=st.sampled_from(["", "a", "a/b"]),
    keep_git_dir=st.booleans(),
    checksum=st.sampled_from(["", "0123456789"]),
    submodules=st.booleans(),
    mtime=st.sampled_from(["", "commit"]),
    fetch_by_commit=st.booleans(),
    known_hosts=st.sampled_from(["", "h ssh-ed25519 AAAA\n"]),
)
_layout = st.builds(
    OciLayoutSource, path=st.just("shop"), digest=_digest, platform=st.just(LINUX_AMD64)
)
_local = st.builds(
    LocalSource, name=st.just("context"), exclude=st.lists(_word, max_size=2).map(tuple)
)
_source: st.SearchStrategy[Op] = st.one_of(_images(), _http, _git, _layout, _local)


@st.composite
def _copies(draw: st.DrawFn, inputs: int) -> Copy:
    copy = Copy(
        input=draw(st.integers(1, inputs)),
        source=draw(_path),
        dest=draw(_path) + draw(st.sampled_from(["", "/"])),
        contents_only=draw(st.booleans()),
        unpack=draw(st.booleans()),
        follow_source_links=draw(st.booleans()),
        make_parents=draw(st.booleans()),
        exclude=tuple(draw(st.lists(_word, max_size=2))),
        mode=draw(st.none() | _mode | st.sampled_from(["u+x", "g=rw,o-w"])),
        owner=draw(_owner),
        mtime=draw(_mtime),
    )
    if paths.components(copy.dest) < 2:
        copy = replace(copy, make_parents=True)
    match draw(st.sampled_from(["plain", "wildcard", "parents"])):
        case "wildcard":
            source = copy.source + "*"
            return replace(copy, source=source, wildcard=True, allow_empty=draw(st.booleans()))
        case "parents":
            pivot = draw(st.integers(0, paths.components(copy.source) - 1))
            star = draw(st.booleans())
            return replace(
                copy,
                source=copy.source + "*" * star,
                parents_pivot=pivot,
                wildcard=star,
                allow_empty=star,
                contents_only=True,
                unpack=False,
            )
        case _:
            return copy


def _simple() -> st.SearchStrategy[FileAction]:
    return st.one_of(
        st.builds(
            Mkdir,
            path=_path,
            mode=_mode,
            make_parents=st.booleans(),
            owner=_owner,
            mtime=_mtime,
        ),
        st.builds(
            Mkfile, path=_path, data=st.binary(max_size=9), mode=_mode, owner=_owner, mtime=_mtime
        ).map(lambda made: replace(made, make_parents=made.path.count("/") < 2)),
        st.builds(Symlink, path=_path, target=_word, owner=_owner, mtime=_mtime),
        st.builds(Rm, path=_path, wildcard=st.booleans(), allow_not_found=st.booleans()),
    )


def _first_used(copies: Sequence[FileAction], trees: Sequence[Vertex]) -> list[int]:
    used = [action.input for action in copies if isinstance(action, Copy)]
    return list(dict.fromkeys(used))


@st.composite
def _file_ops(draw: st.DrawFn, trees: Sequence[Vertex]) -> Vertex:
    base = draw(st.sampled_from([SCRATCH, *trees]))
    several = draw(
        st.lists(st.sampled_from([SCRATCH, *trees]), min_size=1, unique=True, max_size=3)
    )
    actions = draw(st.lists(_simple() | _copies(len(several)), min_size=1, max_size=4))
    if base is SCRATCH:  # nobody can be looked up there
        actions = [a if isinstance(a, Rm) else replace(a, owner=None) for a in actions]
    # Inputs in the order in which they are first used, as frontends number them.
    order = _first_used(actions, several)
    actions = [
        replace(a, input=order.index(a.input) + 1) if isinstance(a, Copy) else a for a in actions
    ]
    inputs = (base, *(several[number - 1] for number in order))
    return Vertex(FileOp(actions=tuple(actions)), inputs, draw(_meta))


@st.composite
def _mounts(draw: st.DrawFn) -> Mount:
    target = draw(_path)
    kind = draw(st.sampled_from(list(MountType)))
    match kind:
        case MountType.BIND:
            return Mount(target=target, input=1, selector=draw(_path), readonly=draw(st.booleans()))
        case MountType.CACHE:
            owned = draw(st.booleans())
            return Mount(
                target=target,
                type=kind,
                input=None if owned else draw(st.sampled_from([None, 1])),
                readonly=draw(st.booleans()),
                cache_id=draw(_word | _path),
                sharing=draw(st.sampled_from(list(CacheSharing))),
                uid=draw(_id) if owned else 0,
                gid=draw(_id) if owned else 0,
                mode=draw(_mode) if owned else None,
            )
        case MountType.TMPFS:
            size = draw(st.integers(0, 2**40))
            readonly = draw(st.booleans())
            return Mount(target=target, type=kind, readonly=readonly, tmpfs_size_bytes=size)
        case MountType.SECRET | MountType.SSH:
            mount = Mount(
                target=target,
                type=kind,
                readonly=True,
                id=draw(_word),
                required=draw(st.booleans()),
                uid=draw(_id),
                gid=draw(_id),
                mode=draw(_mode),
            )
            if kind is MountType.SECRET and draw(st.booleans()):
                return replace(mount, target="", env="NAME", uid=0, gid=0, mode=0o400)
            return mount


@st.composite
def _execs(draw: st.DrawFn, trees: Sequence[Vertex]) -> Vertex:
    proxies = [f"{name}=v" for name in ("HTTP_PROXY", "http_proxy")]
    chosen = draw(st.lists(_mounts(), max_size=4, unique_by=lambda mount: mount.target))
    inputs = [draw(st.sampled_from([SCRATCH, *trees]))]
    mounts = [Mount(target="/", input=0, output=True)]
    for mount in sorted(chosen, key=lambda mount: mount.target):
        if mount.input is not None:
            tree = draw(st.sampled_from(trees))
            if tree not in inputs[1:]:
                inputs.append(tree)
            mount = replace(mount, input=inputs.index(tree, 1))
        mounts.append(mount)
    op = ExecOp(
        args=tuple(draw(st.lists(st.text("ab $"), min_size=1, max_size=3))),
        env=tuple(draw(st.lists(st.just("A=b=c"), max_size=2))),
        cwd=draw(_path),
        user=draw(st.sampled_from(["", "5", "a:b"])),
        mounts=tuple(mounts),
        security=draw(st.sampled_from(list(SecurityMode))),
        platform=draw(_platform),
        settings=draw(_settings()),
        valid_exit_codes=draw(st.sampled_from([(0,), (0, 3), (7,)])),
        proxy_env=tuple(draw(st.sampled_from([[], proxies]))),
        devices=tuple(
            draw(st.lists(st.builds(Device, name=_word, required=st.booleans()), max_size=2))
        ),
    )
    return Vertex(op, tuple(inputs), draw(_meta))


@st.composite
def _settings(draw: st.DrawFn) -> StepSettings:
    return StepSettings(
        network=draw(st.sampled_from(list(NetworkMode))),
        hostname=draw(st.sampled_from(["", "h"])),
        add_hosts=tuple(draw(st.lists(st.just(("h", "1.2.3.4")), max_size=2))),
        ulimits=tuple(draw(st.lists(st.just(("nofile", -1, 2**40)), max_size=2))),
        shm_size_bytes=draw(st.sampled_from([0, 1 << 20])),
        resources=Resources(
            pids=draw(st.sampled_from([0, 5])), parent=draw(st.sampled_from(["", "p"]))
        ),
    )


@st.composite
def definitions(draw: st.DrawFn) -> Vertex:
    trees = [Vertex(draw(_source), meta=draw(_meta))]
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(["source", "file", "exec", "merge", "diff"])):
            case "source":
                made = Vertex(draw(_source), meta=draw(_meta))
            case "file":
                made = draw(_file_ops(trees))
            case "exec":
                made = draw(_execs(trees))
            case "merge":
                several = draw(st.lists(st.sampled_from(trees), min_size=2, max_size=3))
                made = Vertex(MergeOp(), tuple(several), draw(_meta))
            case _:
                pair = (draw(st.sampled_from(trees)), draw(st.sampled_from(trees)))
                made = Vertex(DiffOp(), pair, draw(_meta))
        # Locals of one name and several ignore files are told apart by their order, which is lost.
        names = [v.op for v in walk(made, *trees) if isinstance(v.op, LocalSource)]
        if len(set(names)) < 2:
            trees.append(made)
    return trees[-1]


def _same(one: Vertex, other: Vertex) -> None:
    assert other == one
    for before, after in zip(walk(one), walk(other), strict=True):
        assert after.op == before.op
        if isinstance(before.op, ExecOp):
            assert isinstance(after.op, ExecOp)
            assert after.op.settings.shm_size_bytes == before.op.settings.shm_size_bytes
            assert after.op.settings.resources == before.op.settings.resources
            assert after.op.proxy_env == before.op.proxy_env


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(definitions())
@pytest.mark.slow
def test_what_is_written_is_read_back(vertex: Vertex) -> None:
    definition = write(vertex, LAYOUTS)
    again = pb.Definition.FromString(definition.SerializeToString())
    found = read_all(again)
    _same(vertex, found.result)
    assert found.result.meta.name == vertex.meta.name
    assert write(vertex, LAYOUTS).SerializeToString(
        deterministic=True
    ) == definition.SerializeToString(deterministic=True)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(definitions(), st.integers(0, 2**32))
@pytest.mark.slow
def test_changed_definitions_are_read_or_refused(vertex: Vertex, seed: int) -> None:
    """Bytes change at random, and ids are made to fit again so that the change is looked at."""
    dice = random.Random(seed)
    original = write(vertex, LAYOUTS)
    for _ in range(30):
        try:
            changed = _change(original, dice)
        except (DecodeError, UnicodeDecodeError, UnicodeEncodeError):
            continue
        try:
            found = read(changed, platform=LINUX_AMD64)
            if isinstance(found, NeedAnswers):
                read(changed, platform=LINUX_AMD64, answers=answers(found))
        except UserError as error:
            assert error.message
        except PybuildError as error:  # pragma: no cover
            raise AssertionError("not the client's fault") from error


def _change(original: pb.Definition, dice: random.Random) -> pb.Definition:
    """Return the definition with one op damaged, and its users' inputs following its new id."""
    target = dice.randrange(len(original.defs))
    renamed: dict[str, str] = {}
    out = pb.Definition()
    for number, data in enumerate(original.defs):
        op = pb.Op.FromString(data)
        for item in op.inputs:
            item.digest = renamed.get(item.digest, item.digest)
        changed = op.SerializeToString(deterministic=True)
        if number == target:
            damaged = bytearray(changed)
            for _ in range(dice.choice((1, 1, 2, 5))):
                if not damaged:
                    break
                at = dice.randrange(len(damaged))
                match dice.randrange(3):
                    case 0:
                        damaged[at] ^= 1 << dice.randrange(8)
                    case 1:
                        damaged[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
                    case _:
                        del damaged[at]
            changed = bytes(damaged)
        renamed[Digest.of(data)] = Digest.of(changed)
        out.defs.append(changed)
    return out


def test_scratch_is_an_empty_definition() -> None:
    assert write(SCRATCH) == pb.Definition()
    assert write(Vertex(MergeOp(), (SCRATCH, SCRATCH))) == pb.Definition()


def test_names_lines_and_files_are_said_outside_of_the_ids() -> None:
    plain = Vertex(HttpSource(url="https://e.com/f", filename="f"))
    spans = (Span("Dockerfile", 2, 4),)
    named = replace(plain, meta=VertexMeta(name="[1/1] ADD", spans=spans, ignore_cache=True))
    one, other = write(plain), write(named, WriteOptions(files={"Dockerfile": b"FROM"}))
    assert list(one.defs) == list(other.defs)
    found = read_all(other)
    assert found.result.meta == named.meta
    assert found.files == {"Dockerfile": b"FROM"}


def test_a_file_whose_directory_is_made_gets_one_more_action() -> None:
    op = FileOp(actions=(Mkfile(path="/a/b/f", data=b"x"),))
    (made, written) = _actions_of(write(Vertex(op, (SCRATCH,))))
    assert (made.mkdir.path, made.mkdir.makeParents) == ("/a/b", True)
    assert written.mkfile.path == "/a/b/f"


def _actions_of(definition: pb.Definition) -> list[pb.FileAction]:
    return list(pb.Op.FromString(definition.defs[0]).file.actions)


def test_text_that_cannot_travel_is_refused_by_name() -> None:
    vertex = Vertex(LocalSource(name="a\udcff"), meta=VertexMeta(name="load"))
    with pytest.raises(UserError, match='"load" holds text that is not valid UTF-8'):
        write(vertex)
    with pytest.raises(UserError, match="not in the session"):
        write(Vertex(OciLayoutSource(path="p", digest=Digest.of(b""), platform=LINUX_AMD64)))
