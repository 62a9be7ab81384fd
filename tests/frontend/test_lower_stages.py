"""Stages, targets, ARG scopes: the table E90 to E110 and what surrounds it."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lowering.interface import LowerOptions, NeedImages
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.outline import list_stages
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import (
    ImageSource,
    LocalSource,
    NetworkMode,
    ScratchSource,
    StepSettings,
    walk,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.frontend.lowering import (
    PATH,
    build,
    env_of,
    execs,
    files,
    find,
    image,
    named,
    resolve,
    texts,
)

ARM = Platform.parse("linux/arm64")


def test_global_arg_is_seen_by_from_and_not_by_the_stage() -> None:
    asked: list[str] = []
    lowered = build("ARG V=3\nFROM a:$V\nRUN echo $V\n", asked=asked)  # E90
    assert asked == ["a:3 linux/amd64"]
    assert "V" not in env_of(execs(lowered)[0])


def test_bare_arg_takes_the_global_value() -> None:
    lowered = build("ARG V=3\nFROM a:$V\nARG V\nRUN echo $V\n")  # E91
    assert env_of(execs(lowered)[0])["V"] == "3"


def test_default_in_the_stage_beats_the_global_one_and_a_build_arg_both() -> None:  # E92
    text = "ARG V=3\nFROM a:$V\nARG V=4\nRUN echo $V\n"
    asked: list[str] = []
    assert env_of(execs(build(text, asked=asked))[0])["V"] == "4"
    assert env_of(execs(build(text, asked=asked, build_args={"V": "5"}))[0])["V"] == "5"
    assert asked == ["a:3 linux/amd64", "a:5 linux/amd64"]


def test_env_after_arg_overrides_the_build_arg() -> None:  # E93
    lowered = build("FROM a\nARG V\nENV V=x\nRUN id\n", build_args={"V": "y"})
    assert env_of(execs(lowered)[0])["V"] == "x"


def test_arg_after_env_wins_for_steps_but_not_in_the_config() -> None:  # E94
    lowered = build("FROM a\nENV V=x\nARG V=y\nRUN id\n")
    assert env_of(execs(lowered)[0])["V"] == "y"
    assert lowered.config["config"]["Env"] == [PATH, "V=x"]


@pytest.mark.parametrize(("args", "value"), [({}, "d"), ({"V": "b"}, "b")])
def test_env_can_keep_an_arg(args: dict[str, str], value: str) -> None:  # E95
    lowered = build("FROM a\nARG V\nENV V=${V:-d}\n", build_args=args)
    assert lowered.config["config"]["Env"] == [PATH, f"V={value}"]


def test_args_are_inherited_by_stages_based_on_theirs() -> None:  # E96
    lowered = build("FROM a AS one\nARG V=1\nFROM one AS two\nRUN x\n")
    assert env_of(execs(lowered)[0])["V"] == "1"
    assert texts(lowered)[-1] == "+ RUN |1 V=1 /bin/sh -c x # buildkit"


def test_blank_base_name_is_refused_with_its_expression() -> None:  # E97
    with pytest.raises(UserError, match=r"base name \(\$X\) should not be blank") as caught:
        build("FROM a\nFROM $X\n", target="nope")
    assert caught.value.spans[0].first_line == 2


def test_copy_binds_to_the_last_stage_of_a_name() -> None:  # E98
    lowered = build(
        "FROM x AS a\nRUN one\nFROM y AS a\nRUN two\nFROM scratch\nCOPY --from=a /f /\n"
    )
    assert [op.args[-1] for op in execs(lowered)] == ["two"]


def test_copy_from_a_later_stage_is_refused() -> None:  # E99
    with pytest.raises(UserError) as caught:
        build("FROM a\nCOPY --from=1 x /\nFROM b\nCOPY --from=0 /x /\n")
    assert caught.value.message == "circular dependency detected on stage: stage-0"
    with pytest.raises(UserError) as caught:
        build("FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nRUN x\nFROM one\n")
    assert caught.value.message == (
        'cannot copy from stage "two", it needs to be defined before current stage "one"'
    )
    assert caught.value.spans[0].first_line == 2


def test_index_out_of_range() -> None:
    with pytest.raises(UserError, match="invalid stage index 5"):
        build("FROM a\nCOPY --from=5 x /\n")


def test_unused_stage_is_never_asked_for() -> None:  # E100
    asked: list[str] = []
    lowered = build("FROM does/not:exist AS no\nRUN x\nFROM a\nRUN y\n", asked=asked)
    assert asked == ["a linux/amd64"]
    assert [op.args[-1] for op in execs(lowered)] == ["y"]


def test_proxy_args_do_not_count() -> None:  # E102
    text = "FROM a\nRUN x\n"
    one = build(text, build_args={"HTTP_PROXY": "p"})
    two = build(text, build_args={"http_proxy": "q"})
    assert one.result.digest == two.result.digest == build(text).result.digest
    assert execs(one)[0].proxy_env == ("HTTP_PROXY=p", "http_proxy=p")
    assert "p" not in env_of(execs(one)[0]).values()
    assert texts(one) == ["+ RUN /bin/sh -c x # buildkit"]
    assert not one.warnings


def test_declared_proxy_arg_counts() -> None:  # E103
    text = "FROM a\nARG HTTP_PROXY\nRUN x\n"
    one = build(text, build_args={"HTTP_PROXY": "p"})
    two = build(text, build_args={"HTTP_PROXY": "q"})
    assert one.result.digest != two.result.digest
    assert texts(one)[-1] == "+ RUN |1 HTTP_PROXY=p /bin/sh -c x # buildkit"


def test_automatic_args_can_be_overridden() -> None:  # E104
    asked: list[str] = []
    text = "FROM a:$TARGETARCH\nARG TARGETARCH\nRUN x\n"
    lowered = build(text, asked=asked, build_args={"TARGETARCH": "foo"})
    assert asked == ["a:foo linux/amd64"]
    assert env_of(execs(lowered)[0])["TARGETARCH"] == "foo"
    assert not lowered.warnings


def test_automatic_args_need_a_declaration_in_the_stage() -> None:
    text = "FROM a\nRUN x\nARG TARGETPLATFORM\nARG BUILDARCH TARGETSTAGE\nRUN y\n"
    first, second = execs(build(text, target_platform=ARM))
    assert set(env_of(first)) == {"PATH"}
    assert env_of(second)["TARGETPLATFORM"] == "linux/arm64"
    assert env_of(second)["BUILDARCH"] == "amd64"
    assert env_of(second)["TARGETSTAGE"] == "default"


def test_onbuild_of_an_image_runs_in_the_child_only() -> None:  # E105
    text = "FROM base AS child\nRUN own\nFROM child\nRUN grandchild\n"
    lowered = build(text, images={"base": image(OnBuild=["COPY . /s", "RUN built"])})
    assert [op.args[-1] for op in execs(lowered)] == ["built", "own", "grandchild"]
    assert "[child 2/4] ONBUILD COPY . /s" in named(lowered)
    assert "[child 4/4] RUN own" in named(lowered)
    assert "OnBuild" not in lowered.config["config"]
    assert lowered.contexts == {"context"}


def test_onbuild_of_a_stage_runs_in_its_child() -> None:
    lowered = build("FROM a AS one\nONBUILD RUN later\nRUN first\nFROM one\nRUN last\n")
    assert [op.args[-1] for op in execs(lowered)] == ["first", "later", "last"]
    assert texts(build("FROM a\nONBUILD RUN later\n")) == []
    assert build("FROM a\nONBUILD RUN later\n").config["config"]["OnBuild"] == ["RUN later"]


def test_onbuild_may_ask_for_more_images() -> None:  # OB-3
    asked: list[str] = []
    build(
        "FROM base\n",
        images={"base": image(OnBuild=["COPY --from=tools /t /t"])},
        asked=asked,
    )
    assert asked == ["base linux/amd64", "tools linux/amd64"]


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("NONSENSE x", "unknown instruction: NONSENSE"),
        ("COPY --from=me /x /", "circular dependency detected on stage: me"),
    ],
)
def test_bad_inherited_trigger_names_the_from_line(trigger: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build("\nFROM base AS me\n", images={"base": image(OnBuild=[trigger])})
    assert [span.first_line for span in caught.value.spans] == [2]


def test_platform_of_a_stage() -> None:  # E106
    asked: list[str] = []
    text = "FROM --platform=$BUILDPLATFORM x AS b\nRUN b\nFROM x\nCOPY --from=b /o /\nRUN t\n"
    lowered = build(text, asked=asked, target_platform=ARM, multi_platform=True)
    assert asked == ["x linux/amd64", "x linux/arm64"]
    first, second = execs(lowered)
    assert (first.platform, second.platform) == (LINUX_AMD64, ARM)
    other = build(text, target_platform=LINUX_AMD64, multi_platform=True)
    assert find(other, "RUN b").digest == find(lowered, "RUN b").digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("FROM --platform=$NO a", r"empty platform value from expression \$NO"),
        (
            "FROM --platform=$TARGETPLATFROM a",
            r"\$TARGETPLATFROM \(did you mean TARGETPLATFORM\?\)",
        ),
        ("FROM --platform=linux/$TARGETACH a", r"/\$TARGETACH: .*\(did you mean TARGETARCH\?\)"),
        ("FROM --platform=linux/vax a", "failed to parse platform linux/vax"),
        ("FROM Ab", 'failed to parse stage name "Ab": .*must be lowercase'),
    ],
)
def test_from_lines_that_cannot_be(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(f"# c\n{line}\n")
    assert caught.value.spans[0].first_line == 2


def test_an_image_named_like_a_stage_is_perhaps_that_stage() -> None:  # IN-6
    dockerfile = parse_dockerfile(b"FROM scratch AS build\nFROM bulid\nCOPY --from=golang a b\n")
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    need = lower(dockerfile, options, {})
    assert isinstance(need, NeedImages)
    hints = {r.reference.familiar: need.hints(r) for r in need.requests}
    assert hints == {
        "bulid:latest": ("did you mean the stage build?",),
        "golang:latest": (),
    }


def test_from_scratch_is_empty_and_never_asked_for() -> None:  # E107, E108
    asked: list[str] = []
    lowered = build("FROM scratch AS e\nCOPY f /\n", asked=asked)
    assert asked == []
    assert isinstance(lowered.result.inputs[0].op, ScratchSource)
    assert lowered.config["config"] == {"Env": [PATH], "WorkingDir": "/"}
    assert (lowered.config["os"], lowered.config["architecture"]) == ("linux", "amd64")
    assert lowered.base_layer_count == 0
    assert named(lowered)[-1] == "[1/1] COPY f /"


def test_arg_without_a_value_is_unset() -> None:  # E109
    lowered = build("FROM a\nARG X\nRUN echo ${X-unset}\nENV Y=${X-unset}\n")
    assert "X" not in env_of(execs(lowered)[0])
    assert "Y=unset" in lowered.config["config"]["Env"]
    assert texts(lowered)[:2] == ["  ARG X", "+ RUN |1 X= /bin/sh -c echo ${X-unset} # buildkit"]


def test_default_that_is_not_used_is_not_expanded() -> None:  # E110
    text = "FROM a\nARG X=${Y:?no}\nRUN x\n"
    assert env_of(execs(build(text, build_args={"X": "1"}))[0])["X"] == "1"
    with pytest.raises(UserError, match="Y: no") as caught:
        build(text)
    assert caught.value.spans[0].first_line == 2


def test_an_unused_build_arg_is_compared_with_those_that_there_are() -> None:
    lowered = build("FROM a\nARG VERSION\n", build_args={"VERSON": "1", "OTHER": "2"})
    assert [w.message for w in lowered.warnings] == [
        "One or more build-args [OTHER VERSON] were not consumed (did you mean VERSION?)"
    ]


def test_build_arg_is_taken_verbatim() -> None:  # EV-13
    lowered = build("FROM a\nARG X\nRUN x\n", build_args={"X": "$PATH\\n"})
    assert env_of(execs(lowered)[0])["X"] == "$PATH\\n"


def test_unused_build_args_are_warned_about() -> None:  # EV-8
    lowered = build("FROM a\nARG X\n", build_args={"X": "1", "B": "2", "A": "3", "NO_PROXY": "x"})
    assert [w.message for w in lowered.warnings] == [
        "One or more build-args [A B] were not consumed"
    ]


def test_target_by_name_in_any_case() -> None:  # FROM-10
    text = "FROM a AS build\nRUN one\nFROM b\nRUN two\n"
    assert [op.args[-1] for op in execs(build(text, target="BUILD"))] == ["one"]
    with pytest.raises(UserError) as caught:
        build(text, target="bulid")
    assert caught.value.message == ('target stage "bulid" could not be found (did you mean build?)')
    with pytest.raises(UserError, match='target stage "0" could not be found'):
        build(text, target="0")


def test_stage_may_reuse_the_name_of_its_base() -> None:  # FROM-3
    asked: list[str] = []
    build("FROM x AS x\nFROM x\n", asked=asked)
    assert asked == ["x linux/amd64"]


def test_from_compares_as_written() -> None:  # FROM-4
    with pytest.raises(UserError) as caught:
        build("FROM a AS Base\nFROM Base\n")
    assert caught.value.hints == ("stage names are lower case; did you mean base?",)
    assert build("FROM a AS Base\nFROM base\n")


def test_from_binds_to_the_closest_earlier_definition() -> None:  # FROM-5
    lowered = build(
        "FROM x AS a\nRUN one\nFROM a AS b\nRUN two\nFROM y AS a\nRUN three\nFROM b\nRUN four\n"
    )
    assert [op.args[-1] for op in execs(lowered)] == ["one", "two", "four"]


def test_cycle_shows_its_lines() -> None:  # FROM-13
    with pytest.raises(UserError) as caught:
        build(
            "FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\n"
            "RUN --mount=from=one,target=/x y\nFROM c\n"
        )
    assert caught.value.message == "circular dependency detected on stage: one"
    assert [span.first_line for span in caught.value.spans] == [2, 4]


def test_from_with_variable_is_refused() -> None:  # EXP-20
    with pytest.raises(UserError, match="variable expansion is not supported for --from"):
        build("ARG X=a\nFROM a\nCOPY --from=$X /x /\n")


def test_all_images_are_asked_for_at_once() -> None:  # FROM-15: and each only once
    dockerfile = parse_dockerfile(
        b"FROM a AS one\nFROM one AS two\nRUN --mount=from=c,target=/c x\n"
        b"FROM b\nCOPY --from=two / /\nCOPY --from=d / /\nCOPY --from=a / /\n"
    )
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    answer = lower(dockerfile, options, {})
    assert isinstance(answer, NeedImages)
    names = sorted(request.reference.familiar for request in answer.requests)
    assert names == ["a:latest", "b:latest", "c:latest", "d:latest"]


def test_image_without_layers_is_a_config_on_scratch() -> None:  # FROM-16
    lowered = build("FROM a\n", images={"a": image(0, Cmd=["x"])})
    assert isinstance(lowered.result.op, ScratchSource)
    assert lowered.config["config"]["Cmd"] == ["x"]


def test_image_of_another_platform_is_adopted_with_a_warning() -> None:  # FROM-9
    text, images = "FROM a\nRUN x\n", {"a": image(platform=ARM)}
    lowered = build(text, images=images)
    assert execs(lowered)[0].platform == ARM
    assert lowered.platform == ARM
    assert [w.rule for w in lowered.warnings] == ["InvalidBaseImagePlatform"]
    assert lowered.warnings[0].message == (
        'Base image a was pulled with platform "linux/arm64", expected "linux/amd64" for current'
        " build"
    )
    forced = build(text, images=images, platform_explicit=True)
    assert forced.config["architecture"] == "amd64"


@pytest.mark.slow
def test_thousands_of_stages() -> None:
    lines = ["FROM a AS s0"] + [f"FROM s{n} AS s{n + 1}\nENV A{n % 7}=1" for n in range(2000)]
    lowered = build("\n".join(lines))
    assert isinstance(lowered.result.op, ImageSource)


# --- named contexts -------------------------------------------------------------------------------


def test_local_context_replaces_an_image_for_copy() -> None:
    lowered = build(
        "FROM scratch\nCOPY --from=src /x /\n",
        named_contexts={"src": "../there"},
        local_excludes={"src": ("*.md",)},
    )
    assert lowered.result.inputs[1].op == LocalSource(name="src", exclude=("*.md",))
    assert lowered.contexts == {"src"}


def test_context_replaces_a_stage_and_what_only_that_needs() -> None:  # NC-7
    asked: list[str] = []
    lowered = build(
        "FROM golang AS deps\nFROM deps AS build\nRUN make\nFROM scratch\nCOPY --from=build /o /\n",
        named_contexts={"build": "docker-image://made:1"},
        asked=asked,
    )
    assert asked == ["made:1 linux/amd64"]
    assert not execs(lowered)
    assert "[context build] docker.io/library/made:1@sha256:" in named(lowered)[1]


@pytest.mark.parametrize("written", ["alpine", "alpine:latest", "docker.io/library/alpine"])
def test_context_matches_normalised_image_names(written: str) -> None:  # NC-2
    asked: list[str] = []
    contexts = {"alpine": "docker-image://mine"}
    build(f"FROM {written}\n", asked=asked, named_contexts=contexts)
    assert asked == ["mine linux/amd64"]


def test_context_for_one_platform() -> None:
    asked: list[str] = []
    contexts = {"a::linux/arm64": "docker-image://b"}
    for platform in (LINUX_AMD64, ARM):
        build("FROM a\n", asked=asked, named_contexts=contexts, target_platform=platform)
    assert asked == ["a linux/amd64", "b linux/arm64"]


def test_stage_on_a_local_context_gets_a_layer() -> None:  # NC-5
    lowered = build("FROM src\nRUN x\n", named_contexts={"src": "dir"})
    assert [item.vertex is not None for item in lowered.history] == [True, True]
    assert lowered.base_layer_count == 0
    assert files(lowered)[0].actions[0].dest == "/"  # type: ignore[union-attr]


def test_context_chains_end() -> None:  # NC-4
    asked: list[str] = []
    contexts = {"a": "docker-image://b", "b": "docker-image://c:1"}
    build("FROM a\n", asked=asked, named_contexts=contexts)
    build("FROM a\n", asked=asked, named_contexts={"a": "docker-image://a"})
    assert asked == ["c:1 linux/amd64", "a linux/amd64"]
    with pytest.raises(UserError, match="context recursion limit exceeded"):
        build("FROM a\n", named_contexts={"a": "docker-image://b", "b": "docker-image://a"})


def test_contexts_that_cannot_be() -> None:
    for name in ("context", "dockerfile", "Upper", "a b"):
        with pytest.raises(UsageError, match="invalid context name"):
            build("FROM scratch\n", named_contexts={name: "."})
    for value, message in (
        ("foo://x", "unsupported context source foo for src"),
        ("target:x", "unsupported context source target for src"),
        ("ftp://x/y.tar", "unsupported context source ftp for src"),
        ("git@host:repo.git?tag=a&branch=b", "branch conflicts with tag"),
        ("oci-layout://", "no directory"),
    ):
        with pytest.raises(UserError, match=message):
            build("FROM src\n", named_contexts={"src": value})
        build("FROM scratch\n", named_contexts={"src": value})  # lazy [NC-4]


def test_scratch_cannot_be_replaced() -> None:  # FROM-6
    lowered = build("FROM scratch\nCOPY a /\n", named_contexts={"scratch": "docker-image://a"})
    assert isinstance(lowered.result.inputs[0].op, ScratchSource)


# --- the frontend, the epoch, the list ------------------------------------------------------------


@pytest.mark.parametrize("ref", ["docker/dockerfile:1", "docker.io/docker/dockerfile-upstream"])
def test_dockers_own_frontend_is_built_in(ref: str) -> None:  # DIR-6
    assert build(f"# syntax={ref}\nFROM scratch\n")


def test_other_frontends_are_refused() -> None:
    with pytest.raises(UserError, match="frontend x/y:1 cannot be run") as caught:
        build("# syntax=x/y:1\nFROM scratch\n")
    assert caught.value.spans[0].first_line == 1
    with pytest.raises(UserError, match="frontend x/z cannot be run"):
        build("FROM scratch\n", build_args={"BUILDKIT_SYNTAX": "x/z"})
    assert build("# syntax=x/y\nFROM scratch\n", build_args={"BUILDKIT_SYNTAX": "dockerfile.v0"})


def test_frontend_that_a_context_replaces_is_refused() -> None:
    for contexts in ({"docker/dockerfile:1": "docker-image://x"}, {"docker/dockerfile:1": "."}):
        with pytest.raises(UserError, match="frontend docker/dockerfile:1 cannot be run"):
            build("# syntax=docker/dockerfile:1\nFROM scratch\n", named_contexts=contexts)


def test_source_date_epoch() -> None:  # KEY-9
    text = "FROM a\nRUN x\nWORKDIR /w\n"
    plain, dated = build(text), build(text, build_args={"SOURCE_DATE_EPOCH": "7"})
    assert (plain.epoch, dated.epoch) == (None, 7)
    assert execs(plain) == execs(dated)
    assert files(dated)[0].actions[0].mtime == 7  # type: ignore[union-attr]
    assert build("ARG SOURCE_DATE_EPOCH=9\nFROM a\n").epoch == 9
    for word in ("now", "Not a name", "1.5"):
        with pytest.raises(UserError, match=f"invalid SOURCE_DATE_EPOCH: {word}") as caught:
            build(text, build_args={"SOURCE_DATE_EPOCH": word})
        assert caught.value.hints[0].startswith("give seconds since 1970, context, or the name")


def test_network_of_the_build_is_the_default_of_steps() -> None:  # RUN-5
    lowered = build(
        "FROM a\nRUN x\nRUN --network=host y\nRUN --network=default z\n",
        steps=StepSettings(network=NetworkMode.NONE),
    )
    assert [op.settings.network for op in execs(lowered)] == ["none", "host", "none"]


def test_no_cache_marks_steps_of_the_stages_that_were_meant() -> None:  # KEY-11
    text = "FROM a AS one\nWORKDIR /w\nRUN x\nFROM one AS two\nCOPY a b\n"

    def marked(**options: Any) -> list[str]:
        vertices = walk(build(text, **options).result)
        return [v.meta.name for v in vertices if v.meta.ignore_cache]

    assert marked() == []
    assert marked(no_cache=True) == ["[one 3/3] RUN x", "[two 1/1] COPY a b"]
    assert marked(no_cache_filter=frozenset({"two"})) == ["[two 1/1] COPY a b"]


def test_list_of_stages() -> None:  # UI-5
    stages = list_stages(
        parse_dockerfile(b"ARG X\n# build makes it\nFROM --platform=$P a AS build\nFROM $X\n")
    )
    assert [(s.name, s.base, s.platform, s.description, s.default) for s in stages] == [
        ("build", "a", "$P", "makes it", False),
        ("", "$X", "", "", True),
    ]


def test_config_of_hostile_image_is_refused() -> None:
    configs: tuple[dict[str, Any], ...] = (
        {"config": []},
        {"config": {"Env": "x"}},
        {"config": {"Env": [1]}},
        {"config": {"Labels": []}},
        {"history": {}},
        {"history": [1]},
        {"os": 1},
    )
    for config in configs:
        bad = {**image(), **config}
        with pytest.raises(UserError, match="failed to parse image config of a:latest"):
            build("FROM a\n", images={"a": bad})


def test_answers_of_another_request_are_not_taken() -> None:
    dockerfile = parse_dockerfile(b"FROM a\n")
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    first = lower(dockerfile, options, {})
    assert isinstance(first, NeedImages)
    known = {first.requests[0]: resolve(first.requests[0], image())}
    other = LowerOptions(target_platform=ARM, build_platform=LINUX_AMD64)
    assert isinstance(lower(dockerfile, other, known), NeedImages)
