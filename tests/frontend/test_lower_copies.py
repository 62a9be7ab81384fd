"""COPY, ADD and WORKDIR as they are lowered."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    MergeOp,
    Mkdir,
    Mkfile,
    Owner,
    ScratchSource,
    walk,
)
from tests.frontend.lowering import build, files, texts


def copies(text: str, before: str = "FROM a\n") -> list[Copy]:
    op = build(f"{before}{text}\n").result.op
    assert isinstance(op, FileOp)
    return [action for action in op.actions if isinstance(action, Copy)]


# --- COPY and ADD ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "path", "wildcard"),
    [
        ("f", "/f", False),
        ("/f", "/f", False),
        ("../../x/", "/x", False),  # E128
        ("./a/../b", "/b", False),
        (".", "/", False),
        ("a*/b", "/a*/b", True),
        ("nop[e]", "/nop[e]", True),
        (r"a\\*", r"/a\*", False),
    ],
)
def test_sources(sources: str, path: str, wildcard: bool) -> None:
    assert copies(f"COPY {sources} /d") == [
        Copy(input=1, source=path, dest="/d", wildcard=wildcard, allow_empty=wildcard)
    ]


@pytest.mark.parametrize(
    ("written", "dest"),
    [
        ("/d", "/d"),
        ("/d/", "/d/"),
        ("/d/.", "/d/"),
        (".", "/w/"),
        ("$EMPTY", "/w/"),
        ("./", "/w/"),
        ("x", "/w/x"),
        ("../x/", "/x/"),
        ("/a/../../b", "/b"),
        ("/", "/"),
    ],
)
def test_destinations(written: str, dest: str) -> None:  # CP-10, CP-11
    before = "FROM a\nARG EMPTY=\nWORKDIR /w\n"
    assert copies(f"COPY f {written}", before)[0].dest == dest


def test_variables_are_not_split() -> None:  # E80
    (copy,) = copies("COPY $x /d", 'FROM a\nENV x="a  b"\n')
    assert copy.source == "/a  b"


def test_owners() -> None:  # CP-21
    for text, owner in (
        ("1000", Owner(user="1000")),
        ("007:root", Owner(user="7", group="0")),
        ("me:us", Owner(user="me", group="us")),
        ("root", Owner(user="0")),
        (":5", Owner(user="0", group="5")),
    ):
        assert copies(f"COPY --chown={text} f /")[0].owner == owner
    assert copies("COPY f /")[0].owner is None


@pytest.mark.parametrize("text", ["FROM scratch\nCOPY", "FROM a\nCOPY --link"])
def test_named_owner_needs_a_tree_to_look_it_up_in(text: str) -> None:  # E135
    with pytest.raises(UserError, match="invalid user index: -1"):
        build(f"{text} --chown=nobody f /\n")
    with pytest.raises(UserError, match="invalid user index: -1"):
        build(f"{text} --chown=1:nogroup f /\n")
    assert build(f"{text} --chown=root f /\n")


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0755", 0o755), ("7777", 0o7777), ("go-w,u+x", "go-w,u+x"), ("+x", "+x"), ("g=u", "g=u")],
)
def test_modes(text: str, mode: object) -> None:  # E136, E137
    assert copies(f"COPY --chmod={text} f /")[0].mode == mode


@pytest.mark.parametrize("text", ["64a", "888", "17777", "u", "x=r", "u+q", "u=rw,", "٧"])
def test_bad_modes(text: str) -> None:
    with pytest.raises(UserError, match=r"invalid chmod parameter: '.*'\. it should be octal"):
        build(f"FROM a\nCOPY --chmod={text} f /\n")


def test_link_is_a_layer_of_its_own() -> None:  # CP-31
    lowered = build("FROM a\nCOPY --link f /d/\nRUN x\n")
    merge = lowered.result.inputs[0]
    assert isinstance(merge.op, MergeOp)
    base, layer = merge.inputs
    assert isinstance(layer.inputs[0].op, ScratchSource)
    assert lowered.history[0].vertex is layer
    assert base.meta.name.startswith("[1/3] FROM")
    assert (layer.meta.name, merge.meta.name) == (
        "[2/3] COPY --link f /d/",
        "[2/3] LINK COPY --link f /d/",
    )
    assert texts(lowered)[0] == "+ COPY f /d/ # buildkit"


def test_linked_layer_does_not_know_its_base() -> None:  # KEY-16
    one = build("FROM a\nCOPY --link f /\n").history[0].vertex
    two = build("FROM b\nRUN x\nCOPY --link f /\n").history[1].vertex
    assert one == two


def test_link_with_chmod_is_a_plain_copy() -> None:  # E138
    lowered = build("FROM a\nCOPY --link --chmod=644 f /\n")
    assert lowered.result == build("FROM a\nCOPY --chmod=644 f /\n").result


def test_link_onto_scratch_needs_no_merge() -> None:
    assert build("FROM scratch\nCOPY --link f /\n").result == (
        build("FROM scratch\nCOPY f /\n").result
    )


def test_copy_from_stage_image_and_index() -> None:  # CP-30
    lowered = build(
        "FROM a AS One\nRUN x\nFROM b\nCOPY --from=ONE /1 /\nCOPY --from=0 /2 /\n"
        "COPY --from=busybox:1 /3 /\n"
    )
    first = next(v for v in walk(lowered.result) if "/1 /" in v.meta.name)
    second = next(v for v in walk(lowered.result) if "/2 /" in v.meta.name)
    assert first.inputs[1] is second.inputs[1]
    assert isinstance(first.inputs[1].op, ExecOp)
    name = lowered.result.inputs[1].meta.name
    assert name.startswith("FROM docker.io/library/busybox:1@sha256:")
    assert not lowered.contexts


def test_excludes_are_not_expanded() -> None:  # CP-33, E141
    (copy,) = copies("COPY --exclude=*.md --exclude=!$keep . /d", "FROM a\nENV keep=x\n")
    assert copy.exclude == ("*.md", "!$keep")


@pytest.mark.parametrize(
    ("source", "path", "pivot"),
    [
        ("a/b/c.txt", "/a/b/c.txt", 0),
        ("./a/./b/c", "/a/b/c", 1),  # E140
        ("a/**/x.txt", "/a/**/x.txt", 0),
        ("/x/y/./z/*", "/x/y/z/*", 2),
    ],
)
def test_parents(source: str, path: str, pivot: int) -> None:  # CP-32
    (copy,) = copies(f"COPY --parents {source} /d/")
    assert (copy.source, copy.parents_pivot) == (path, pivot)


def test_add_unpacks_unless_told_otherwise() -> None:  # ADD-1, E144
    assert copies("ADD a.tar /d")[0].unpack
    assert not copies("ADD --unpack=false a.tar /d")[0].unpack
    assert not copies("COPY a.tar /d")[0].unpack


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY https://x/y /", "source can't be a URL for COPY"),
        ("COPY https://x/y.git /", "source can't be a git ref for COPY"),
        ("ADD --checksum=sha256:0 https://x/y /", 'invalid checksum "sha256:0"'),
        ("ADD https://x/y.git?tag=a&branch=b /", "branch conflicts with tag"),
        (
            "ADD --keep-git-dir=true https://x/y.git?keep-git-dir=false /",
            "inconsistent keep-git-dir configuration",
        ),
        ("ADD --checksum=sha256:0 f /", "checksum requires HTTP(S) or Git sources"),  # E148
        ("ADD --checksum=sha256:0 f g /", "checksum can't be specified for multiple sources"),
    ],
)
def test_sources_that_cannot_be(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f"FROM a\n{line}\n")
    assert caught.value.message.startswith(message)
    assert caught.value.spans[0].first_line == 2


def test_github_without_scheme_is_a_local_path() -> None:  # ADD-10
    assert copies("ADD github.com/a/b /d")[0].source == "/github.com/a/b"


def inline(text: str, before: str = "FROM a\n") -> dict[str, bytes]:
    op = files(build(before + text))[0]
    return {action.path: action.data for action in op.actions if isinstance(action, Mkfile)}


def test_copy_heredocs() -> None:  # E153, E154, E155
    body = 'a $V \\$V "q"\n'
    before = "FROM a\nARG V=1\n"
    assert inline(f"COPY <<EOF /x\n{body}EOF\n", before) == {"/EOF": b'a 1 $V "q"\n'}
    assert inline(f"COPY <<'EOF' /x\n{body}EOF\n", before) == {"/EOF": body.encode()}
    assert inline("COPY <<a <<-b /d/\n1\na\n\t2\nb\n") == {"/a": b"1\n", "/b": b"2\n"}


def test_copy_heredoc_is_copied_like_any_file() -> None:  # HD-7
    lowered = build("FROM a\nCOPY --chmod=u+x --chown=3 f <<EOF /x\nb\nEOF\n")
    assert lowered.result.op == FileOp(
        actions=(
            Copy(input=1, source="/f", dest="/x", mode="u+x", owner=Owner(user="3")),
            Copy(input=2, source="/EOF", dest="/x", mode="u+x", owner=Owner(user="3")),
        )
    )
    assert lowered.result.inputs[2].meta.name == "[internal] preparing inline document"


def test_workdir_belongs_to_the_user() -> None:  # E185
    assert files(build("FROM a\nUSER 1000\nWORKDIR /w\n"))[0] == FileOp(
        actions=(Mkdir(path="/w", owner=Owner(user="1000")),)
    )
