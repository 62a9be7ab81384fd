"""ADD from elsewhere, contexts from elsewhere, and how their URLs are read [ADD-4..10, NC-1]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.giturl import file_name, parse_git_url, without_credentials
from pybuild.frontend.lowering.mounts import parse_device
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    Device,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    LocalSource,
    OciLayoutSource,
    Vertex,
    walk,
)
from tests.frontend.lowering import build

SUM = "sha256:" + "ab" * 32


def sources(text: str, **options: Any) -> list[HttpSource | GitSource]:
    lowered = build("FROM a\n" + text + "\n", **options)
    return [v.op for v in walk(lowered.result) if isinstance(v.op, HttpSource | GitSource)]


def copies(text: str, **options: Any) -> list[Copy]:
    op = build("FROM a\n" + text + "\n", **options).result.op
    assert isinstance(op, FileOp)
    return [action for action in op.actions if isinstance(action, Copy)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/o/r.git", GitSource(remote="https://h/o/r.git")),
        ("https://h/o/r.git#", GitSource(remote="https://h/o/r.git")),
        ("https://h/r.git#v1:a/../b/", GitSource(remote="https://h/r.git", ref="v1", subdir="b")),
        ("https://h/r.git#:/../..", GitSource(remote="https://h/r.git")),
        ("git@h:o/r#main", GitSource(remote="git@h:o/r", ref="main")),
        ("ssh://git@h:22/r?tag=v1", GitSource(remote="ssh://git@h:22/r", ref="refs/tags/v1")),
        ("git://h/r?branch=b", GitSource(remote="git://h/r", ref="refs/heads/b")),
        (
            "git@h:r.git?ref=x&subdir=s&commit=abc&submodules=false&keep-git-dir&mtime=commit",
            GitSource(
                remote="git@h:r.git",
                ref="x",
                subdir="s",
                checksum="abc",
                submodules=False,
                keep_git_dir=True,
                mtime="commit",
            ),
        ),
        ("https://h/r.git?ref=a#a:s", GitSource(remote="https://h/r.git", ref="a", subdir="s")),
    ],
)
def test_git_urls(text: str, expected: GitSource) -> None:  # ADD-7
    found = parse_git_url(text)
    assert found is not None
    assert found.source() == expected


@pytest.mark.parametrize(
    "text",
    ["https://h/r", "./x.git", "../git@h:x", "x.git", "file:///r.git", "ext::sh -c id", "-u@", ""],
)
def test_what_is_no_git_url(text: str) -> None:
    assert parse_git_url(text) is None


def test_github_is_known_without_a_scheme_in_contexts_only() -> None:  # ADD-10, CTX-1
    assert parse_git_url("github.com/o/r") is None
    found = parse_git_url("github.com/o/r#b:s", is_context=True)
    assert found is not None
    assert found.source() == GitSource(remote="https://github.com/o/r", ref="b", subdir="s")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("subdir=a#x:b", 'subdir conflicts: "b" vs "a"'),
        ("tag=a&branch=b", "branch conflicts with tag"),
        ("ref=", 'query "ref" has no value'),
        ("ref=a&ref=b", 'query "ref" has multiple values'),
        ("depth=1", 'unexpected query "depth"'),
        ("submodules=x", 'invalid submodules value: "x"'),
        ("mtime=now", 'invalid mtime value: "now"'),
    ],
)
def test_queries_that_cannot_be(query: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_git_url("https://h/r.git?" + query)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b.txt?x=/y", "b.txt"),
        ("https://h/a/b/", "b"),
        ("https://h/a%20b", "a b"),
        ("https://h/a%2Fb", "b"),
        ("https://h", "__unnamed__"),
        ("https://h/", "__unnamed__"),
        ("https://h/?f=a", "__unnamed__"),
        ("https://h/a/%2e%2e", "__unnamed__"),
    ],
)
def test_names_of_files(url: str, name: str) -> None:  # ADD-4
    assert file_name(url) == name


def test_add_of_a_url() -> None:  # ADD-4, ADD-5
    assert sources("ADD https://h/f.tar /d/") == [
        HttpSource(url="https://h/f.tar", filename="f.tar")
    ]
    (copy,) = copies("ADD https://h/f.tar /d/")
    assert (copy.source, copy.dest, copy.unpack, copy.wildcard) == ("/f.tar", "/d/", False, False)
    assert copies("ADD --unpack=true https://h/f.tar /d/")[0].unpack
    (pinned,) = sources(f"ARG S={SUM}\nADD --checksum=$S https://h/f /")
    assert isinstance(pinned, HttpSource) and pinned.checksum == Digest(SUM)


def test_add_of_a_repository_takes_the_flags_and_the_query() -> None:  # ADD-7, ADD-8
    flags = "--keep-git-dir=true --checksum=abc --link"
    lowered = build(f"FROM a\nADD {flags} https://h/r.git#v1:s /d\n")
    (git,) = [v.op for v in walk(lowered.result) if isinstance(v.op, GitSource)]
    assert git == GitSource(
        remote="https://h/r.git", ref="v1", subdir="s", keep_git_dir=True, checksum="abc"
    )
    with pytest.raises(UserError, match='checksum mismatch "abc" != "abd"'):
        build("FROM a\nADD --checksum=abc https://h/r.git?commit=abd /d\n")


def test_add_of_local_and_remote_sources_keeps_their_order() -> None:
    lowered = build("FROM a\nADD x https://h/y git@h:z ./\n")
    assert isinstance(lowered.result.op, FileOp)
    kinds: list[type] = []
    for action in lowered.result.op.actions:
        assert isinstance(action, Copy)
        kinds.append(type(lowered.result.inputs[action.input].op))
    assert kinds == [LocalSource, HttpSource, GitSource]
    assert lowered.history[-1].created_by == "ADD x https://h/y git@h:z ./ # buildkit"


def test_remote_named_contexts() -> None:  # NC-1, NC-5
    lowered = build(
        "FROM src AS one\nFROM scratch\nCOPY --from=src /a /\nCOPY --from=file /context /\n",
        named_contexts={"src": "https://u:p@h/r.git#v1", "file": "https://h/x.tar"},
    )
    found = [v.op for v in walk(lowered.result) if isinstance(v.op, HttpSource | GitSource)]
    assert set(found) == {
        GitSource(remote="https://u:p@h/r.git", ref="v1"),
        HttpSource(url="https://h/x.tar", filename="context"),
    }
    assert "[context src] https://h/r.git#v1" in {v.meta.name for v in walk(lowered.result)}
    lowered = build("FROM src\nRUN x\n", named_contexts={"src": "git@h:r"})
    assert lowered.result.inputs[0].op == GitSource(remote="git@h:r")


def test_a_layout_as_named_context_is_asked_for_as_one() -> None:
    lowered = build("FROM base\n", named_contexts={"base": "oci-layout:///dir:v1"})
    assert isinstance(lowered.result.op, OciLayoutSource)
    assert lowered.result.op.path == "/dir:v1"


def test_the_context_can_be_something_else() -> None:  # CTX-1
    context = Vertex(GitSource(remote="git@h:r"))
    lowered = build("FROM a\nCOPY x /\nRUN --mount=target=/m true\n", context=context)
    assert not any(isinstance(v.op, LocalSource) for v in walk(lowered.result))
    assert sum(v == context for v in walk(lowered.result)) == 1


@pytest.mark.parametrize(
    ("record", "name", "required"),
    [
        ("vendor.com/gpu=all", "vendor.com/gpu=all", False),
        ("name=vendor.com/gpu=0,required", "vendor.com/gpu=0", True),
        ("gpu,required=false", "gpu", False),
    ],
)
def test_devices(record: str, name: str, required: bool) -> None:  # RUN-7
    found = parse_device(record)
    assert (found.name, found.required) == (name, required)


@pytest.mark.parametrize("url", ["https://u:p@h/x.git", "HTTPS://tok@h/x.git", "http://a@b@h/x"])
def test_credentials_of_urls_are_not_shown(url: str) -> None:  # SEC-7
    shown = without_credentials(url)
    assert "@" not in shown and "/h/x" in shown


def test_devices_are_part_of_the_step() -> None:  # RUN-7, KEY-1
    lowered = build("FROM a\nRUN --device=v/d=x --device=gpu,required true\n")
    op = lowered.result.op
    assert isinstance(op, ExecOp)
    assert op.devices == (Device(name="v/d=x"), Device(name="gpu", required=True))
    assert lowered.result != build("FROM a\nRUN true\n").result


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("a,b", "invalid field 'b' must be a key=value pair"),
        ("a,nme=b", "unexpected key 'nme' in 'nme=b' (did you mean name?)"),
        ("a,name=b", "device name already set to a"),
        ("required=maybe", "invalid value for required: maybe"),
    ],
)
def test_devices_that_cannot_be(record: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_device(record)
    assert caught.value.message == message
