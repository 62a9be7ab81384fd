"""Policies judge every source that a Dockerfile names, before anybody asks for it [POL-3, POL-5]."""

from __future__ import annotations

import pytest

from pybuild.frontend.lowering.interface import Lowered
from pybuild.frontend.lowering.policies import ruled, ruled_image, ruled_local
from pybuild.model.errors import UserError
from pybuild.model.ops import GitSource, HttpSource, ImageSource, LocalSource, Op, walk
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.policy import (
    Action,
    MatchType,
    Policies,
    Policy,
    PolicySource,
    Rule,
    Selector,
    Undecided,
    Update,
)
from pybuild.model.reference import Reference
from tests.frontend.lowering import build

SOURCES = (GitSource, HttpSource, ImageSource, LocalSource)


def policy(*rules: Rule) -> Policies:
    return Policies((Policy(rules),))


def instead(identifier: str, to: str, **attrs: str) -> Policies:
    update = Update(to, {name.replace("_", "."): value for name, value in attrs.items()})
    return policy(Rule(Action.CONVERT, Selector(identifier), update))


def sources(lowered: Lowered) -> list[Op]:
    return [vertex.op for vertex in walk(lowered.result) if isinstance(vertex.op, SOURCES)]


@pytest.mark.parametrize(
    ("text", "identifier", "line"),
    [
        ("FROM alpine\n", "docker-image://docker.io/library/alpine:latest", 1),
        ("FROM scratch\nCOPY --from=a/b:1 /x /\n", "docker-image://docker.io/a/b:1", 2),
        ("FROM a\nRUN --mount=from=b true\n", "docker-image://docker.io/library/b:latest", 2),
        ("FROM scratch\nADD https://x.example/f /\n", "https://x.example/f", 2),
        ("FROM scratch\nADD https://x.example/r.git#v1 /\n", "git://x.example/r.git#v1", 2),
        ("FROM scratch\nADD git@x.example:a/r.git /\n", "git://x.example/a/r.git", 2),
        ("FROM scratch\nCOPY f /\n", "local://context", 2),
    ],
)
def test_what_is_refused_is_refused_where_it_is_named(
    text: str, identifier: str, line: int
) -> None:
    refused = policy(Rule(Action.DENY, Selector(identifier, MatchType.EXACT)))
    with pytest.raises(UserError) as caught:
        build(text, policies=refused)
    assert caught.value.message == f'source "{identifier}" denied by policy'
    assert [span.first_line for span in caught.value.spans] == [line]


def test_what_the_target_does_not_need_is_not_their_matter() -> None:
    text = "FROM a AS x\nFROM b AS y\nCOPY --from=c /f /\nFROM x AS z\n"
    for name in ("b", "c"):
        refused = policy(
            Rule(Action.DENY, Selector(f"docker-image://docker.io/library/{name}:latest"))
        )
        build(text, target="z", policies=refused)
        with pytest.raises(UserError, match="denied by policy"):
            build(text, target="y", policies=refused)


