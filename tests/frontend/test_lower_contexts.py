"""Named contexts in the place of images and stages [NC]."""

from __future__ import annotations

import pytest

from pybuild.frontend.lowering.contexts import VertexContext
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import (
    LocalSource,
    ScratchSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64
from tests.frontend.lowering import (
    ARM,
    build,
    execs,
    files,
    named,
)


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


def test_a_tree_that_is_defined_already_is_a_base_or_a_source() -> None:
    made = Vertex(LocalSource(name="made"), meta=VertexMeta(name="made"))
    config = {"config": {"Env": ["A=1"], "WorkingDir": "/w"}}
    for known in (None, config):
        trees = {"src": VertexContext("src", made, known)}
        contexts = {"src": "input:src"}
        copied = build(
            "FROM scratch\nCOPY --from=src /x /\n", named_contexts=contexts, context_trees=trees
        )
        assert copied.result.inputs[1] == made
        lowered = build("FROM src\nRUN x\n", named_contexts=contexts, context_trees=trees)
        (step,) = execs(lowered)
        assert step.cwd == ("/w" if known else "/")
        assert ("A=1" in step.env) is bool(known)
        assert lowered.config["os"] == "linux" and lowered.base_layer_count == -1
