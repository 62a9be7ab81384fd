"""Changes that change a key, and those that do not [KEY]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    CacheSharing,
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    MergeOp,
    Mkdir,
    Mount,
    MountType,
    NetworkMode,
    OciLayoutSource,
    Op,
    Owner,
    SecurityMode,
    StepSettings,
    Vertex,
)
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.selection import Selection
from pybuild.solver import keys
from tests.solver.builders import AMD64, image, local, scratch, vertex

ROOT = Mount(target="/", input=0, output=True)
RUN = ExecOp(args=("make",), env=("A=1", "B=2"), cwd="/src", mounts=(ROOT,), platform=AMD64)


def definition(op: Op) -> Digest:
    return keys.definition_key(keys.definition_part(op), [Digest.of(b"base")])


def content(op: Op, *inputs: Vertex, files: str = "x") -> Digest:
    """The content key when every selection holds *files*, and inputs by key have one key."""
    made = vertex("v", op, *inputs)
    by_content = keys.content_inputs(made)
    parts: list[keys.KeyInput] = [
        keys.ByContent(tuple(ContentDigest(Digest.of(files.encode())) for _ in by_content[n]))
        if n in by_content
        else keys.ByKey(Digest.of(b"base"))
        for n in range(len(inputs))
    ]
    return keys.content_key(keys.content_part(made, by_content), parts)


def with_mount(**fields: Any) -> ExecOp:
    return replace(RUN, mounts=(ROOT, Mount(**fields)))


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, args=("make", "all")),
        replace(RUN, env=("A=1",)),
        replace(RUN, env=("B=2", "A=1")),
        replace(RUN, cwd="/"),
        replace(RUN, user="www"),
        replace(RUN, settings=StepSettings(hostname="box")),
        replace(RUN, settings=StepSettings(network=NetworkMode.NONE)),
        replace(RUN, security=SecurityMode.INSECURE),
        replace(RUN, platform=Platform.parse("linux/arm64")),
        replace(RUN, settings=StepSettings(add_hosts=(("db", "10.0.0.1"),))),
        replace(RUN, settings=StepSettings(ulimits=(("nofile", 1, 2),))),
        replace(RUN, valid_exit_codes=(0, 1)),
        with_mount(target="/t", type=MountType.TMPFS),
        with_mount(target="/s", type=MountType.SECRET, id="token"),
    ],
)
def test_what_counts_of_a_run(other: ExecOp) -> None:
    """[KEY-1]"""
    assert definition(other) != definition(RUN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RUN, replace(RUN, proxy_env=("http_proxy=http://p",))),
        (RUN, replace(RUN, settings=StepSettings(shm_size_bytes=1 << 20))),
        (
            replace(RUN, settings=StepSettings(add_hosts=(("db", "10.0.0.1"),))),
            replace(RUN, settings=StepSettings(add_hosts=(("db", "10.0.0.2"),))),
        ),
        (
            with_mount(target="/c", type=MountType.CACHE, cache_id="one"),
            with_mount(target="/c", type=MountType.CACHE, cache_id="two"),
        ),
        (
            with_mount(target="/c", type=MountType.CACHE, cache_id="one"),
            with_mount(
                target="/c", type=MountType.CACHE, cache_id="one", sharing=CacheSharing.LOCKED
            ),
        ),
        (
            with_mount(target="/c", type=MountType.CACHE, cache_id="/c"),
            with_mount(target="/c", type=MountType.CACHE, cache_id="ns//c"),
        ),
    ],
)
def test_what_does_not_count_of_a_run(one: ExecOp, other: ExecOp) -> None:
    """[KEY-1]"""
    assert definition(one) == definition(other)


def test_a_cache_mount_of_its_own_is_not_the_default_one() -> None:
    """[KEY-1]"""
    assert definition(with_mount(target="/c", type=MountType.CACHE, cache_id="/c")) != definition(
        with_mount(target="/c", type=MountType.CACHE, cache_id="mine")
    )


def test_a_base_image_is_its_manifest() -> None:
    """[KEY-3]"""
    digest = Digest.of(b"manifest")
    one = ImageSource(digest=digest, reference=Reference.parse("a:1"), platform=AMD64)
    two = ImageSource(digest=digest, reference=Reference.parse("b:2"), platform=AMD64)
    layout = OciLayoutSource(path="/x", digest=digest, platform=AMD64)
    found = {
        keys.source_key(keys.definition_part(op), keys.source_identity(op))
        for op in (one, two, layout)
    }
    assert len(found) == 1


def test_a_url_with_a_checksum_need_not_be_asked() -> None:
    """[KEY-4]"""
    digest = Digest.of(b"file")
    plain, checked = HttpSource(url="https://e/f"), HttpSource(url="https://e/f", checksum=digest)
    assert keys.source_identity(plain) is None
    assert keys.source_identity(checked) == digest
    assert keys.definition_part(plain) == keys.definition_part(checked)
    assert keys.definition_part(plain) != keys.definition_part(replace(plain, mode=0o644))


def test_a_git_source_is_its_commit_however_it_is_spelt() -> None:
    """[KEY-5]"""
    one, two = GitSource(remote="https://e/r", ref="main"), GitSource(remote="git@e:r", ref="v1")
    assert keys.definition_part(one) == keys.definition_part(two)
    assert keys.definition_part(one) != keys.definition_part(replace(one, subdir="s"))
    kept = [replace(op, keep_git_dir=True) for op in (one, two)]
    assert keys.definition_part(kept[0]) != keys.definition_part(kept[1])


COPY = Copy(input=1, source="/src/app", dest="/app")


def copied(copy: Copy, *, files: str = "x", source: Vertex | None = None) -> Digest:
    return content(FileOp(actions=(copy,)), image(), source or local(), files=files)


@pytest.mark.parametrize(
    "other",
    [
        replace(COPY, dest="/other"),
        replace(COPY, source="/src/app2"),
        replace(COPY, source="/src/a*", wildcard=True),
        replace(COPY, owner=Owner(user="1")),
        replace(COPY, mode=0o755),
        replace(COPY, exclude=("*.o",)),
        replace(COPY, unpack=True),
        replace(COPY, contents_only=False),
    ],
)
def test_what_counts_of_a_copy(other: Copy) -> None:
    """[KEY-2]"""
    assert copied(other) != copied(COPY)


def test_where_equal_bytes_come_from_does_not_count() -> None:
    """[KEY-2, KEY-13] Another directory, stage or context."""
    assert copied(replace(COPY, source="/elsewhere/app")) == copied(COPY)
    assert copied(COPY, source=image("stage")) == copied(COPY)
    assert copied(COPY, files="y") != copied(COPY)


def test_the_directories_that_parents_keeps_count() -> None:
    one = replace(COPY, parents_pivot=0)
    assert copied(one) != copied(replace(one, source="/elsewhere/app"))


def test_the_definition_key_of_a_copy_has_the_whole_path() -> None:
    """It is the name of an alias: another path may hold other bytes."""
    moved = replace(COPY, source="/elsewhere/app")
    assert definition(FileOp(actions=(COPY,))) != definition(FileOp(actions=(moved,)))


def test_owners_count_only_where_they_are_kept() -> None:
    """[CTX-3]"""

    def selection(copy: Copy, source: Vertex) -> Selection:
        made = vertex("v", FileOp(actions=(copy,)), image(), source)
        return keys.content_inputs(made)[1][0]

    assert selection(COPY, image("stage")).keep_owner
    assert not selection(COPY, local()).keep_owner
    assert not selection(replace(COPY, owner=Owner()), image("stage")).keep_owner


def test_the_tree_that_is_changed_counts_by_key() -> None:
    """[KEY-13]"""
    inside = Copy(input=0, source="/a", dest="/b")
    made = vertex("v", FileOp(actions=(COPY, inside, Mkdir(path="/d"))), image(), image("s"))
    assert sorted(keys.content_inputs(made)) == [1]


def bound(op: ExecOp, *inputs: Vertex) -> dict[int, tuple[Selection, ...]]:
    return keys.content_inputs(vertex("v", op, *inputs))


@pytest.mark.parametrize(
    ("mount", "selected"),
    [
        (Mount(target="/m", input=1, readonly=True), "/"),
        (Mount(target="/m", input=1, readonly=True, selector="/sub"), "/sub"),
        (Mount(target="/m", input=1, selector="sub/../other"), "/other"),
        (Mount(target="/m", input=1, output=True), "/"),
        (Mount(target="/m", input=1, output=True, selector="/sub"), None),
        (Mount(target="/m", input=1, readonly=True, output=True, selector="/sub"), "/sub"),
        (Mount(target="/m", type=MountType.CACHE, input=1, selector="/seed"), "/seed"),
    ],
)
def test_which_mounts_count_by_content(mount: Mount, selected: str | None) -> None:
    """[KEY-6, KEY-13, KEY-18]"""
    found = bound(replace(RUN, mounts=(ROOT, mount)), image(), image("stage"))
    assert [s.path for s in found.get(1, ())] == ([] if selected is None else [selected])
    assert 0 not in found


def test_owners_of_what_is_mounted_count_but_those_of_the_client() -> None:
    """[CTX-3]"""
    mounts = (ROOT, Mount(target="/m", input=1, readonly=True))
    for source, keeps in ((image("stage"), True), (local(), False)):
        [selection] = bound(replace(RUN, mounts=mounts), image(), source)[1]
        assert selection.keep_owner == keeps


def test_one_mount_that_needs_the_key_decides_for_its_input() -> None:
    mounts = (ROOT, Mount(target="/m", input=0, readonly=True, selector="/sub"))
    assert bound(replace(RUN, mounts=mounts), image()) == {}


@pytest.mark.parametrize(
    ("op", "index"),
    [
        (RUN, 0),
        (FileOp(actions=(Mkdir(path="/d"),)), 0),
        (MergeOp(), 0),
        (with_mount(target="/m", input=1, output=True, selector="/sub"), 1),
    ],
)
def test_a_local_source_counts_by_content_wherever_it_is_used(op: Op, index: int) -> None:
    inputs = (local(),) if index == 0 else (image(), local())
    found = keys.content_inputs(vertex("v", op, *inputs))
    assert found[index] == (Selection(path="/", keep_owner=False),)


def test_which_mount_has_which_content_counts() -> None:
    def key(first: str, second: str, third: str) -> Digest:
        mounts = tuple(
            Mount(target=f"/m{n}", input=1, readonly=True, selector=path)
            for n, path in enumerate([first, second, third])
        )
        return content(replace(RUN, mounts=(ROOT, *mounts)), image(), image("s"))

    assert key("/a", "/a", "/b") != key("/a", "/b", "/b")
    assert key("/a", "/a", "/b") == key("/c", "/c", "/d")


def test_an_input_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match='"v" refers to input 3, it has 1'):
        keys.content_inputs(
            vertex("v", FileOp(actions=(Copy(input=3, source="/", dest="/"),)), scratch())
        )


def test_named_inputs_say_what_people_can_look_for() -> None:
    made = vertex("v", FileOp(actions=(COPY,)), image(), local())
    part = keys.content_part(made, keys.content_inputs(made))
    found = ContentDigest(Digest.of(b"x"), (("f", "100644 0:0 1 00"),))
    inputs: list[keys.KeyInput] = [keys.ByKey(Digest.of(b"base")), keys.ByContent((found,))]
    named = keys.named_inputs(part, [keys.NamedSource(source) for source in made.inputs], inputs)
    base, files = named.parts["inputs"]
    assert (base["name"], base["key"]) == ("base", Digest.of(b"base"))
    assert base["identity"] == keys.source_identity(made.inputs[0].op)
    assert files["content"] == [found.digest]
    assert named.listings == {found.digest: found.entries}


def test_named_inputs_tell_no_secrets() -> None:
    token = "ghp_" + "a" * 36
    run = replace(
        RUN,
        env=("API_TOKEN=hunter2", "A=1", f"URL=https://u:pw@h/{token}"),
        args=(f"curl {token}",),
    )
    named = keys.named_inputs(keys.definition_part(run), [], [])
    text = str(named.parts)
    assert "hunter2" not in text
    assert token not in text
    assert "u:pw" not in text
    assert "A=1" in text


def test_named_inputs_tell_no_secret_that_a_path_was_made_of() -> None:
    copy = replace(COPY, dest="/x/hunter2secret/f")
    made = vertex("v", FileOp(actions=(copy,)), image(), local())
    part = keys.definition_part(made.op)
    named = keys.named_inputs(part, [], [], None, ["hunter2secret"])
    assert "hunter2secret" not in str(named.parts)
    assert "/x/[redacted " in str(named.parts)
    other = replace(COPY, dest="/x/hunter3secret/f")
    changed = keys.definition_part(FileOp(actions=(other,)))
    told = keys.named_inputs(changed, [], [], None, ["hunter3secret"]).parts
    assert told != named.parts, "that it changed still shows"
