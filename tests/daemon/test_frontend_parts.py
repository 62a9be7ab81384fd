"""A frontend's attributes, configs, results and questions: what goes in and what comes out [6, 7.2]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.builds.verdicts import in_place
from pybuild.daemon.builds.producers import Producers
from pybuild.daemon.frontend.attrs import Attrs, UnsupportedCap, default_platform, read_attrs
from pybuild.daemon.frontend.definition import ReadDockerfile
from pybuild.daemon.frontend.dockerfile import used_paths
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.lowered import gateway_config, lowered_from
from pybuild.daemon.frontend.offered import read_offered, sbom_of
from pybuild.daemon.frontend.parsing import parse
from pybuild.daemon.frontend.results import Result, platforms_document, read_result
from pybuild.daemon.frontend.subrequests import UnknownRequest, answer_subrequest, check_request
from pybuild.daemon.frontend.wirerules import in_protocol_words
from pybuild.engine.host import native_platform
from pybuild.exporter.attest.attestation import About
from pybuild.frontend.lowering.interface import HistoryItem, Lowered, LowerOptions, NeedImages
from pybuild.frontend.question import Outcomes
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import BuildWarning
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    LocalSource,
    Mkfile,
    Mount,
    MountType,
    ScratchSource,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.status import Code, RpcError
from tests.buildkit.llbs import BUSYBOX, one

SCRATCH = Vertex(ScratchSource())
MADE = Vertex(FileOp(actions=(Mkfile(path="/f", data=b""),)), (SCRATCH,))


async def solve(vertex: Vertex) -> Snapshot:
    return Snapshot((vertex.digest,))


def tree() -> LazyTree:
    return LazyTree(MADE, solve)


# --- attributes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "filename", "named", "dockerfile_key"),
    [
        ({}, "Dockerfile", False, "dockerfile"),
        ({"filename": ""}, "Dockerfile", False, "dockerfile"),
        ({"filename": "Dockerfile"}, "Dockerfile", False, "dockerfile"),
        ({"filename": "D"}, "D", True, "dockerfile"),
        ({"context": "https://x"}, "Dockerfile", False, ""),
        ({"context": "https://x", "dockerfilekey": "d"}, "Dockerfile", False, "d"),
        ({"dockerfilekey": "d"}, "Dockerfile", False, "d"),
    ],
)
def test_the_dockerfile_is_in_the_context_from_elsewhere_or_the_clients_directory(
    given: Mapping[str, str], filename: str, named: bool, dockerfile_key: str
) -> None:
    attrs = read_attrs(given)
    assert (attrs.filename, attrs.named, attrs.dockerfile_key) == (filename, named, dockerfile_key)
    assert attrs.context == given.get("context", "")


def test_each_attribute_has_its_place() -> None:
    attrs = read_attrs(
        {
            "target": "t",
            "contextkey": "c",
            "contextsubdir": "sub",
            "build-arg:A": "1",
            "build-arg:": "nothing",
            "label:l": "x",
            "context:base": "docker-image://x",
            "input-metadata:base": "{}",
            "local-sessionid:context": "s",
            "requestid": "frontend.lint",
            "image-resolve-mode": "pull",
            "multi-platform": "T",
        }
    )
    assert (attrs.target, attrs.context_key, attrs.context_subdir) == ("t", "c", "sub")
    assert (attrs.build_args, attrs.labels) == ({"A": "1"}, {"l": "x"})
    assert attrs.named_contexts == {"base": "docker-image://x"}
    assert attrs.input_metadata == {"base": "{}"}
    assert attrs.local_sessions == {"context": "s"}
    assert (attrs.request, attrs.pull, attrs.as_index) == ("frontend.lint", True, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", False),
        ("0", False),
        ("False", False),
        ("f", False),
        ("1", True),
        ("TRUE", True),
        ("t", True),
    ],
)
def test_flags_are_those_of_go(text: str, value: bool) -> None:
    assert read_attrs({"multi-platform": text}).as_index is value


@pytest.mark.parametrize(
    ("text", "everything", "stages"),
    [
        (None, False, frozenset[str]()),
        ("", True, frozenset[str]()),
        (",", True, frozenset[str]()),
        ("A,,b", False, frozenset(("a", "b"))),
    ],
)
def test_stages_without_a_cache_are_named_or_all(
    text: str | None, everything: bool, stages: frozenset[str]
) -> None:
    attrs = read_attrs({} if text is None else {"no-cache": text})
    assert (attrs.no_cache, attrs.no_cache_filter) == (everything, stages)


@pytest.mark.parametrize(
    ("mode", "pull"), [("", True), ("default", True), ("pull", True), ("local", False)]
)
def test_registries_are_asked_unless_the_image_here_will_do(mode: str, pull: bool) -> None:
    assert read_attrs({"image-resolve-mode": mode}).pull is pull


def test_caches_are_those_of_the_list_and_then_the_short_ones() -> None:
    entries = [{"Type": "local", "Attrs": {"src": "d", "n": 1}}, {"Attrs": None}]
    attrs = read_attrs({"cache-imports": json.dumps(entries), "cache-from": "a,,b"})
    assert attrs.cache_imports == (
        ("local", {"src": "d", "n": "1"}),
        ("", {}),
        ("registry", {"ref": "a"}),
        ("registry", {"ref": "b"}),
    )
    with pytest.raises(UsageError) as caught:
        read_attrs({"cache-imports": "{" * 100})
    assert caught.value.message == "failed to unmarshal cache-imports: " + "{" * 80


def test_attestations_come_as_attributes_or_as_build_arguments() -> None:
    assert not read_attrs({}).attestations
    asked = read_attrs({"attest:provenance": "type=provenance,mode=min"}).attestations
    assert asked.provenance is not None and not asked.provenance.full and asked.sbom is None
    asked = read_attrs({"build-arg:BUILDKIT_ATTEST_PROVENANCE": "mode=max"}).attestations
    assert asked.provenance is not None and asked.provenance.full
    assert not read_attrs({"attest:sbom": "false"}).attestations
    assert not read_attrs(
        {"attest:provenance": "true", "build-arg:BUILDKIT_ATTEST_PROVENANCE": "false"}
    ).attestations
    with pytest.raises(UsageError, match='unknown attestation type "x"'):
        read_attrs({"attest:X": "true"})


def test_one_platform_is_the_first_or_this_machines() -> None:
    assert default_platform(read_attrs({"platform": "linux/s390x,linux/arm64"})).arch == "s390x"
    assert default_platform(read_attrs({})) == native_platform()


def test_what_is_wrong_with_attributes_is_quoted() -> None:
    for given, words in (
        ({"image-resolve-mode": "x"}, "invalid image-resolve-mode: x"),
        ({"multi-platform": "yes"}, "invalid boolean value yes for multi-platform"),
        ({"frontend.caps": "x+forward"}, "unsupported frontend capability x"),
    ):
        with pytest.raises(UsageError) as caught:
            read_attrs(given)
        assert caught.value.message == words
    names = ("inputs", "subrequests", "contexts", "gitquerystring")
    assert read_attrs({"frontend.caps": ",".join(f"moby.buildkit.frontend.{n}" for n in names)})
    with pytest.raises(UnsupportedCap):
        read_attrs({"frontend.caps": "inputs"})


# --- configs --------------------------------------------------------------------------------------


def test_a_config_for_clients_has_the_history_of_base_and_build() -> None:
    lowered = Lowered(
        result=MADE,
        config={"os": "linux", "architecture": "amd64", "history": [{"created_by": "base"}]},
        base_layer_count=1,
        history=(HistoryItem(created_by="RUN x", vertex=MADE), HistoryItem(created_by="ENV a=b")),
        contexts=frozenset(),
        platform=LINUX_AMD64,
    )
    text = gateway_config(lowered)
    comment = "buildkit.dockerfile.v0"
    assert json.loads(text) == {
        "os": "linux",
        "architecture": "amd64",
        "history": [
            {"created_by": "base"},
            {"created_by": "RUN x", "comment": comment},
            {"created_by": "ENV a=b", "comment": comment, "empty_layer": True},
        ],
        "rootfs": {"type": "layers"},
    }
    assert list(json.loads(text)) == ["architecture", "history", "os", "rootfs"]
    assert lowered.config["history"] == [{"created_by": "base"}]


def test_a_fixed_time_is_that_of_all_that_a_build_adds() -> None:
    lowered = Lowered(
        result=MADE, config={}, base_layer_count=0, history=(HistoryItem(created_by="x"),),
        contexts=frozenset(), platform=LINUX_AMD64, epoch=0,
    )  # fmt: skip
    (entry,) = json.loads(gateway_config(lowered))["history"]
    assert entry["created"] == "1970-01-01T00:00:00Z"


BASE: dict[str, Any] = {
    "history": [{"created_by": "b1"}, {"created_by": "b2", "empty_layer": True}],
    "rootfs": {"diff_ids": ["sha256:1"]},
}


def test_the_bases_history_is_told_from_what_was_added() -> None:
    config: dict[str, Any] = {
        "os": "plan9",
        "rootfs": {"diff_ids": ["x"]},
        "history": [
            {"created_by": "b1", "comment": ""},
            {"created_by": "b2", "empty_layer": True},
            {"created_by": "own", "comment": "c", "created": "then", "author": "me"},
            {"created_by": "env", "empty_layer": True},
            {"created_by": "more"},
        ],
    }
    found = lowered_from(MADE, config, Platform("linux", "arm", "v6"), base=BASE, layers=2, epoch=5)
    assert found.config == {
        "os": "plan9",
        "architecture": "arm",
        "variant": "v6",
        "history": config["history"][:2],
    }
    assert (found.base_layer_count, found.epoch, found.result) == (1, 5, MADE)
    assert found.history == (
        HistoryItem(created_by="own", vertex=MADE, comment="c", created="then", author="me"),
        HistoryItem(created_by="env", vertex=None, comment=""),
        HistoryItem(created_by="more", vertex=None, comment=""),
    )
    assert "rootfs" in config


def test_without_a_base_nothing_is_taken_for_the_bases() -> None:
    found = lowered_from(MADE, {"history": BASE["history"]}, LINUX_AMD64, layers=1)
    assert found.base_layer_count == 0 and found.config["history"] == []
    assert [item.vertex for item in found.history] == [MADE, None]
    assert "variant" not in found.config
    bare = lowered_from(MADE, None, LINUX_AMD64, base=BASE, layers=0)
    assert bare.config == {"history": [], "os": "linux", "architecture": "amd64"}
    assert (bare.base_layer_count, bare.history) == (0, ())
    odd: list[dict[str, Any]] = [{"rootfs": {"diff_ids": "none"}}, {"rootfs": []}]
    for base in odd:
        assert lowered_from(MADE, None, LINUX_AMD64, base=base, layers=3).base_layer_count == 0


@pytest.mark.parametrize("history", [{}, "x", [1], [{}, None]])
def test_a_history_is_a_list_of_objects(history: object) -> None:
    with pytest.raises(UserError, match="history is no list of objects"):
        lowered_from(MADE, {"history": history}, LINUX_AMD64)


# --- results --------------------------------------------------------------------------------------


def test_trees_come_in_the_order_of_their_platforms_and_then_by_name() -> None:
    a, b, c, d = (tree() for _ in range(4))
    platforms = [("z", LINUX_AMD64), ("gone", LINUX_AMD64), ("y", Platform("linux", "arm", "v7"))]
    result = Result(
        many={"d": d, "y": a, "c": c, "z": b},
        metadata={"refs.platforms": platforms_document(platforms)},
    )
    assert result.each() == [("z", b), ("y", a), ("c", c), ("d", d)]
    assert result.platforms() == platforms
    assert Result(single=a).each() == [("", a)] and Result().each() == [("", None)]
    assert Result(many={"x": None}).references() == [] and Result(single=a).references() == [a]


@pytest.mark.parametrize(
    "text", [b"{", b"{}", b"[]", b'{"Platforms":[{}]}', b'{"Platforms":[{"ID":"x","Platform":{}}]}']
)
def test_platforms_that_cannot_be_read_are_quoted(text: bytes) -> None:
    with pytest.raises(UserError, match="failed to parse platforms: b"):
        Result(metadata={"refs.platforms": text}).platforms()


def test_platforms_are_written_with_all_that_tells_them() -> None:
    platforms = [
        ("w", Platform("windows", "amd64", "", "10.0")),
        ("a", Platform("linux", "arm", "v6")),
    ]
    assert json.loads(platforms_document(platforms)) == {
        "Platforms": [
            {
                "ID": "w",
                "Platform": {"architecture": "amd64", "os": "windows", "os.version": "10.0"},
            },
            {"ID": "a", "Platform": {"architecture": "arm", "os": "linux", "variant": "v6"}},
        ]
    }
    assert (
        Result(metadata={"refs.platforms": platforms_document(platforms)}).platforms() == platforms
    )


def test_facts_of_a_tree_are_its_own() -> None:
    result = Result(
        metadata={
            "containerimage.config": b'{"a":1}',
            "containerimage.config/x": b'{"a":2}',
            "containerimage.base.config/x": b'{"b":1}',
            "source.date.epoch": b"7",
            "source.date.epoch/x": b"8",
            "source.date.epoch/y": b"",
        }
    )
    assert (result.config(""), result.config("x"), result.config("y")) == ({"a": 1}, {"a": 2}, None)
    assert (result.base_config("x"), result.base_config("")) == ({"b": 1}, None)
    assert [result.epoch(key) for key in ("", "x", "y", "z")] == [7, 8, None, 7]
    assert Result().epoch("") is None
    with pytest.raises(UserError, match="invalid SOURCE_DATE_EPOCH from frontend: b'x'"):
        Result(metadata={"source.date.epoch": b"x"}).epoch("")
    for text in (b"{", b"[]", b"3"):
        with pytest.raises(UserError, match="failed to parse image config"):
            Result(metadata={"containerimage.config": text}).config("")


def test_results_of_all_ages_are_read() -> None:
    a, b = tree(), tree()
    known = {a.id: a, b.id: b}
    refs = pb.Result(metadata={"k": b"v"})
    refs.refs.refs["x"].id, refs.refs.refs["y"].id = a.id, ""
    assert read_result(refs, known) == Result(many={"x": a, "y": None}, metadata={"k": b"v"})
    old = pb.Result()
    old.refsDeprecated.refs["x"] = b.id
    assert read_result(old, known) == Result(many={"x": b})
    assert read_result(pb.Result(ref=pb.Ref(id=a.id)), known) == Result(single=a)
    assert read_result(pb.Result(refDeprecated=b.id), known) == Result(single=b)
    assert read_result(pb.Result(), known) == Result()
    with pytest.raises(RpcError, match="return reference nobody not found") as caught:
        read_result(pb.Result(refDeprecated="nobody"), known)
    assert caught.value.code is Code.UNKNOWN


def test_a_tree_travels_with_its_definition_where_it_has_one() -> None:
    definition = one(BUSYBOX)
    calls: list[int] = []

    def write() -> ops.Definition:
        calls.append(1)
        return definition

    written = LazyTree(MADE, solve, write)
    message = Result(many={"x": written, "y": None}).message()
    first = message.refs.refs["x"]
    assert (first.id, first.defs) == (written.id, definition)
    assert "y" in message.refs.refs and not message.refs.refs["y"].id
    assert written.definition() is definition and calls == [1]

    def refuses() -> ops.Definition:
        calls.append(2)
        raise UserError("no")

    without = LazyTree(MADE, solve, refuses)
    assert without.definition() is None and without.definition() is None
    assert calls == [1, 2] and tree().definition() is None


def test_a_promised_tree_is_made_once() -> None:
    calls: list[Vertex] = []

    async def solved(vertex: Vertex) -> Snapshot:
        calls.append(vertex)
        return Snapshot(("d",))

    async def run() -> None:
        promised = LazyTree(MADE, solved)
        found = await asyncio.gather(promised.snapshot(), promised.snapshot())
        assert list(found) == [Snapshot(("d",))] * 2 and calls == [MADE]
        await promised.close()
        await LazyTree(MADE, solved).close()

    asyncio.run(run())


def test_a_scan_is_offered_as_the_protocol_has_it() -> None:
    scan = tree()
    message = sbom_of(scan, "core", "type").message(pb.Ref(id=scan.id))
    assert dict(message.metadata) == {"reason": b"sbom", "sbom-core": b"core"}
    assert (message.kind, message.inTotoPredicateType) == (pb.Attestation.Bundle, "type")
    assert (message.path, message.ref.id) == ("", scan.id)


def test_subjects_of_attestations() -> None:
    scan = tree()
    raw = pb.InTotoSubject(kind=pb.InTotoSubject.Raw, name="f", digest=["sha256:ab", "md5:cd"])
    own = pb.InTotoSubject(kind=pb.InTotoSubject.Self, name="g")
    item = pb.Attestation(path="p", inTotoPredicateType="t", inTotoSubjects=[raw, own])
    (found,) = read_offered([item], lambda id: scan)
    assert (found.path, found.predicate_type, found.bundle) == ("p", "t", False)
    assert found.about == (About("f", {"sha256": "ab", "md5": "cd"}), About("g"))
    item.inTotoSubjects.add(kind=9)
    with pytest.raises(UserError, match="unknown attestation subject type 9"):
        read_offered([item], lambda id: scan)


# --- definitions and who made them ----------------------------------------------------------------


def document(**request: object) -> dict[str, Any]:
    return {"request": {"root": "r", **request}, "more": 1}


def test_a_definition_is_known_as_long_as_its_build_goes_on() -> None:
    producers = Producers()
    definition = one(BUSYBOX)
    assert producers.find(definition) is None
    producers.add(definition, "one", document(a=1))
    assert producers.find(definition) == {"request": {"a": 1}, "more": 1}
    producers.add(definition, "two", document(a=1, root="other"))
    assert producers.find(definition) == {"request": {"a": 1}, "more": 1}
    producers.add(definition, "three", document(a=2))
    assert producers.find(definition) is None
    producers.forget("three")
    assert producers.of_inputs({"b": definition, "c": ops.Definition()}) == {
        "b": {"request": {"a": 1}, "more": 1}
    }
    producers.forget("one")
    assert producers.find(definition) is not None
    producers.forget("two")
    assert producers.find(definition) is None


def test_what_is_no_definition_was_made_by_nobody() -> None:
    producers = Producers()
    empty = ops.Definition()
    garbled = ops.Definition(defs=[b"\xff\xff"])
    alone = ops.Definition(defs=[BUSYBOX.SerializeToString()])
    for definition in (empty, garbled, alone):
        producers.add(definition, "b", document())
        assert producers.find(definition) is None


def test_requests_are_read_or_refused() -> None:
    assert parse(pb.SolveRequest(), b"").Frontend == ""
    for data, code in ((None, Code.INTERNAL), (b"\xff", Code.INVALID_ARGUMENT)):
        with pytest.raises(RpcError) as caught:
            parse(pb.SolveRequest(), data)
        assert caught.value.code is code


def test_mounts_of_a_directory_are_asked_for_by_their_place() -> None:
    context = Vertex(LocalSource(name="context"))
    step = ExecOp(
        args=("x",), env=(), cwd="/", platform=LINUX_AMD64,
        mounts=(
            Mount(target="/", input=0),
            Mount(target="/m", input=1, selector="/b/c/"),
            Mount(target="/t", type=MountType.TMPFS),
        ),
    )  # fmt: skip
    first = Vertex(step, (SCRATCH, context))
    copy = FileOp(actions=(Copy(input=1, source="/a", dest="/"), Mkfile(path="/f", data=b"")))
    assert used_paths(first) == {"context": ("b/c",)}
    assert used_paths(first, Vertex(copy, (first, context))) == {"context": ("a", "b/c")}
    assert used_paths(first, context) == {"context": ()}
    assert used_paths(SCRATCH) == {}


# --- questions ------------------------------------------------------------------------------------


async def nobody(need: NeedImages) -> Outcomes:
    raise AssertionError(need)


def answered(request: str, text: bytes = b"") -> dict[str, str]:
    definition = ReadDockerfile(
        data=text, filename="Dockerfile", lines=(), vertex=Digest.of(b""), context=None,
        excludes={}, contexts={}, context_trees={},
    )  # fmt: skip
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    result = asyncio.run(
        answer_subrequest(Attrs(request=request), definition, options, nobody, in_place)
    )
    assert result.single is None and result.many is None
    return {name: value.decode() for name, value in result.metadata.items()}


def test_the_questions_that_there_are_are_listed() -> None:
    found = answered("frontend.subrequests.describe")
    assert found["version"] == "1.0.0" and "result.statuscode" not in found
    items = json.loads(found["result.json"])
    names = [
        "frontend.lint",
        "frontend.outline",
        "frontend.subrequests.describe",
        "frontend.targets",
    ]
    assert [item["name"] for item in items] == names
    assert {item["type"] for item in items} == {"rpc"}
    assert items[0]["metadata"] == [{"name": "result.json"}, {"name": "result.txt"}]
    lines = found["result.txt"].splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "DESCRIPTION"] and len(lines) == 5
    assert lines[1].split(maxsplit=2) == ["frontend.lint", "1.0.0", items[0]["description"]]


def test_a_check_says_whether_there_is_something_to_mend() -> None:
    assert answered("frontend.lint", b"FROM scratch\n")["result.statuscode"] == "0"
    found = answered("frontend.lint", b"FROM scratch AS Base\n")
    assert found["result.statuscode"] == "1"
    (warning,) = json.loads(found["result.json"])["warnings"]
    assert warning["ruleName"] == "StageNameCasing"
    assert warning["url"] == "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
    assert warning["description"] == "Stage names should be lowercase"


def test_targets_are_those_of_the_file() -> None:
    found = answered("frontend.targets", b"FROM scratch AS one\nFROM one AS two\n")
    targets = json.loads(found["result.json"])["targets"]
    assert [one["name"] for one in targets] == ["one", "two"]
    assert "result.statuscode" not in found


def test_a_question_that_there_is_not_is_named() -> None:
    for name in ("", "frontend.lint", "frontend.outline", "frontend.targets"):
        check_request(name)
    with pytest.raises(UnknownRequest, match="unsupported request frontend.x") as caught:
        check_request("frontend.x")
    assert caught.value.name == "frontend.x"


@pytest.mark.parametrize(
    ("rule", "page"),
    [
        ("StageNameCasing", "stage-name-casing"),
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed"),
    ],
)
def test_rules_have_the_pages_of_the_reference(rule: str, page: str) -> None:
    told = in_protocol_words(BuildWarning(message="m", rule=rule, url="ours", detail=("ours",)))
    assert told.url == f"https://docs.docker.com/go/dockerfile/rule/{page}/"
    assert told.detail != ("ours",) and (told.rule, told.message) == (rule, "m")


def test_a_rule_without_a_page_has_no_address() -> None:
    told = in_protocol_words(BuildWarning(message="m", rule="InvalidBaseImagePlatform", url="ours"))
    assert told.url == "" and told.detail
    other = BuildWarning(message="m", rule="Ours", url="ours", detail=("d",))
    assert in_protocol_words(other) is other
