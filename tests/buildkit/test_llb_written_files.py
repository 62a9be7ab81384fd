"""Our file actions as messages, field by field, and back [remote-api 9]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.pb import ops as pb
from pybuild.model.ops import (
    Copy,
    FileAction,
    FileOp,
    Mkdir,
    Mkfile,
    Owner,
    Rm,
    Symlink,
    Vertex,
)
from tests.buildkit.vertices import FILE, IMAGE, SCRATCH, comes_back, op_of


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
