"""Received sources, and the questions that they raise [remote-api 9, 4.1]."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pybuild.buildkit.llb.queries import (
    Answer,
    BlobQuery,
    BundleQuery,
    ImageQuery,
    LayoutQuery,
    LocalQuery,
    Query,
    UploadQuery,
)
from pybuild.buildkit.llb.read import NeedAnswers, read, read_with
from pybuild.buildkit.llb.sources import write_git, write_http
from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UserError
from pybuild.model.ops import (
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MergeOp,
    OciLayoutSource,
    Op,
    ScratchSource,
    Vertex,
    image_identity,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span
from tests.buildkit.llbs import BUSYBOX, Builder, answers, one, read_all

X = Digest.of(b"x")
ARM = pb.Platform(OS="linux", Architecture="arm", Variant="v7")


def source(identifier: str, **attrs: str) -> pb.Op:
    return pb.Op(source=pb.SourceOp(identifier=identifier, attrs=attrs))


def with_attrs(identifier: str, attrs: Mapping[str, str]) -> pb.Op:
    return pb.Op(source=pb.SourceOp(identifier=identifier, attrs=attrs))


def read_source(identifier: str, attrs: Mapping[str, str] | None = None) -> Op:
    return read_all(one(with_attrs(identifier, attrs or {}))).result.op


def asked(definition: pb.Definition) -> tuple[Query, ...]:
    found = read(definition, platform=LINUX_AMD64)
    assert isinstance(found, NeedAnswers)
    return found.queries


# --- images ---


def test_an_image_is_asked_for_by_name_platform_and_mode() -> None:
    attrs = {"image.resolvemode": "pull", "image.checksum": X, "image.recordtype": "internal"}
    op = with_attrs("docker-image://busybox", attrs)
    op.platform.CopyFrom(ARM)
    assert asked(one(op)) == (
        ImageQuery(
            reference=Reference.parse("docker.io/library/busybox:latest"),
            platform=Platform("linux", "arm", "v7"),
            mode="pull",
            checksum=X,
        ),
    )


def test_each_question_comes_once_with_the_lines_that_ask() -> None:
    builder = Builder()
    one_way, other = pb.Op(), pb.Op()
    one_way.CopyFrom(BUSYBOX)
    other.CopyFrom(BUSYBOX)
    other.constraints.SetInParent()  # other bytes, so another op with the same question
    edges = [builder.add(one_way), builder.add(other)]
    definition = builder.end(
        builder.add(
            pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(), pb.MergeInput(input=1)])), *edges
        )
    )
    definition.Source.infos.add(filename="Dockerfile")
    for line, (digest, _) in enumerate(edges, 3):
        place = definition.Source.locations[digest].locations.add().ranges.add()
        place.start.line = place.end.line = line
    found = read(definition, platform=LINUX_AMD64)
    assert isinstance(found, NeedAnswers)
    assert len(found.queries) == 1
    assert found.spans == ((Span("Dockerfile", 3, 3), Span("Dockerfile", 4, 4)),)
    result = read_all(definition).result
    assert isinstance(result.op, MergeOp) and result.inputs[0] == result.inputs[1]


def test_the_answer_becomes_the_vertex() -> None:
    async def resolve(need: NeedAnswers) -> Mapping[Query, Answer]:
        return answers(need)

    async def nothing(need: NeedAnswers) -> Mapping[Query, Answer]:
        return {}

    definition = one(BUSYBOX)
    found = asyncio.run(
        read_with(definition, platform=LINUX_AMD64, resolve=resolve, in_thread=asyncio.to_thread)
    )
    assert isinstance(found.result.op, ImageSource)
    assert found.result.meta.name == "docker-image://docker.io/library/busybox:latest"
    with pytest.raises(InternalError, match="no answer"):
        asyncio.run(
            read_with(
                definition, platform=LINUX_AMD64, resolve=nothing, in_thread=asyncio.to_thread
            )
        )


def test_a_layout_names_its_store_and_session() -> None:
    attrs = {"oci.store": "st", "oci.session": "se"}
    definition = one(with_attrs(f"oci-layout://shop/app@{X}", attrs))
    (query,) = asked(definition)
    assert isinstance(query, LayoutQuery)
    assert (query.store, query.session, query.reference.digest) == ("st", "se", X)
    assert isinstance(read_all(definition).result.op, OciLayoutSource)


# --- directories of the client ---


def test_a_directory_keeps_what_is_said_of_it() -> None:
    attrs = {
        "local.session": "s",
        "local.includepattern": '["a"]',
        "local.excludepatterns": '["b","!c"]',
        "local.followpaths": '["d"]',
        "local.sharedkeyhint": "h",
        "local.differ": "none",
        "local.unique": "whatever",
        "local.metadatatransfer": "true",
        "local.metadatatransferexclude": '["e"]',
    }
    found = read_all(one(with_attrs("local://context", attrs)))
    assert found.result.op == LocalSource(name="context", exclude=("b", "!c"))
    assert found.locals == {
        "context": LocalQuery(
            dir_name="context",
            session="s",
            include=("a",),
            exclude=("b", "!c"),
            follow=("d",),
            shared_key="h",
            compare=False,
            metadata_only=True,
            metadata_except=("e",),
        )
    }


def test_a_directory_that_is_read_in_two_ways_has_two_names() -> None:
    builder = Builder()
    sources = [
        source("local://c"),
        with_attrs("local://c", {"local.followpaths": '["a"]'}),
        with_attrs("local://c", {"local.unique": "x"}),  # the first again
        source("local://c#2"),
    ]
    edges = [builder.add(op) for op in sources]
    merge = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=n) for n in range(4)]))
    found = read_all(builder.end(builder.add(merge, *edges)))
    names = [v.op.name for v in found.result.inputs if isinstance(v.op, LocalSource)]
    assert names == ["c", "c#2", "c", "c#2#2"]
    assert found.locals["c#2"].follow == ("a",)
    assert found.locals["c#2#2"].dir_name == "c#2"


# --- files and repositories ---


def test_a_file_by_http() -> None:
    attrs = {
        "http.checksum": X, "http.filename": "f", "http.perm": "0644", "http.uid": "1",
        "http.gid": "2",
    }  # fmt: skip
    url = "https://e.com/a/b.tgz?c"
    assert read_source(url, attrs) == HttpSource(
        url=url, checksum=X, filename="f", mode=0o644, uid=1, gid=2
    )
    assert read_source(url) == HttpSource(url=url, filename="b.tgz", server_names=True)


def test_a_blob_is_a_file_with_the_look_that_is_asked_for() -> None:
    name = f"e.com/a/b@{X}"
    attrs = {"http.filename": "l.tar", "http.perm": "0644", "http.uid": "1", "http.gid": "2"}
    for url, more in (
        (f"docker-image+blob://{name}", {}),
        (f"oci-layout+blob://{name}", {"oci.store": "s", "oci.session": "x"}),
    ):
        (query,) = asked(one(source(url, **attrs, **more)))
        assert isinstance(query, BlobQuery) and query.store == more.get("oci.store", "")
        assert str(query.reference) == name and query.is_layout == bool(more)
        op = HttpSource(url=url, checksum=X, filename="l.tar", mode=0o644, uid=1, gid=2)
        assert query.source() == op
        written = write_http(op)
        assert (written.identifier, dict(written.attrs)) == (url, attrs)
    (plain,) = asked(one(source(f"docker-image+blob://{name}")))
    assert isinstance(plain, BlobQuery) and plain.filename == X.hex


def test_a_git_bundle_is_a_blob_that_is_wanted_first() -> None:
    url = f"oci-layout+blob://not/real@{X}"
    attrs = {"git.bundle": url, "git.checksum": "abc", "git.checkoutbundle": "true"}
    (query,) = asked(one(source("git://h/a", **attrs, **{"oci.store": "s", "oci.session": ""})))
    assert isinstance(query, BundleQuery)
    op = GitSource(remote="https://h/a", checksum="abc", bundle=url, as_bundle=True)
    assert query.source == op
    assert (query.blob.is_layout, query.blob.store) == (True, "s")
    assert query.blob.source() == HttpSource(url=url, checksum=X, filename="bundle")
    written = dict(write_git(op).attrs)
    assert {name: written[name] for name in attrs} == attrs


def test_what_the_client_pipes_in_is_never_fetched() -> None:
    definition = one(source("http://buildkit-session/abc"))
    (query,) = asked(definition)
    assert query == UploadQuery(id="abc", filename="abc")
    op = read_all(definition).result.op
    assert isinstance(op, HttpSource) and op.checksum is not None


@pytest.mark.parametrize(
    ("identifier", "attrs", "expected"),
    [
        (
            "git://github.com/a/b.git#v1:s/t",
            {
                "git.fullurl": "https://github.com/a/b.git",
                "git.authheadersecret": "GIT_AUTH_HEADER",
                "git.authtokensecret": "GIT_AUTH_TOKEN",
                "git.keepgitdir": "true",
            },
            GitSource(
                remote="https://github.com/a/b.git", ref="v1", subdir="s/t", keep_git_dir=True
            ),
        ),
        ("git://github.com/a/b", {}, GitSource(remote="https://github.com/a/b")),
        ("git://h/a", {"git.fullurl": "SSH://u@h/a"}, GitSource(remote="SSH://u@h/a")),
        (
            "git://h/a#:../../x",
            {"git.fullurl": "git@h:a", "git.mountsshsock": "default", "git.knownsshhosts": "h k"},
            GitSource(remote="git@h:a", subdir="x"),
        ),
        (
            "git://h/a",
            {
                "git.checksum": "abc", "git.skipsubmodules": "true", "git.mtime": "commit",
                "git.fetchbycommit": "true",
            },
            GitSource(
                remote="https://h/a", checksum="abc", submodules=False, mtime="commit",
                fetch_by_commit=True,
            ),
        ),
    ],
)  # fmt: skip
def test_a_repository(identifier: str, attrs: Mapping[str, str], expected: GitSource) -> None:
    assert read_source(identifier, attrs) == expected


def test_an_image_may_end_after_some_layers() -> None:
    (query,) = asked(one(with_attrs("docker-image://a", {"image.layerlimit": "2"})))
    assert isinstance(query, ImageQuery) and query.layers == 2
    whole = ImageSource(digest=X, reference=query.reference, platform=LINUX_AMD64)
    part = replace(whole, layers=2)
    assert image_identity(whole) == X != image_identity(part)
    (op,) = [pb.Op.FromString(data) for data in write(Vertex(part)).defs[:1]]
    assert op.source.attrs["image.layerlimit"] == "2"


def test_known_hosts_come_along_without_counting() -> None:
    found = read_source("git://h/a", {"git.fullurl": "git@h:a", "git.knownsshhosts": "h k"})
    assert isinstance(found, GitSource) and found.known_hosts == "h k"


@pytest.mark.parametrize(
    ("identifier", "attrs", "words"),
    [
        ("busybox", {}, "of a kind that is not supported"),
        ("blob://x", {}, "of a kind that is not supported"),
        ("docker-image://Busy", {}, "must be lowercase"),
        ("docker-image://", {}, "invalid reference"),
        ("docker-image://a@sha256:1", {}, "invalid reference"),
        ("docker-image://a", {"image.resolvemode": "x"}, 'resolvemode: "x"'),
        ("docker-image://a", {"image.layerlimit": "0"}, "layer limit"),
        ("docker-image://a", {"image.layerlimit": "x"}, "image.layerlimit"),
        ("docker-image://a", {"image.checksum": "x"}, "image.checksum"),
        ("oci-layout://a:b", {}, "has no digest"),
        ("local://", {}, "has no name"),
        ("local://c", {"local.followpaths": "a"}, "no JSON list"),
        ("local://c", {"local.followpaths": '{"a":1}'}, "no JSON list"),
        ("local://c", {"local.followpaths": "[1]"}, "no list of texts"),
        ("local://c", {"local.followpaths": "[" * 100_000}, "no JSON list"),
        ("local://c", {"local.followpaths": '["\\u0000"]'}, "NUL"),
        ("local://c", {"local.differ": "x"}, 'differ: "x"'),
        ("local://c\0", {}, "NUL"),
        ("http://", {}, "no host"),
        ("http://[", {}, "invalid URL"),
        ("http://h/x", {"http.perm": "9"}, 'http.perm is "9"'),
        ("http://h/x", {"http.header.accept": "a\r\nHost: b"}, "is no header"),
        ("http://h/x", {"http.header.User-Agent": "x" * 5000}, "is no header"),
        ("http://h/x", {"http.perm": "77777"}, "has the mode"),
        ("http://h/x", {"http.uid": "-1"}, 'http.uid is "-1"'),
        ("http://h/x", {"http.uid": "٣"}, "http.uid"),
        ("http://h/x", {"http.checksum": "md5:1"}, "http.checksum"),
        ("git://h/a", {"git.authtokensecret": "MINE"}, 'a secret called "MINE"'),
        ("git://h/a", {"git.mountsshsock": "x"}, 'the ssh agent "x"'),
        ("git://h/a", {"git.mtime": "x"}, "invalid mtime"),
        ("git://h/a", {"git.bundle": f"docker-image+blob://a@{X}"}, "requires git.checksum"),
        ("git://h/a", {"git.bundle": "a", "git.checksum": "1"}, "missing scheme"),
        ("git://h/a", {"git.bundle": "http://a", "git.checksum": "1"}, 'scheme "http"'),
        (
            "git://h/a",
            {"git.bundle": "oci-layout+blob://a:b", "git.checksum": "1"},
            "has no sha256 digest",
        ),
        (
            "git://h/a",
            {"git.checkoutbundle": "true", "git.keepgitdir": "true"},
            "incompatible with git.keepgitdir",
        ),
        ("git://h/a#:s", {"git.checkoutbundle": "true"}, "incompatible with git.subdir"),
        ("git://h/a", {"git.keepgitdir": "yes"}, 'git.keepgitdir is "yes"'),
        ("git://h/a", {"git.sig.pubkey": "k"}, '"git.sig.pubkey" is not supported'),
    ],
)
def test_sources_that_cannot_be(identifier: str, attrs: Mapping[str, str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_all(one(with_attrs(identifier, attrs)))
    assert words in caught.value.message


def test_messages_stay_short_whatever_is_sent() -> None:
    long = "x" * 100_000
    for op in (source(long), with_attrs("local://" + long, {"local." + long: ""})):
        definition = one(op)
        for digest in [Digest.of(data) for data in definition.defs]:
            definition.metadata[digest].description["llb.customname"] = long
        with pytest.raises(UserError) as caught:
            read_all(definition)
        assert len(caught.value.message) < 1000


# --- composition of scratch ---


def test_merges_and_differences_with_nothing_in_them() -> None:
    def merged(*inputs: int) -> Op:
        op = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=n) for n in inputs]))
        return read_all(one(op, BUSYBOX)).result.op

    assert isinstance(merged(), ScratchSource)
    assert isinstance(merged(-1, -1), ScratchSource)
    assert isinstance(merged(-1, 0), ImageSource)
    diff = pb.DiffOp(lower=pb.LowerDiffInput(input=-1), upper=pb.UpperDiffInput(input=0))
    assert isinstance(read_all(one(pb.Op(diff=diff), BUSYBOX)).result.op, ImageSource)


def test_a_source_that_the_rule_denies_is_an_error_on_its_lines() -> None:
    builder = Builder()
    edge = builder.add(BUSYBOX)
    definition, digest = builder.end(edge), edge[0]
    definition.Source.infos.add(filename="Dockerfile")
    place = definition.Source.locations[digest].locations.add().ranges.add()
    place.start.line = place.end.line = 1

    def deny(op: pb.SourceOp, platform: Platform) -> None:
        raise UserError(f"{op.identifier} is denied")

    with pytest.raises(UserError, match=r"busybox:latest is denied") as caught:
        read(definition, platform=LINUX_AMD64, rule=deny)
    assert caught.value.spans == (Span("Dockerfile", 1, 1),)


def test_a_platform_of_half_is_filled_up_from_the_default() -> None:
    op = pb.Op()
    op.CopyFrom(BUSYBOX)
    op.platform.CopyFrom(pb.Platform(OS="windows"))
    (query,) = asked(one(op))
    assert isinstance(query, ImageQuery)
    assert query.platform == Platform("windows", "amd64")
    op.platform.CopyFrom(pb.Platform(Architecture="s390x"))
    (query,) = asked(one(op))
    assert isinstance(query, ImageQuery)
    assert query.platform == Platform("linux", "s390x")


def test_headers_of_a_file_are_those_that_count() -> None:
    attrs = {
        "http.authheadersecret": "s",
        "http.header.Accept": "a/b",
        "http.header.user-agent": "me",
        "http.header.host": "elsewhere",
    }
    op = read_source("http://h/x", attrs)
    assert isinstance(op, HttpSource)
    assert op == HttpSource(
        url="http://h/x",
        filename="x",
        auth_secret="s",
        accept="a/b",
        user_agent="me",
        server_names=True,
    )
    assert dict(write_http(op).attrs) == {
        "http.authheadersecret": "s",
        "http.header.accept": "a/b",
        "http.header.user-agent": "me",
    }