class Asking:
    """A judge who must be asked first."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def judge(self, source: PolicySource) -> PolicySource:
        if source.identifier in self.known:
            return source
        raise Undecided(source)


def test_a_judge_has_the_last_word_and_may_not_have_it_yet() -> None:
    image = "docker-image://m.example/library/alpine:latest"
    other = instead("docker-image://docker.io/*", "docker-image://m.example/$1")
    with pytest.raises(Undecided) as caught:
        build("FROM alpine\n", policies=other + Policies(judge=Asking()))
    assert caught.value.sources == (PolicySource(image, platform=LINUX_AMD64),)
    asked: list[str] = []
    build("FROM alpine\n", policies=other + Policies(judge=Asking(image)), asked=asked)
    assert asked == ["m.example/library/alpine linux/amd64"]


def test_an_image_that_is_replaced_is_never_asked_for() -> None:
    asked: list[str] = []
    other = instead("docker-image://docker.io/library/*", "docker-image://m.example/$1")
    lowered = build("FROM alpine:3 AS x\nRUN true\n", policies=other, asked=asked)
    assert asked == ["m.example/alpine:3 linux/amd64"]
    (source,) = sources(lowered)
    assert isinstance(source, ImageSource) and source.reference.host == "m.example"


def test_an_image_may_become_a_directory_of_the_client() -> None:
    asked: list[str] = []
    other = instead("docker-image://docker.io/library/alpine:latest", "local://test")
    text = "FROM scratch AS r\nFROM scratch\nCOPY --from=r /foo /\n"
    contexts = {"r": "docker-image://alpine"}
    lowered = build(text, policies=other, asked=asked, named_contexts=contexts)
    assert asked == []
    assert sources(lowered) == [LocalSource(name="test")]


def test_files_keep_their_names_and_get_checksums() -> None:
    checksum = "sha256:" + "a" * 64
    pinned = instead("https://x.example/*", "https://m.example/$1", http_checksum=checksum)
    (source,) = sources(build("FROM scratch\nADD https://x.example/f /\n", policies=pinned))
    assert source == HttpSource(url="https://m.example/f", checksum=checksum, filename="f")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_repositories_keep_what_is_wanted_of_them() -> None:
    other = instead("git://x.example/*", "git://m.example/$1", git_checksum="abc")
    text = "FROM scratch\nADD --keep-git-dir=true https://x.example/r.git#v1:sub /\n"
    (source,) = sources(build(text, policies=other))
    assert source == GitSource(
        remote="https://m.example/r.git",
        ref="v1",
        subdir="sub",
        keep_git_dir=True,
        checksum="abc",
    )


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("docker-image://alpine", "cannot be replaced by"),
        ("nothing", "is no source"),
        ("ftp://x.example/", "is no source"),
    ],
)
def test_replacements_that_cannot_be(to: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build("FROM scratch\nADD https://x.example/f /\n", policies=instead("https://*", to))


def test_an_attribute_that_nothing_knows_is_no_rule_that_is_missed() -> None:
    wrong = instead("https://x.example/f", "https://x.example/f", http_chekcsum="x")
    with pytest.raises(UserError, match='has no attribute "http.chekcsum"'):
        build("FROM scratch\nADD https://x.example/f /\n", policies=wrong)


@pytest.mark.parametrize(
    ("context", "identifier"),
    [
        ("oci-layout:///images/base", "oci-layout:///images/base"),
        ("./here", "local://base"),
        ("https://x.example/base.tar", "https://x.example/base.tar"),
        ("https://x.example/r.git#v1", "git://x.example/r.git#v1"),
        ("git@x.example:a/r.git", "git://x.example/a/r.git"),
    ],
)
def test_a_named_context_is_judged_as_what_it_is(context: str, identifier: str) -> None:
    text, contexts = "FROM scratch\nCOPY --from=base /f /\n", {"base": context}
    refused = policy(Rule(Action.DENY, Selector(identifier, MatchType.EXACT)))
    with pytest.raises(UserError) as caught:
        build(text, policies=refused, named_contexts=contexts)
    assert caught.value.message == f'source "{identifier}" denied by policy'
    other = instead(identifier, "https://m.example/f")
    replaced = sources(build(text, policies=other, named_contexts=contexts))
    assert [source.url for source in replaced if isinstance(source, HttpSource)] == [
        "https://m.example/f"
    ]
    assert len(replaced) == 1


def test_a_context_that_is_the_empty_tree_is_nobodys_matter() -> None:
    refused = policy(Rule(Action.DENY, Selector("*")))
    text, contexts = "FROM base\n", {"base": "docker-image://scratch"}
    assert sources(build(text, policies=refused, named_contexts=contexts)) == []


def test_an_image_is_replaced_by_nothing_but_an_image() -> None:
    alpine = Reference.parse("alpine")
    image = "docker-image://docker.io/library/alpine:latest"
    mirror = instead(image, "docker-image://m.example/alpine:3")
    assert str(ruled_image(mirror, alpine, LINUX_AMD64)) == "m.example/alpine:3"
    assert ruled_image(policy(), alpine, LINUX_AMD64) == alpine
    for to in ("oci-layout:///images/base", "local://here", "https://x.example/f"):
        with pytest.raises(UserError) as caught:
            ruled_image(instead(image, to), alpine, LINUX_AMD64)
        assert caught.value.message == (
            f'source policy: "{image}" cannot be replaced by "{to}" here'
        )


def test_a_directory_of_the_client_is_not_replaced() -> None:
    ruled_local(instead("local://other", "local://here"), "context")
    with pytest.raises(UserError, match='"local://context" cannot be replaced by "local://here"'):
        ruled_local(instead("local://context", "local://here"), "context")


def test_a_file_may_become_a_repository_and_the_other_way() -> None:
    file, repository = (
        HttpSource(url="https://x.example/f"),
        GitSource(remote="https://x.example/r.git"),
    )
    made = ruled(
        instead(
            file.url,
            "git://m.example/r.git#v1:sub",
            git_skipsubmodules="true",
            git_keepgitdir="true",
        ),
        file,
    )
    assert made == GitSource(
        remote="https://m.example/r.git",
        ref="v1",
        subdir="sub",
        keep_git_dir=True,
        submodules=False,
    )
    named = instead("git://x.example/r.git", "https://m.example/r.tar", http_filename="tree.tar")
    assert ruled(named, repository) == HttpSource(
        url="https://m.example/r.tar", filename="tree.tar"
    )
    unnamed = instead("git://x.example/r.git", "https://m.example/r.tar?x=1")
    assert ruled(unnamed, repository) == HttpSource(
        url="https://m.example/r.tar?x=1", filename="r.tar"
    )


@pytest.mark.parametrize(
    ("to", "attrs", "words"),
    [
        ("git://m.example/r.git", {"git_fullurl": "ftp://m.example/r.git"}, "is no repository"),
        ("https://m.example/f", {"http_checksum": "sha256:1"}, "https://m.example/f"),
        ("docker-image://A", {}, "docker-image://A"),
    ],
)
def test_a_replacement_that_cannot_be_read_is_named(
    to: str, attrs: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        ruled(instead("https://x.example/f", to, **attrs), HttpSource(url="https://x.example/f"))
    assert caught.value.message.startswith("source policy: ")
