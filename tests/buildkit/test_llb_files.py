"""Received file ops: chains, forks and copies [remote-api 9]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import ops as pb
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    FileOp,
    Mkdir,
    Mkfile,
    Owner,
    Rm,
    ScratchSource,
    Symlink,
    Vertex,
)
from tests.buildkit.llbs import BUSYBOX, Builder, copy, file_op, mkdir, one, read_all


def read_file(op: pb.Op, *inputs: pb.Op) -> Vertex:
    found = read_all(one(op, *(inputs or (BUSYBOX,)))).result
    assert isinstance(found.op, FileOp)
    return found


def only_copy(**fields: object) -> Copy:
    found = read_file(file_op(copy(0, 1, 0, **fields)), BUSYBOX, _other()).op
    assert isinstance(found, FileOp)
    (action,) = found.actions
    assert isinstance(action, Copy)
    return action


def _other() -> pb.Op:
    return pb.Op(source=pb.SourceOp(identifier="local://context"))


def test_a_chain_of_all_actions_is_one_op() -> None:
    made = pb.FileActionMkFile(path="/f", data=b"x", mode=0o600, timestamp=5 * 10**9)
    link = pb.FileActionSymlink(oldpath="../t", newpath="/l", timestamp=-1)
    gone = pb.FileActionRm(path="/a/../b*", allowWildcard=True, allowNotFound=True)
    op = file_op(
        mkdir("/a", -1),
        pb.FileAction(input=1, secondaryInput=-1, output=-1, mkfile=made),
        pb.FileAction(input=2, secondaryInput=-1, output=-1, symlink=link),
        pb.FileAction(input=3, secondaryInput=-1, output=-1, rm=gone),
        copy(4, 0, 0, src="/etc", dest="/x/"),
    )
    found = read_file(op)
    assert found.op == FileOp(
        actions=(
            Mkdir(path="/a", make_parents=False),
            Mkfile(path="/f", data=b"x", mode=0o600, mtime=5),
            Symlink(path="/l", target="../t"),
            Rm(path="/b*", wildcard=True, allow_not_found=True),
            Copy(
                input=1,
                source="/etc",
                dest="/x/",
                contents_only=False,
                follow_source_links=False,
            ),
        )
    )
    assert isinstance(found.inputs[0].op, ScratchSource)


def test_a_tree_that_is_used_twice_is_a_vertex_of_its_own() -> None:
    # 0: image; 1: a; 2: b on a; 3: c on a; 4: copy from b to c
    op = file_op(mkdir("/a", 0), mkdir("/b", 1), mkdir("/c", 1), copy(3, 2, 0, src="/b", dest="/d"))
    result = read_file(op)
    assert [type(a).__name__ for a in _actions(result)] == ["Mkdir", "Copy"]
    base, source = result.inputs
    assert [a.path for a in _actions(base) if isinstance(a, Mkdir)] == ["/a"]
    assert [a.path for a in _actions(source) if isinstance(a, Mkdir)] == ["/b"]
    assert source.inputs == (base,)


def _actions(vertex: Vertex) -> tuple[object, ...]:
    assert isinstance(vertex.op, FileOp)
    return vertex.op.actions


def test_each_result_that_is_used_ends_a_chain() -> None:
    builder = Builder()
    image = builder.add(BUSYBOX)
    digest, _ = builder.add(file_op(mkdir("/a", 0, 0), mkdir("/b", 1, 1), mkdir("/c", 2, 2)), image)
    merge = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=0), pb.MergeInput(input=1)]))
    both = read_all(builder.end(builder.add(merge, (digest, 0), (digest, 2)))).result.inputs
    assert [len(_actions(vertex)) for vertex in both] == [1, 2]
    assert both[1].inputs == (both[0],)
    last = Builder()
    digest, _ = last.add(file_op(mkdir("/a", -1, 0), mkdir("/b", 0, 1)))
    assert len(_actions(read_all(last.end((digest, 1))).result)) == 2  # nobody wants the first


def test_a_copys_flags() -> None:
    plain = only_copy(src="/a", dest="b")
    assert not only_copy(src="/a", dest="/b/c", createDestPath=False).make_parents
    assert (plain.dest, plain.wildcard, plain.contents_only) == ("/b", False, False)
    flags = only_copy(
        src="a*", dest="/d/", followSymlink=True, dirCopyContents=True, allowWildcard=True,
        allowEmptyWildcard=True, attemptUnpackDockerCompatibility=True, exclude_patterns=["*.md"],
        modeStr="u+x",
    )  # fmt: skip
    assert flags == Copy(
        input=1, source="/a*", dest="/d/", wildcard=True, allow_empty=True, unpack=True,
        exclude=("*.md",), mode="u+x",
    )  # fmt: skip
    # Clients allow wildcards where there is none; that must not make a missing file be fine.
    assert not only_copy(src="/a", dest="/b", allowWildcard=True).wildcard
    assert only_copy(src="/a", dest="/b", modeStr="0640").mode == 0o640
    assert only_copy(src="/", dest="/").dest == "/"
    required = only_copy(src="/a", dest="/b", required_paths=["/a"])
    assert required == plain


def test_include_patterns_are_copies_with_parents() -> None:
    op = file_op(
        copy(
            0, 1, 0, src="/q", dest="/p/", dirCopyContents=True, followSymlink=True,
            include_patterns=["r/**/s", "t"], required_paths=["/q/t"],
        )
    )  # fmt: skip
    found = read_file(op, BUSYBOX, _other())
    assert _actions(found) == (
        Copy(
            input=1, source="/q/r/**/s", dest="/p/", wildcard=True, allow_empty=True,
            parents_pivot=1,
        ),
        Copy(input=1, source="/q/t", dest="/p/", parents_pivot=1),
    )  # fmt: skip


def test_owners_are_numbers_or_names_of_the_tree_that_changes() -> None:
    action = mkdir("/a", 0)
    action.mkdir.owner.user.byName.name = "nobody"
    again = mkdir("/b", 1, 0)
    again.mkdir.owner.user.byID = 7
    again.mkdir.owner.group.byName.name = "bin"  # input 0, which is where the chain began
    found = _actions(read_file(file_op(action, again)))
    assert [a.owner for a in found if isinstance(a, Mkdir)] == [
        Owner(user="nobody"),
        Owner(user="7", group="bin"),
    ]
    group_only = mkdir("/a", -1, 0)
    group_only.mkdir.owner.group.byID = 5
    (made,) = _actions(read_file(file_op(group_only)))
    assert isinstance(made, Mkdir) and made.owner == Owner(user="0", group="5")


def _named(input: int, name: str = "x", base: int = 0) -> pb.FileAction:
    action = mkdir("/a", base, 0)
    action.mkdir.owner.user.byName.name = name
    action.mkdir.owner.user.byName.input = input
    return action


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (mkdir("/a", 1, 0), "action 0 refers to tree 1"),
        (mkdir("/a", -2, 0), "refers to tree -2"),
        (mkdir("/a", 2**62, 0), "refers to tree"),
        (copy(0, 5, 0, src="/", dest="/"), "refers to tree 5"),
        (mkdir("/a", 0), "there is no result 0"),
        (mkdir("/a\0", 0, 0), "NUL"),
        (pb.FileAction(input=0, secondaryInput=-1), "unknown kind"),
        (_named(-1), "invalid user index: -1"),
        (_named(7), "another tree"),
        (_named(0, base=-1), "another tree"),
        (_named(0, name=""), 'invalid owner ""'),
        (_named(0, name="a:b"), "invalid owner"),
        (copy(0, 0, 0, src="/", dest="/", modeStr="99999999"), None),
        (copy(0, 0, 0, src="/", dest="/", modeStr="77777"), "the mode"),
        (copy(0, 0, 0, src="/x", dest="/", include_patterns=["a"]), "not of a directory's content"),
        (
            copy(0, 0, 0, src="/", dest="/", include_patterns=["!a"], dirCopyContents=True),
            "is not supported",
        ),
        (copy(0, 0, 0, src="/a", dest="/", required_paths=["/b"]), 'requires "/b"'),
        (
            pb.FileAction(
                input=0,
                secondaryInput=-1,
                mkdir=pb.FileActionMkDir(path="/a", mode=1 << 20, timestamp=-1),
            ),
            "has the mode",
        ),
    ],
)
def test_actions_that_cannot_be(action: pb.FileAction, words: str | None) -> None:
    definition = one(file_op(action), BUSYBOX)
    if words is None:  # symbolic modes are judged where they are done
        read_all(definition)
        return
    with pytest.raises(UserError) as caught:
        read_all(definition)
    assert words in caught.value.message


def test_no_actions_and_too_many_are_refused() -> None:
    with pytest.raises(UserError, match="invalid file op with no actions"):
        read_all(one(file_op(), BUSYBOX))
    with pytest.raises(UserError, match="10001 actions"):
        read_all(one(file_op(*[mkdir("/a", -1, 0)] * 10_001)))
    with pytest.raises(UserError, match="result 0 is that of two actions"):
        read_all(one(file_op(mkdir("/a", -1, 0), mkdir("/b", -1, 0))))


def test_what_a_path_says_stays_in_the_tree() -> None:
    op = file_op(copy(0, 0, 0, src="../../etc", dest="/a/../../b/"))
    (found,) = _actions(read_file(op))
    assert isinstance(found, Copy)
    assert (found.source, found.dest) == ("/etc", "/b/")
    assert read_all(write(read_file(op))).result == read_file(op)
